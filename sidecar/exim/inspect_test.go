package exim

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// Ours must be asked before anything lets mail pass; the first accept of an ACL may be
// for mail that nobody pays for, as in Debian's configuration.
func TestAsksFirst(t *testing.T) {
	for name, c := range map[string]struct {
		option, config string
		want           bool
	}{
		"it is ours":       {"ours", "", true},
		"in the ACL":       {"acl_check", "acl_check:\n  deny spam\n  acl = ours\n", true},
		"after one accept": {"acl_check", "acl_check:\n  accept hosts = :\n  acl = ours\n", true},
		"after two":        {"acl_check", "acl_check:\n  accept hosts = :\n  accept authenticated = *\n  acl = ours\n", false},
		"in another ACL":   {"acl_check", "acl_other:\n  acl = ours\nacl_check:\n  accept\nacl_more:\n  acl = ours\n", false},
		"nowhere":          {"acl_check", "acl_check:\n  accept\n", false},
	} {
		e := Exim{Binary: fakeExim(t, "echo 'acl_smtp_rcpt = "+c.option+"'\n")}
		if acl, asks := e.AsksFirst(t.Context(), c.config, "acl_smtp_rcpt", "ours"); acl != c.option || asks != c.want {
			t.Errorf("%s: %q asks first is %v", name, acl, asks)
		}
	}
}

func TestWhatEximLogs(t *testing.T) {
	for _, c := range []struct {
		option, printed, log string
		arguments            bool
	}{
		{option: "log_file_path", printed: "syslog : /var/log/exim/%slog-%D", log: "/var/log/exim/mainlog-%D"},
		{option: "log_file_path", printed: "syslog"},
		{option: "log_selector", printed: "+all -arguments"},
		{option: "log_selector", printed: "+subject +arguments", arguments: true},
		{option: "log_selector", printed: "+all -subject", arguments: true},
	} {
		e := Exim{Binary: fakeExim(t, `[ "$2" = `+c.option+` ] && echo '`+c.option+" = "+c.printed+"'\n")}
		if log, arguments := e.MainLog(t.Context()), e.LogsArguments(t.Context()); log != c.log || arguments != c.arguments {
			t.Errorf("%s = %s: main log %q, arguments %v", c.option, c.printed, log, arguments)
		}
	}
}

func TestSMTPTransports(t *testing.T) {
	e := Exim{Binary: fakeExim(t, "printf 'remote_smtp transport:\\n driver = smtp\\nmail_spool transport:\\ndriver = appendfile\\nsmart transport:\\ndriver = smtp\\n'\n")}
	got, err := e.SMTPTransports(t.Context())
	if diff := cmp.Diff([]string{"remote_smtp", "smart"}, got); diff != "" || err != nil {
		t.Errorf("%v, -want +got:\n%s", err, diff)
	}
}
