package eximconfig_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// Logins that Dovecot denies, by SMTP and IMAP:
//
//	thief ─ AUTH ─→ Exim ─→ Dovecot ─ passdb deny ─→ /etc/sluice/denied-logins ←─ sluice login
//	      ─ LOGIN ────────→ Dovecot                                            ←─ sluice undo

// A changedLogin is what sluice login prints.
type changedLogin struct {
	State   string
	Changed bool
	Action  int
	Undo    string
	Left    string
}

// login runs sluice login VERB for a login.
func (h *host) login(t testing.TB, verb, user string) (c changedLogin) {
	t.Helper()
	out := h.run(t, h.sluice(t, "login", verb, "--json", "--", user)...)
	if err := json.Unmarshal([]byte(out), &c); err != nil {
		t.Fatalf("login %s %s: %v\n%s", verb, user, err, out)
	}
	return c
}

// undo takes an action back.
func (h *host) undo(t testing.TB, number int) {
	t.Helper()
	h.run(t, h.sluice(t, "undo", fmt.Sprintf("%s:%d", node, number))...)
}

const deniedLogins = "/etc/sluice/denied-logins"

func TestASuspendedLogin(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(t, "/run/sluice.toml", "alert.to = []\n"+fmt.Sprintf(sluiceConfig, ""))
	odd := []string{"a+b@here.example", `o'n"eil@here.example`, "sp ace@here.example", "-x@here.example", "b\u00fccher@here.example", "$(reboot)@here.example"}
	d := h.startDovecot(t, append(odd, "hacked@here.example", "office@here.example", "unpaid@here.example")...)
	h.startExim(t)
	if out, code := h.try(t, h.sluice(t, "login", "suspend", "hacked@here.example")...); code != 2 || !strings.Contains(out, "sluice doctor shows the lines") {
		t.Errorf("without the lines: exit %d, %s", code, out)
	}
	d.denies(t)
	const before = "# by hand\nunpaid@here.example\n"
	h.run(t, "sh", "-c", "printf '"+strings.ReplaceAll(before, "\n", `\n`)+"' >"+deniedLogins)
	hosttest.Eventually(t, "Dovecot denies who is in the file", func() bool { return d.auth(t, "unpaid@here.example").Code == 535 })
	d.want(t, "hacked@here.example", true)
	reading, _ := d.imap(t, "hacked@here.example")
	sending := h.dial(t).Login("hacked@here.example")

	start := time.Now()
	done := h.login(t, "suspend", "hacked@here.example")
	if r := d.auth(t, "hacked@here.example"); r.Code != 535 { // at once: no Eventually
		t.Errorf("by SMTP: %v", r)
	}
	// Dovecot looks at its file once in each second of the clock: that is the most of it, and 0.2 s
	// are for the programs.
	hosttest.NotLonger(t, "from sluice login suspend to 535", time.Since(start), 1300*time.Millisecond)
	d.want(t, "hacked@here.example", false)
	if !done.Changed || done.Action == 0 || done.Left != "" {
		t.Errorf("suspended: %+v", done)
	}
	reading.ended(t)
	sending.Want(sending.Cmd("NOOP"), 250) // a stop is what refuses its mail
	d.want(t, "office@here.example", true)
	d.want(t, "Hacked@HERE.example", false)
	if again := h.login(t, "suspend", "hacked@here.example"); again.Changed || again.Action != 0 {
		t.Errorf("suspended again: %+v", again)
	}
	if unpaid := h.login(t, "suspend", "unpaid@here.example"); unpaid.Changed || unpaid.Action != 0 {
		t.Errorf("what was suspended before: %+v", unpaid)
	}

	h.undo(t, done.Action)
	d.want(t, "hacked@here.example", true)
	d.want(t, "unpaid@here.example", false)
	if got := h.read(deniedLogins); got != before {
		t.Errorf("after undo there is %q, before there was %q", got, before)
	}
	t.Run("undo of what somebody else has changed", func(t *testing.T) { d.changedSince(t) })
	t.Run("names", func(t *testing.T) { d.oddNames(t, odd) })
	if found, _ := h.doctor(t); strings.Contains(fmt.Sprint(found), "{logins ") || strings.Contains(fmt.Sprint(found), "{authenticators ") {
		t.Errorf("doctor finds %+v", found)
	}
}

// changedSince has an operator resume a login by hand.
func (d dovecot) changedSince(t *testing.T) {
	done := d.login(t, "suspend", "hacked@here.example")
	d.run(t, "sed", "-i", "/^hacked@/d", deniedLogins)
	hosttest.Eventually(t, "Dovecot has noticed", func() bool { return d.auth(t, "hacked@here.example").Code == 235 })
	out, code := d.try(t, d.sluice(t, "undo", fmt.Sprintf("%s:%d", node, done.Action))...)
	if code == 0 || !strings.Contains(out, "changed since: the login hacked@here.example is active, and was left suspended") {
		t.Errorf("undo: exit %d, %s", code, out)
	}
}

// oddNames suspends and resumes logins with odd names, at the same time.
func (d dovecot) oddNames(t *testing.T, names []string) {
	before := d.denied()
	t.Run("all", func(t *testing.T) {
		for _, name := range names {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				done := d.login(t, "suspend", name)
				d.want(t, name, false)
				d.want(t, "office@here.example", true)
				d.undo(t, done.Action)
				d.want(t, name, true)
			})
		}
	})
	for name, text := range map[string]string{"two\nlines@here.example": "is no login", "*@here.example": "no such login", "#x": "is no login", "nobody@here.example": "no such login"} {
		if out, code := d.try(t, d.sluice(t, "login", "suspend", name)...); code == 0 || !strings.Contains(out, text) {
			t.Errorf("%q: exit %d, %s", name, code, out)
		}
	}
	if got := d.denied(); got != before {
		t.Errorf("after undo there is %q, before there was %q", got, before)
	}
}

// denied is the file of denied logins.
func (d dovecot) denied() string { return d.host.read(deniedLogins) }
