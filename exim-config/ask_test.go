package eximconfig_test

import (
	"fmt"
	"os/user"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

// What Exim asks, and what it makes of the replies. A responder stands in for
// Sluice:
//
//	client ─→ Exim ─ RCPT, DATA ─→ responder
//	             └─ each delivery ─→ responder ─→ sink

func TestWhatIsAsked(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, pass("100"))
	h.startExim(t)

	id := h.dial(t).Login("Alice@Here.example").
		Send("alice@here.example", hosttest.Letter("x"), "BoB@Far.example", "bob@here.example").QueuedID()
	smtp := question{
		"request": "sluice", "version": "2", "encoding": "base64", "sender": "alice@here.example",
		"auth": "Alice@Here.example", "client_address": "127.0.0.1",
		"server_address": "127.0.0.1", "server_port": fmt.Sprint(h.port), "originator": eximUID(t),
	}
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 && len(h.queue()) == 0 })
	wantAsked(t, r, "rcpt", with(smtp, "stage", "rcpt", "recipient", "bob@far.example"))
	wantAsked(t, r, "data", with(smtp, "stage", "data", "id", id, "script", "", "subject", "x", "sent", "1",
		"recipients", "BoB@Far.example, bob@here.example"))
	wantAsked(t, r, "route", with(smtp, "stage", "route", "id", id, "script", "", "sent", "1",
		"recipient", "bob@far.example", "charged", "yes"))
}

func TestWhatIsAskedForSendmail(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, pass("100"))

	message := "X-PHP-Originating-Script: 2001:mailer.php\n" + hosttest.Letter("x")
	if out, code := h.sendmail(t, alice, "www", message, "-f", "news@here.example", "joe@far.example", "forward"); code != 0 {
		t.Fatalf("sendmail: exit %d\n%s", code, out)
	}
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 2 && len(h.queue()) == 0 })
	id := r.asked("local")[0]["id"]
	local := question{
		"request": "sluice", "version": "2", "encoding": "base64", "sender": "news@here.example", "id": id,
		"login": "alice", "uid": "2001", "script": "2001:mailer.php", "cwd": "/run/home/alice/www",
	}
	wantAsked(t, r, "local", with(local, "stage", "local", "subject", "x",
		"recipients", "joe@far.example, forward@here.example"))
	wantAsked(t, r, "route",
		with(local, "stage", "route", "charged", "yes", "recipient", "joe@far.example"),
		with(local, "stage", "route", "charged", "yes", "recipient", "someone@far.example",
			"original", "forward@here.example"))
}

// eximUID is the user id of Exim.
func eximUID(t testing.TB) string {
	t.Helper()
	u, err := user.Lookup("Debian-exim")
	if err != nil {
		t.Fatal(err)
	}
	return u.Uid
}

// What Sluice says of the client's socket is kept for the connection, and for the deliveries
// of its messages.
func TestWhoseSocketIsKept(t *testing.T) {
	t.Parallel()
	for _, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, "debian", way)
			r := h.respond(t, func(q question) string {
				if q["payer"] != "" {
					return pass("1")(q)
				}
				return strings.TrimSuffix(pass("1")(q), "\n") + "payer=uid:2001\n\n"
			})
			h.startExim(t)
			c := h.dial(t)
			c.Want(c.Send("a@here.example", hosttest.Letter("x"), "one@far.example", "two@far.example"), 250)
			c.Want(c.Send("b@here.example", hosttest.Letter("x"), "three@far.example"), 250)
			hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 3 && len(h.queue()) == 0 })
			for i, q := range r.asked("") {
				if want := map[bool]string{true: "uid:2001"}[i > 0]; q["payer"] != want {
					t.Errorf("question %d, at %s, says payer=%q, want %q", i, q["stage"], q["payer"], want)
				}
			}
			c = h.dial(t) // another connection is another client's
			c.Mail("a@here.example")
			before := len(r.asked(""))
			c.Want(c.Rcpt("four@far.example"), 250)
			if q := r.asked("")[before]; q["payer"] != "" {
				t.Errorf("another connection says payer=%q", q["payer"])
			}
		})
	}
}

// Inbound mail is asked about only where it leaves again.
func TestInboundIsAskedAboutWhenItIsForwarded(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, pass("100"))
	c := h.dialFrom(t, "192.0.2.9")
	id := c.Send("who@else.example", hosttest.Letter("x"), "alice@here.example", "forward@here.example").QueuedID()
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 && len(h.queue()) == 0 })
	if got := len(r.asked("")); got != 1 {
		t.Errorf("%d questions, want 1: %v", got, r.asked(""))
	}
	wantAsked(t, r, "route", question{
		"request": "sluice", "version": "2", "encoding": "base64", "stage": "route", "id": id, "script": "",
		"sender": "who@else.example", "client_address": "192.0.2.9", "client_port": "0", "server_address": "", "server_port": "0",
		"recipient": "someone@far.example", "original": "forward@here.example",
	})
}

// with is a copy of a question with more in it.
func with(q question, pairs ...string) question {
	out := question{}
	for k, v := range q {
		out[k] = v
	}
	for i := 0; i < len(pairs); i += 2 {
		out[pairs[i]] = pairs[i+1]
	}
	return out
}

func wantAsked(t *testing.T, r *responder, stage string, want ...question) {
	t.Helper()
	byRecipient := func(qs []question) map[string]question {
		m := map[string]question{}
		for _, q := range qs {
			delete(q, "number")
			if n, err := strconv.Atoi(q["client_port"]); err == nil && n > 0 {
				delete(q, "client_port") // any
			}
			m[q["recipient"]] = q
		}
		return m
	}
	got := r.asked(stage)
	if diff := cmp.Diff(byRecipient(want), byRecipient(got)); diff != "" || len(got) != len(want) {
		t.Errorf("%d questions at %s, want %d (-want +got):\n%s", len(got), stage, len(want), diff)
	}
}

// Exim asks at the first remote recipient, then when the room is used up, and
// says how many it has let pass.
func TestAsksAgainWhenTheRoomIsUsedUp(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, func(q question) string {
		if q["stage"] == "rcpt" && q["sent"] == "5" {
			return "action=450 4.7.1 full\nroom=0\n\n"
		}
		return pass("3")(q)
	})
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	for message := range 2 { // the second on the same connection begins anew
		c.Mail("a@here.example")
		c.Want(c.Rcpt("bob@here.example"), 250)
		for i := range 5 {
			c.Want(c.Rcpt(fmt.Sprintf("r%d@far.example", i)), 250)
		}
		c.Want(c.Rcpt("r5@far.example"), 450, "4.7.1 full")
		c.Want(c.Rcpt("alice@here.example"), 250)
		if message == 0 {
			c.Want(c.Cmd("RSET"), 250)
		}
	}
	c.Want(c.Data(hosttest.Letter("x")), 250)
	var sent []string
	for _, q := range r.asked("rcpt") {
		sent = append(sent, q["sent"])
	}
	// The room is 3 of all recipients: used up by bob, r0 and r1.
	if got, want := strings.Join(sent, ","), ",2,3,4,5,,2,3,4,5"; got != want {
		t.Errorf("asked with sent=%s, want %s", got, want)
	}
	if got := r.asked("data")[0]["sent"]; got != "5" {
		t.Errorf("asked at DATA with sent=%s, want 5", got)
	}
}

// The room that the last message on a connection left is believed for a moment,
// but not against a lock file, for another sender, or after a refusal.
func TestRoomThatIsLeftIsBelieved(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	var full atomic.Bool
	r := h.respond(t, func(q question) string {
		if q["stage"] == "data" && full.Load() {
			return "action=450 4.7.1 full\n\n"
		}
		return pass("1000")(q)
	})
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	asked := func(from string) bool {
		before := len(r.asked("rcpt"))
		c.Mail(from)
		c.Want(c.Rcpt("x@far.example"), 250)
		return len(r.asked("rcpt")) > before
	}
	message := func() { c.Want(c.Data(hosttest.Letter("x")), 250) }
	believed := func() bool {
		defer message()
		return !asked("a@here.example")
	}
	hosttest.Eventually(t, "a message is not asked about at RCPT", believed)
	h.lock(t, "max_hourly_here.example")
	for range 2 {
		if !asked("a@here.example") {
			t.Error("not asked although there is a lock file")
		}
		message()
	}
	h.run(t, "rm", lockDir+"/max_hourly_here.example")
	hosttest.Eventually(t, "a message is not asked about at RCPT", believed)
	if !asked("b@here.example") {
		t.Error("not asked about another sender")
	}
	message()
	hosttest.Eventually(t, "one is not asked about again", func() bool { defer message(); return !asked("b@here.example") })
	full.Store(true)
	asked("b@here.example")
	c.Want(c.Data(hosttest.Letter("x")), 450, "4.7.1 full")
	if !asked("b@here.example") {
		t.Error("not asked after a refusal")
	}
}

func TestPipeliningAndPRDR(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, func(q question) string {
		if q["stage"] == "rcpt" && q["sent"] == "2" {
			return "action=450 4.7.1 full\nroom=0\n\n"
		}
		return pass("1")(q)
	})
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	c.Write("MAIL FROM:<a@here.example> PRDR\r\n" +
		"RCPT TO:<a@far.example>\r\nRCPT TO:<b@far.example>\r\nRCPT TO:<c@far.example>\r\nDATA\r\n")
	for _, want := range []int{250, 250, 250, 450, 354} {
		c.Want(c.Reply(), want)
	}
	c.Write(hosttest.OnTheWire(hosttest.Letter("x")))
	for _, want := range []int{353, 250, 250, 250} { // "PRDR content analysis beginning", each recipient, the message
		c.Want(c.Reply(), want)
	}
	if got, want := r.asked("data")[0]["recipients"], "a@far.example, b@far.example"; got != want {
		t.Errorf("recipients=%s, want %s", got, want)
	}
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 2 })
}

// sendmail -bs has the SMTP stages, -bS those of sendmail.
func TestSMTPOverAPipe(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, pass("100"))
	c := h.as(t, alice, "bs").pipe(t, "/usr/sbin/sendmail", "-bs")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), "one@far.example"), 250)
	c.Want(c.Send("b@here.example", hosttest.Letter("x"), "two@far.example"), 250)
	for i, q := range r.asked("data") {
		want := question{"login": "alice", "uid": "2001", "cwd": "/run/home/alice/bs", "sent": "1"}
		for k, v := range want {
			if q[k] != v {
				t.Errorf("message %d was asked about with %s=%q, want %q", i, k, q[k], v)
			}
		}
	}
	batch := "MAIL FROM:<a@here.example>\nRCPT TO:<three@far.example>\nDATA\nSubject: x\n\nx\n.\n"
	if out, code := h.sendmail(t, alice, "bs", batch+batch, "-bS"); code != 0 {
		t.Fatalf("sendmail -bS: exit %d\n%s", code, out)
	}
	if rcpt, data, local := len(r.asked("rcpt")), len(r.asked("data")), len(r.asked("local")); rcpt != 2 || data != 2 || local != 2 {
		t.Errorf("asked %d times at rcpt, %d at data, %d at local; want 2 each", rcpt, data, local)
	}
	hosttest.Eventually(t, "all is delivered", func() bool { return h.sink.Count() == 4 })
}

func TestOwnBouncesAreNotAskedAbout(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, pass("100"))
	h.sink.Refuse("nobody@far.example", 550, "the sink does not want it")
	h.sendmail(t, alice, "", hosttest.Letter("x"), "-f", "back@far.example", "nobody@far.example")
	hosttest.Eventually(t, "the bounce has come", func() bool { return h.sink.Count() == 1 && len(h.queue()) == 0 })
	for _, q := range r.asked("") {
		if q["sender"] == "" {
			t.Errorf("asked about Exim's own bounce: %v", q)
		}
	}
	// The same from a user is no bounce of Exim's.
	h.sendmail(t, alice, "", hosttest.Letter("x"), "-f", "<>", "joe@far.example")
	if qs := r.asked("local"); len(qs) != 2 || qs[1]["sender"] != "" || qs[1]["login"] != "alice" {
		t.Errorf("asked %v", qs)
	}
	hosttest.Eventually(t, "it is delivered", func() bool { return len(h.queue()) == 0 })
}
