package exim

import (
	"context"
	"regexp"
	"strings"
)

// AsksFirst reports whether an option (acl_smtp_rcpt) of Exim's configuration names the
// ACL ours, or an ACL that asks ours before anything in it could let mail pass. config
// is what -bP config prints. acl is what the option names.
func (e Exim) AsksFirst(ctx context.Context, config, option, ours string) (acl string, asks bool) {
	acl = e.Option(ctx, option)
	return acl, acl == ours || beginsWith(config, acl, ours)
}

func beginsWith(config, acl, ours string) bool {
	inside, accepts := false, 0
	for line := range strings.Lines(config) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0:
		case words[0] == acl+":":
			inside = true
		case !inside:
		case len(words) > 2 && words[0] == "acl" && words[2] == ours:
			return true
		case strings.HasSuffix(words[0], ":"):
			return false
		case words[0] == "accept":
			if accepts++; accepts > 1 {
				return false
			}
		}
	}
	return false
}

// SMTPTransports are the names of the transports that speak SMTP.
func (e Exim) SMTPTransports(ctx context.Context) (names []string, err error) {
	all, err := e.drivers(ctx, "transport")
	for _, d := range all {
		if d.options["driver"] == "smtp" {
			names = append(names, d.name)
		}
	}
	return names, err
}

// OwnAuthenticators are the names of the authenticators by which clients log in and that do not
// ask Dovecot.
func (e Exim) OwnAuthenticators(ctx context.Context) (names []string, err error) {
	all, err := e.drivers(ctx, "authenticator")
	for _, d := range all {
		if d.options["driver"] != "dovecot" && d.servesClients() {
			names = append(names, d.name)
		}
	}
	return names, err
}

// A driver is a transport, router or authenticator, as Exim's documentation calls them.
type driver struct {
	name    string
	options map[string]string
}

// servesClients reports whether an authenticator has something to find out with whether a client
// may log in. Without it Exim uses it as a client only.
func (d driver) servesClients() bool {
	for name, value := range d.options {
		if value != "" && strings.HasPrefix(name, "server_") && name != "server_advertise_condition" && name != "server_set_id" && name != "server_debug_print" {
			return true
		}
	}
	return false
}

var driverHead = regexp.MustCompile(`^(\S+) (?:transport|authenticator):$`)

// drivers are all drivers of a kind.
func (e Exim) drivers(ctx context.Context, kind string) (all []driver, err error) {
	text, err := e.Run(ctx, "", "-bP", kind+"s")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if m := driverHead.FindStringSubmatch(line); m != nil {
			all = append(all, driver{m[1], map[string]string{}})
		}
		if name, value, ok := strings.Cut(line, " ="); ok && len(all) > 0 {
			all[len(all)-1].options[name] = strings.TrimSpace(value)
		}
	}
	return all, err
}

// MainLog is the file that Exim writes its main log to, in the form of exim.mainlog: %D
// and %M in it stand for the date. It is empty if Exim logs to no file, or to its
// built-in one.
func (e Exim) MainLog(ctx context.Context) string {
	for p := range strings.SplitSeq(e.Option(ctx, "log_file_path"), ":") {
		if p = strings.TrimSpace(p); strings.HasPrefix(p, "/") {
			return strings.Replace(p, "%s", "main", 1)
		}
	}
	return ""
}

// LogsArguments reports whether log_selector has +arguments.
func (e Exim) LogsArguments(ctx context.Context) (on bool) {
	for item := range strings.FieldsSeq(e.Option(ctx, "log_selector")) {
		if name := item[1:]; name == "arguments" || name == "all" {
			on = item[0] == '+'
		}
	}
	return on
}
