package mtatest

import (
	"errors"
	"fmt"
	"os"
	"testing"

	"sluice/sidecar/hosttest"
)

// A Sendmail is Debian's Sendmail, with a small sendmail.mc and submit.mc of its own. Mail
// that is not for here.example goes to Sink.
type Sendmail struct {
	*root
	Port int
	Sink *hosttest.Sink
}

// sendmailMC ignores the load of the machine: on a busy one Sendmail would refuse
// connections and only queue mail.
const sendmailMC = `divert(-1)dnl
divert(0)dnl
define(` + "`_USE_ETC_MAIL_'" + `)dnl
include(` + "`/usr/share/sendmail/cf/m4/cf.m4'" + `)dnl
OSTYPE(` + "`debian'" + `)dnl
define(` + "`confDOMAIN_NAME', `sm.example'" + `)dnl
define(` + "`confTO_IDENT', `0'" + `)dnl
define(` + "`confREFUSE_LA', `1000'" + `)dnl
define(` + "`confQUEUE_LA', `1000'" + `)dnl
define(` + "`SMART_HOST', `relay:[127.0.0.1]'" + `)dnl
define(` + "`RELAY_MAILER_ARGS', `TCP $h %[2]d'" + `)dnl
FEATURE(` + "`no_default_msa'" + `)dnl
FEATURE(` + "`nocanonify'" + `)dnl
FEATURE(` + "`promiscuous_relay'" + `)dnl
FEATURE(` + "`accept_unresolvable_domains'" + `)dnl
TRUST_AUTH_MECH(` + "`PLAIN LOGIN'" + `)dnl
define(` + "`confAUTH_MECHANISMS', `PLAIN LOGIN'" + `)dnl
DAEMON_OPTIONS(` + "`Family=inet, Name=MTA, Port=%[1]d, Addr=127.0.0.1'" + `)dnl
LOCAL_DOMAIN(` + "`here.example'" + `)dnl
%[3]sMAILER(` + "`local'" + `)dnl
MAILER(` + "`smtp'" + `)dnl
`

// submitMC configures how the command sendmail passes mail to the daemon, by SMTP.
const submitMC = `divert(-1)dnl
divert(0)dnl
define(` + "`_USE_ETC_MAIL_'" + `)dnl
include(` + "`/usr/share/sendmail/cf/m4/cf.m4'" + `)dnl
OSTYPE(` + "`debian'" + `)dnl
define(` + "`confDOMAIN_NAME', `sm.example'" + `)dnl
define(` + "`confQUEUE_LA', `1000'" + `)dnl
define(` + "`RELAY_MAILER_ARGS', `TCP $h %d'" + `)dnl
FEATURE(` + "`msp', `[127.0.0.1]'" + `)dnl
`

const sendmailPasswd = `root:x:0:0:root:/root:/bin/sh
mail:x:8:8:mail:/var/mail:/usr/sbin/nologin
smmta:x:113:113::/:/usr/sbin/nologin
smmsp:x:114:114::/:/usr/sbin/nologin
alice:x:2001:2001::/tmp:/bin/sh
`

// NewSendmail makes a Sendmail with lines added to its sendmail.mc.
func NewSendmail(t testing.TB, lines string) *Sendmail {
	t.Helper()
	s := &Sendmail{root: makeRoot(t, "sendmail"), Port: hosttest.FreePort(t), Sink: hosttest.NewSink(t)}
	s.Write(t, "/etc/passwd", sendmailPasswd)
	s.Write(t, "/etc/group", "root:x:0:\nmail:x:8:\nsmmta:x:113:\nsmmsp:x:114:\nalice:x:2001:\n")
	s.Write(t, "/etc/sasl2/Sendmail.conf", saslConfig)
	s.Write(t, "/etc/mail/submit.mc", fmt.Sprintf(submitMC, s.Port))
	s.Write(t, "/etc/services", "smtp 25/tcp mail\n")
	s.Write(t, "/etc/mail/sendmail.mc", fmt.Sprintf(sendmailMC, s.Port, s.Sink.Port, lines))
	s.Write(t, "/etc/mail/local-host-names", "here.example\n")
	s.Write(t, "/etc/mail/service.switch", "hosts files\naliases files\n")
	for _, dir := range []string{"/var/spool/mqueue", "/var/spool/clientmqueue", "/var/log", "/var/mail", "/var/lib/sendmail/host_status"} {
		if err := errors.Join(os.MkdirAll(s.Path(dir), 0o755), os.Chmod(s.Path(dir), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	client := s.Path("/var/spool/clientmqueue")
	if err := errors.Join(os.Chown(client, 114, 114), os.Chmod(client, 0o770)); err != nil {
		t.Fatal(err)
	}
	return s
}

// Start starts Sendmail and waits until it listens.
func (s *Sendmail) Start(t testing.TB) {
	t.Helper()
	s.start(t, "sh", "-c", `cd /etc/mail && m4 sendmail.mc >sendmail.cf && m4 submit.mc >submit.cf && exec /usr/libexec/sendmail/sendmail -bD -q1s -O PidFile=/run/sendmail.pid`)
	t.Cleanup(func() {
		if t.Failed() {
			queue, _ := s.Try(t, "", "sh", "-c", "ls -la /var/spool/*mqueue; grep -h ^[MSR] /var/spool/*mqueue/qf*")
			t.Logf("Sendmail said:\n%s\n%s", s.Read("/out"), queue)
		}
	})
	listens(t, "Sendmail", s.Port)
}

// Dial connects an SMTP client.
func (s *Sendmail) Dial(t testing.TB) *hosttest.Client {
	t.Helper()
	return hosttest.Dial(t, fmt.Sprintf("127.0.0.1:%d", s.Port))
}

// Login lets a user log in with the password "secret". Sendmail must be running.
func (s *Sendmail) Login(t testing.TB, user, domain string) {
	t.Helper()
	s.Run(t, "secret", "saslpasswd2", "-p", "-c", "-u", domain, user)
}

// Sendmail submits a message as alice does.
func (s *Sendmail) Sendmail(t testing.TB, message string, args ...string) (string, int) {
	t.Helper()
	return s.TryAs(t, "2001:2001", message, append([]string{"/usr/libexec/sendmail/sendmail", "-i"}, args...)...)
}
