package mtatest

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// A Postfix is Debian's Postfix, with its main.cf and its master.cf, in which smtpd is
// chrooted.
//
//	p := NewPostfix(t, mainCF) // configured, nothing runs yet
//	p.Start(t)
//	c := p.Dial(t)             // an SMTP client
//	p.Sendmail(t, ...)         // a local submission
//
// Mail for here.example is local; what main.cf does not route elsewhere goes to Sink.
type Postfix struct {
	*root
	Port int
	Sink *hosttest.Sink
}

// postfixPasswd gives Postfix the user id of the machine's Postfix, or else of its Exim,
// because Sluice admits these. The id of the group postdrop is that in .ci/root's Postfix.
const postfixPasswd = `root:x:0:0:root:/root:/bin/sh
postfix:x:%[1]s:111::/var/spool/postfix:/usr/sbin/nologin
alice:x:2001:2001::/tmp:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin
`

const postfixGroup = `root:x:0:
mail:x:8:
sasl:x:45:
postfix:x:111:
postdrop:x:112:
alice:x:2001:
nogroup:x:65534:
`

// mainCF is added to Debian's main.cf.
const mainCF = `
myhostname = pf.example
mydestination = here.example, localhost
mynetworks = 127.0.0.0/8
local_recipient_maps =
inet_protocols = ipv4
maillog_file = /var/log/mail.log
alias_maps = inline:{ {forward=forwarded@far.example} }
alias_database =
relayhost = [127.0.0.1]:%d
smtp_tls_security_level = none
smtpd_sasl_auth_enable = yes
smtpd_sasl_security_options = noanonymous
smtpd_sasl_local_domain =
smtpd_client_connection_rate_limit = 0
smtpd_soft_error_limit = 1000
smtpd_hard_error_limit = 1000
smtpd_client_port_logging = no
`

const saslConfig = "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nmech_list: PLAIN LOGIN\n"

// chrooted are the files that Debian copies into the chroot.
var chrooted = []string{"hosts", "nsswitch.conf", "resolv.conf", "services"}

// NewPostfix makes a Postfix with settings added to its main.cf.
func NewPostfix(t testing.TB, settings string) *Postfix {
	t.Helper()
	p := &Postfix{root: makeRoot(t, "postfix"), Port: hosttest.FreePort(t), Sink: hosttest.NewSink(t)}
	p.Write(t, "/etc/passwd", fmt.Sprintf(postfixPasswd, mailUID(t)))
	p.Write(t, "/etc/group", postfixGroup)
	services, err := os.ReadFile("/etc/services")
	if err != nil {
		services = []byte("smtp 25/tcp mail\nsmtp 25/udp\n")
	}
	p.Write(t, "/etc/services", string(services))
	for _, name := range chrooted {
		p.Write(t, "/var/spool/postfix/etc/"+name, p.Read("/etc/"+name))
	}
	share := filepath.Join(Roots, "postfix/usr/share/postfix")
	p.Write(t, "/etc/postfix/main.cf", readFile(t, share, "main.cf.debian")+fmt.Sprintf(mainCF, p.Sink.Port)+settings)
	p.Write(t, "/etc/postfix/dynamicmaps.cf", readFile(t, share, "dynamicmaps.cf"))
	master := readFile(t, share, "master.cf.dist")
	p.Write(t, "/etc/postfix/master.cf", strings.Replace(master, "\nsmtp      inet", fmt.Sprintf("\n127.0.0.1:%d inet", p.Port), 1))
	p.Write(t, "/etc/postfix/sasl/smtpd.conf", saslConfig)
	if err := errors.Join(os.MkdirAll(p.Path("/var/log"), 0o755), os.MkdirAll(p.Path("/var/mail"), 0o755), os.Chmod(p.Path("/var/mail"), 0o1777)); err != nil {
		t.Fatal(err)
	}
	return p
}

// AddPort adds another smtpd to master.cf, with settings that main.cf does not have, and
// returns its port. It must be called before Start.
func (p *Postfix) AddPort(t testing.TB, settings string) int {
	t.Helper()
	port := hosttest.FreePort(t)
	service := fmt.Sprintf("127.0.0.1:%d inet n - y - - smtpd\n", port)
	for setting := range strings.Lines(strings.ReplaceAll(settings, "\n ", " ")) {
		service += fmt.Sprintf("  -o { %s }\n", strings.TrimSpace(setting))
	}
	p.Write(t, "/etc/postfix/master.cf", p.Read("/etc/postfix/master.cf")+service)
	return port
}

func mailUID(t testing.TB) string {
	t.Helper()
	for _, name := range []string{"postfix", "Debian-exim"} {
		if u, err := user.Lookup(name); err == nil {
			return u.Uid
		}
	}
	t.Fatal("this machine has neither Postfix's user nor Exim's")
	return ""
}

func readFile(t testing.TB, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// Start starts Postfix and waits until it listens.
func (p *Postfix) Start(t testing.TB) {
	t.Helper()
	p.start(t, "sh", "-c", `chown -R postfix /var/lib/postfix; exec postfix start-fg`)
	t.Cleanup(func() {
		if t.Failed() {
			log := p.Log()
			t.Logf("Postfix logged:\n%s\n%s", log[max(0, len(log)-8000):], p.Read("/out"))
		}
	})
	listens(t, "Postfix", p.Port)
}

// Login lets a user log in with the password "secret". Postfix must be running.
func (p *Postfix) Login(t testing.TB, user, domain string) {
	t.Helper()
	const db = "/var/spool/postfix/etc/sasldb2" // smtpd is chrooted
	p.Run(t, "secret", "saslpasswd2", "-p", "-c", "-f", db, "-u", domain, user)
	p.Run(t, "", "cp", "-p", db, "/etc/sasldb2")
	p.Run(t, "", "chmod", "644", db, "/etc/sasldb2")
}

// Address is where Postfix listens.
func (p *Postfix) Address() string { return fmt.Sprintf("127.0.0.1:%d", p.Port) }

// Dial connects an SMTP client.
func (p *Postfix) Dial(t testing.TB) *hosttest.Client {
	t.Helper()
	return hosttest.Dial(t, p.Address())
}

// Sendmail submits a message as alice does.
func (p *Postfix) Sendmail(t testing.TB, message string, args ...string) (string, int) {
	t.Helper()
	return p.TryAs(t, "2001:2001", message, append([]string{"sendmail"}, args...)...)
}

// Flush has Postfix try to deliver all that is queued, now.
func (p *Postfix) Flush(t testing.TB) {
	t.Helper()
	p.Run(t, "", "postqueue", "-f")
}

// Log is what Postfix has logged.
func (p *Postfix) Log() string { return p.Read("/var/log/mail.log") }
