package eximconfig_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// The Perl client, in a real Exim:
//
//	client ─→ Exim ─ one kept connection ─→ responder, sometimes gone

func TestOneConnectionIsKept(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, pass("1"))
	h.addMacros(t, "queue_only")
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	for range 3 {
		c.Want(c.Send("a@here.example", hosttest.Letter("x"), "x@far.example", "y@far.example"), 250)
	}
	if n := r.connections(); n != 1 {
		t.Errorf("%d connections for three messages of one client, want 1", n)
	}
	// A restart of the server closes them all. The next question is answered.
	r.hangUpAll()
	before := len(r.asked(""))
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), "x@far.example"), 250)
	if n := len(r.asked("")) - before; n != 2 || r.connections() != 2 {
		t.Errorf("after a restart %d questions on %d connections, want 2 on 2", n, r.connections())
	}
}

// A server that closes the connection in answer to a question is asked once
// more, on a new one, and no third time.
func TestAsksOnceMoreIfTheKeptConnectionEnds(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startExim(t)
	asked := make(chan int, 100)
	h.serve(t, func(c net.Conn) {
		// Answers one question and hangs up on the second.
		in := bufio.NewReader(c)
		for i := range 2 {
			q, err := readQuestion(in)
			if err != nil {
				return
			}
			asked <- i
			if i == 0 {
				io.WriteString(c, numberedAs(q, "action=450 4.7.1 answered\n\n"))
			}
		}
	})
	c := h.dial(t).Login("a@here.example")
	c.Mail("a@here.example")
	for range 5 {
		c.Want(c.Rcpt("x@far.example"), 450, "4.7.1 answered")
	}
	if n := len(asked); n != 9 {
		t.Errorf("five questions took %d, want 9", n)
	}
}

// After a deadline there is a pause, and then it asks again.
func TestPauseAfterATimeout(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.asShipped(t)
	h.startExim(t)
	c := h.dial(t).Login("a@here.example")
	r := h.serve(t, func(c net.Conn) { io.Copy(io.Discard, c) })
	c.Mail("a@here.example")
	start := time.Now()
	c.Want(c.Rcpt("x@far.example"), 250)
	wantQuestions(t, r, 1, start)
	c.Want(c.Data(hosttest.Letter("x")), 250)
	// Nor is an answer that comes too late taken for one to another question.
	h.respond(t, func(question) string { return "action=450 4.7.1 asked again\n\n" })
	c.Mail("a@here.example")
	hosttest.Eventually(t, "after five seconds it asks again", func() bool {
		time.Sleep(50 * time.Millisecond) // there is nothing to be seen in the meantime
		return c.Rcpt("x@far.example").Code == 450
	})
	if took := time.Since(start); took < 4*time.Second {
		t.Errorf("asked again after %v", took)
	}
}

// An answer in pieces is one answer.
func TestAnswerInPieces(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startExim(t)
	h.serve(t, func(c net.Conn) {
		in := bufio.NewReader(c)
		for {
			q, err := readQuestion(in)
			if err != nil {
				return
			}
			for _, b := range []byte(numberedAs(q, "action=450 4.7.1 later\n\n")) {
				c.Write([]byte{b})
				time.Sleep(time.Millisecond) // so that pieces do not join on the way
			}
		}
	})
	c := h.dial(t).Login("a@here.example")
	c.Mail("a@here.example")
	c.Want(c.Rcpt("x@far.example"), 450, "4.7.1 later")
	c.Want(c.Rcpt("y@far.example"), 450, "4.7.1 later")
}

// An answer to another question is none, and with it the connection is given up.
func TestAnswerToAnotherQuestion(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"perl", "tcp"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			h := newHostOf(t, "debian", way)
			h.startExim(t)
			h.serve(t, func(c net.Conn) {
				in := bufio.NewReader(c)
				late := question{"number": "0"}
				for {
					q, err := readQuestion(in)
					if err != nil {
						return
					}
					if q["recipient"] == "right@far.example" {
						late = q
					}
					io.WriteString(c, numberedAs(late, "action=450 4.7.1 answered\n\n"))
				}
			})
			c := h.dial(t).Login("a@here.example")
			c.Mail("a@here.example")
			c.Want(c.Rcpt("wrong@far.example"), 250)
			c.Want(c.Rcpt("right@far.example"), 450, "4.7.1 answered")
			c.Want(c.Rcpt("wrong@far.example"), 250)
		})
	}
}

// A message may have more recipients than a socket buffers.
func TestLongQuestion(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	r := h.respond(t, pass("1000000"))
	rcpt := strings.Repeat("x", 60) + "@" + strings.Repeat(strings.Repeat("y", 50)+".", 3) + "example"
	rcpts := strings.Repeat(rcpt+"\n", 3000) // folds to one delivery
	message := "To: " + strings.ReplaceAll(strings.TrimSpace(rcpts), "\n", ",\n ") + "\n" + hosttest.Letter("x")
	if out, code := h.sendmail(t, alice, "", message, "-t", "-odq"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	if qs := r.asked("local"); len(qs) != 1 || len(qs[0]["recipients"]) < 500_000 {
		t.Fatalf("%d questions", len(qs))
	}
}

// Where Exim's Perl cannot load our file nobody answers; it is no error, which
// would be a 451 for everybody.
func TestPerlFileMissing(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run(t, "rm", "/etc/exim4/sluice.pl")
	h.startExim(t)
	h.lock(t, "max_hourly_locked.example")
	c := h.dial(t).Login("a@here.example")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), "x@far.example"), 250)
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 })
	c.Mail("a@here.example")
	c = h.dial(t).Login("a@locked.example")
	c.Mail("a@locked.example")
	c.Want(c.Rcpt("x@far.example"), 450)
}

// Exim times its connects out by an alarm, in the process whose router has just
// asked. A client in Perl that uses alarm takes Exim's handler away: the process
// would die without a word, and the message stay where it is.
func TestEximKeepsItsAlarms(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.asShipped(t)
	transport := "/etc/exim4/conf.d/transport/30_exim4-config_remote_smtp"
	h.write(t, transport, h.read(transport)+"  connect_timeout = 1s\n  hosts_try_fastopen =\n")
	h.run(t, "update-exim4.conf")
	for domain, begin := range map[string]func(){
		"answered.example": func() { h.respond(t, pass("100")) },
		"silent.example":   func() { h.serve(t, nil) }, // hangs too
	} {
		begin()
		h.sinkFor(t, domain, hungPort(t).Port)
		h.sendmail(t, alice, "", hosttest.Letter("x"), "x@"+domain)
		hosttest.Eventually(t, "Exim notes that it could not connect", func() bool {
			_, log, _ := strings.Cut(h.mainlog(), "== x@"+domain+" R=site_remote T=remote_smtp defer (")
			return strings.Contains(log, "Connection timed out")
		})
	}
}

// hungPort is a port at which the kernel takes no more connections, and does
// not say so.
func hungPort(t *testing.T) *net.TCPAddr {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	shrinkBacklog(t, l.(*net.TCPListener), 0)
	for {
		c, err := net.DialTimeout("tcp", l.Addr().String(), 200*time.Millisecond)
		if err != nil {
			return l.Addr().(*net.TCPAddr)
		}
		t.Cleanup(func() { c.Close() })
	}
}
