package eximconfig_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// The ways to ask and the layouts, with the real sidecar:
//
//	SMTP, sendmail, alias, list ─→ Exim of a layout ─ Perl, TCP, process ─→ sluice

var ways = []string{"perl", "tcp", "run"}

// wayMacros are what a host's Exim has to be told of a way, beside the defaults.
func (h *host) wayMacros(t testing.TB) string {
	t.Helper()
	switch h.way {
	case "tcp":
		h.tcpPort = hosttest.FreeRootPort(t)
		return fmt.Sprintf("SLUICE_TCP = 127.0.0.1:%d\n", h.tcpPort)
	case "run":
		program, err := buildSluice()
		if err != nil {
			t.Fatal(err)
		}
		return "SLUICE_PROGRAM = " + program + "\n"
	}
	return ""
}

// Each layout and each way; all of them with each other in `make soak`. The panels
// with Perl are in TestPanelHostsChargeTheOwner, Debian with Perl is everywhere.
var cells = []string{"unsplit-perl", "single-perl", "cpanel-tcp", "directadmin-run", "debian-run"}

func TestWaysAndLayouts(t *testing.T) {
	t.Parallel()
	for layout := range layouts {
		for _, way := range ways {
			name := layout + "-" + way
			if !slices.Contains(cells, name) && !hosttest.Soak() {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				essentials(t, newHostOf(t, layout, way))
			})
		}
	}
}

// essentials is what Sluice is for.
func essentials(t *testing.T, h *host) {
	p := h.startSluice(t, "[limits]\nhourly = 3\ndefer_cutoff = 10000")
	h.startExim(t)
	h.limitedBySMTP(t)
	h.limitedScripts(t)
	h.limitedForwards(t)
	p.stop(t, "TERM")
	h.lockFilesSpeak(t)
	sameBodies(t, "at the sink", bodies, delivered(h.sink))
	if log := h.read("/var/log/exim4/paniclog"); log != "" {
		t.Errorf("panic log:\n%s", log)
	}
}

// numberedBody is a message whose body is compared at the sink.
func numberedBody(n int) string { return fmt.Sprintf("X-Number: %d\n%s", n, hosttest.Letter("x")) }

// bodies are what delivered should find.
var bodies = func() map[string]string {
	sums := map[string]string{}
	for n := range 5 {
		sums[fmt.Sprint(n)] = hosttest.BodySum([]byte(numberedBody(n)))
	}
	return sums
}()

func (h *host) limitedBySMTP(t *testing.T) {
	t.Helper()
	c := h.dial(t).Login("news@shop.example")
	c.Want(c.Send("news@shop.example", numberedBody(0), "r1@far.example", "r2@far.example"), 250)
	c.Mail("news@shop.example")
	c.Want(c.Rcpt("r3@far.example"), 250)
	wantRefused(t, c.Rcpt("r4@far.example"), 450, hourlyText("shop.example", 4, 3, laterText))
	c.Want(c.Rcpt("bob@here.example"), 250)
	c.Want(c.Data(numberedBody(1)), 250)
	c.Want(c.Send("news@shop.example", hosttest.Letter("forbidden by the site"), "bob@here.example"), 550, "the site does not like this")
	hosttest.Eventually(t, "three are delivered", func() bool { return h.sink.Count() == 3 && h.mailbox(bob) != "" })
}

// limitedScripts has a script send one too many: it is held, and released.
func (h *host) limitedScripts(t *testing.T) {
	t.Helper()
	for _, to := range []string{"s1@far.example", "s2@far.example", "s3@far.example", "held@far.example"} {
		if out, code := h.sendmail(t, alice, "www", numberedBody(2), "-oi", "-f", "a@site.example", to); code != 0 {
			t.Fatalf("sendmail: exit %d\n%s", code, out)
		}
	}
	held := hourlyText("site.example", 4, 3, laterText)
	hosttest.Eventually(t, "three are delivered and one is held", func() bool { return h.sink.Count() == 6 && h.heldLines(held) == 1 })
	h.run(t, h.sluice(t, "unlock", "site.example")...)
	hosttest.Eventually(t, "it is released", func() bool { return h.sink.Count() == 7 && len(h.queue()) == 0 })
	if got := h.status(t, "site.example"); got.Sent != 1 {
		t.Errorf("after the release site.example has %d, want 1", got.Sent)
	}
}

// limitedForwards has an alias and a list send what comes from elsewhere, and,
// where there is one, list software.
func (h *host) limitedForwards(t *testing.T) {
	t.Helper()
	c := h.dialFrom(t, "192.0.2.9")
	c.Want(c.Send("who@else.example", numberedBody(3), "forward@here.example"), 250)
	hosttest.Eventually(t, "the forward is delivered", func() bool { return h.sink.Count() == 8 })
	listed := int64(0)
	if h.read("/etc/exim4/listserv") != "" {
		c.Want(c.Send("who@else.example", numberedBody(3), "listserv@here.example"), 250)
		hosttest.Eventually(t, "list software has sent", func() bool { return h.sink.Count() == 10 })
		listed = 2
	}
	reset := func() {
		t.Helper()
		if err := h.reset(t, "forward:here.example"); err != nil {
			t.Fatal(err)
		}
	}
	if forwards, own := h.forwards(t, "here.example").Windows[0].Sent, h.status(t, "here.example").Sent; forwards != 1 || own != listed {
		t.Errorf("here.example was charged %d and its forwards %d, want %d and 1", own, forwards, listed)
	}
	reset()
	c.Want(c.Send("who@else.example", numberedBody(3), "forward@here.example"), 250)
	c.Want(c.Send("who@else.example", numberedBody(3), "list@here.example"), 250)
	hosttest.Eventually(t, "one of four is held", func() bool {
		return h.heldLines(forwardText("here.example", 4, 3)) == 1
	})
	reset()
	hosttest.Eventually(t, "it is released", func() bool { return len(h.queue()) == 0 })
}

// lockFilesSpeak is called when the sidecar is down.
func (h *host) lockFilesSpeak(t *testing.T) {
	t.Helper()
	h.lock(t, "max_hourly_locked.example")
	c := h.dial(t).Login("a@locked.example")
	c.Mail("a@locked.example")
	c.Want(c.Rcpt("x@far.example"), 450, "4.7.1 Domain locked.example is locked.  Message will be reattempted later")
	for _, id := range []string{"a+locked.example", "a%Locked.example", "a:locked.example.", "a@locked.example.."} {
		c := h.dial(t).Login(id) // other forms of the login, and a sender that is not locked
		c.Mail("a@open.example")
		c.Want(c.Rcpt("x@far.example"), 450, "4.7.1 Domain locked.example is locked.  Message will be reattempted later")
	}
	c = h.dial(t).Login("a@open.example")
	before := h.sink.Count()
	c.Want(c.Send("a@open.example", numberedBody(4), numbered("r%d@far.example", 1, 5)...), 250)
	hosttest.NotLonger(t, "a command, with nobody there,", c.Slowest, deadline+slack)
	if out, code := h.sendmail(t, alice, "www", numberedBody(4), "-oi", "-f", "a@locked.example", "late@far.example"); code != 0 {
		t.Fatalf("sendmail: exit %d\n%s", code, out)
	}
	hosttest.Eventually(t, "what is not locked is delivered, the rest held", func() bool {
		return h.sink.Count() == before+5 && h.heldLines("Domain locked.example is locked.") == 1
	})
	if slices.Contains(h.sink.Recipients(), "late@far.example") {
		t.Error("a locked domain's mail was delivered")
	}
}

// deadlines are what Exim waits for one answer.
var deadlines = map[string]time.Duration{"perl": deadline, "tcp": time.Second, "run": deadline}

// A server that does not answer is asked once, not once per recipient: by a client's
// connection, and by a delivery. The real sidecar, stopped, is in TestMailFirst.
func TestSilentServerCostsOneDeadline(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, "debian", way)
			h.asShipped(t)
			h.startExim(t)
			over := make(chan struct{})
			r := h.serve(t, func(net.Conn) { <-over }) // over TCP Exim closes its half, so that nothing can be read
			t.Cleanup(func() { close(over) })
			c := h.dial(t).Login("a@here.example")
			start := time.Now()
			c.Want(c.Send("a@here.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 10)...), 250)
			wantQuestions(t, r, 1, start)
			took := time.Since(start)
			if took < deadlines[way] {
				t.Errorf("waited %v for an answer, want %v", took, deadlines[way])
			}
			hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 10 })
			wantQuestions(t, r, 2, start)
			hosttest.NotLonger(t, "its slowest command", c.Slowest, deadlines[way]+2*slack)
			hosttest.NotLonger(t, "a message", took, deadlines[way]+time.Second)
			hosttest.NotLonger(t, "a message and its delivery", time.Since(start), 2*deadlines[way]+3*time.Second)
		})
	}
}

// wantQuestions are one, or one more, for each pause after a timeout, which is of 4 to
// 5 seconds: a slow machine asks more often in a message. Each takes a connection.
func wantQuestions(t *testing.T, r *responder, askers int, start time.Time) {
	t.Helper()
	hosttest.Eventually(t, "somebody asks", func() bool { return r.connections() > 0 })
	got := r.connections()
	if most := askers * (1 + int(time.Since(start)/(4*time.Second))); got > most {
		t.Errorf("%d questions, want %d at most", got, most)
	}
}

// Only Exim and root read the token, and nothing that a user may ask Exim tells it.
func TestTokenIsKept(t *testing.T) {
	t.Parallel()
	h := newHostOf(t, "debian", "tcp")
	token := strings.TrimSpace(h.read("/etc/sluice/token"))
	if len(token) < 32 {
		t.Fatalf("the token is %q", token)
	}
	info, err := os.Stat(h.path("/etc/sluice/token"))
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("its file: %v, %v", info.Mode(), err)
	}
	for _, args := range [][]string{
		{"cat", "/etc/sluice/token"},
		{"exim4", "-be", "${readfile{/etc/sluice/token}}"},
		{"exim4", "-be", "${lookup{" + token[:4] + "}wildlsearch{/etc/sluice/token}{$value}{none}}"},
		{"exim4", "-be", "${acl{acl_sluice_ask}{rcpt}}"},
		{"exim4", "-bP", "config"},
		{"exim4", "-bP", "macros"},
		{"exim4", "-d", "-be", "${acl{acl_sluice_ask}{rcpt}}"},
		{"exim4", "-bh", "192.0.2.1"},
	} {
		if out, _ := h.as(t, alice, "").try(t, "", args...); strings.Contains(out, token) {
			t.Errorf("%v tells the token:\n%s", args, out)
		}
	}
	// Without it there is no answer, and Exim goes on. The log is not read: what it
	// told would be charged, and the lock file answer in Sluice's place.
	h.startSluice(t, "mainlog = \"\"\n[limits]\nhourly = 1")
	h.write(t, "/etc/sluice/token", "another one that is wrong\n")
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 3)...), 250)
	os.Remove(filepath.Join(h.dir, "etc/sluice/token"))
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), numbered("r%d@far.example", 4, 6)...), 250)
	hosttest.Eventually(t, "all is delivered", func() bool { return h.sink.Count() == 6 })
}
