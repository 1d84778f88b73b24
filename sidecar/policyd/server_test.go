package policyd

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

const question = "request=sluice\nstage=data\n\n"

// accepting is an Asker that accepts everything.
var accepting = askFunc(func(sidecar.Request) sidecar.Reply { return sidecar.Reply{} })

// newPiped returns a running server for use in a synctest bubble.
func newPiped(t *testing.T, asker Asker, opts Options) (*Server, *hosttest.Pipes, func()) {
	s := New(asker, opts)
	s.admit = func(net.Conn) error { return nil }
	ln := hosttest.NewPipes()
	return s, ln, run(t, s, ln)
}

// mustAnswer asks on nc and fails the test without an answer in time, by the clock of
// synctest.
func mustAnswer(t *testing.T, nc net.Conn) {
	t.Helper()
	nc.SetDeadline(time.Now().Add(300 * time.Millisecond))
	defer nc.SetDeadline(time.Time{})
	if _, err := io.WriteString(nc, question); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 100)
	n, err := nc.Read(got)
	if err != nil || string(got[:n]) != "action=DUNNO\n\n" {
		t.Fatalf("answer %q, %v", got[:n], err)
	}
}

// endsAfter returns how long the server leaves nc open.
func endsAfter(t *testing.T, nc net.Conn) time.Duration {
	t.Helper()
	start := time.Now()
	if b, err := io.ReadAll(nc); err != nil || len(b) > 0 {
		t.Errorf("read %q, %v, want the end", b, err)
	}
	return time.Since(start)
}

func within(t *testing.T, what string, got, want, slack time.Duration) {
	t.Helper()
	if got < want || got > want+slack {
		t.Errorf("%s ended after %v, want %v", what, got, want)
	}
}

func TestDeadlines(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, ln, stop := newPiped(t, accepting, Options{})
		defer stop()
		const slack = 300 * time.Millisecond // the sweeper's step

		within(t, "silent client", endsAfter(t, ln.Dial()), 2*time.Second, slack)

		half := ln.Dial()
		io.WriteString(half, "request=sluice\nsta")
		within(t, "half a request", endsAfter(t, half), 2*time.Second, slack)

		dripping, start := ln.Dial(), time.Now()
		for _, err := io.WriteString(dripping, "x"); err == nil; _, err = io.WriteString(dripping, "x") {
			time.Sleep(50 * time.Millisecond)
		}
		within(t, "dripping client", time.Since(start), 2*time.Second, slack)

		kept := ln.Dial()
		mustAnswer(t, kept)
		time.Sleep(9 * time.Minute)
		mustAnswer(t, kept) // starts the idle time anew
		within(t, "kept connection", endsAfter(t, kept), 10*time.Minute, 2*slack)

		deaf := ln.Dial()
		io.WriteString(deaf, question)
		time.Sleep(3 * time.Second)
		within(t, "client that does not read", endsAfter(t, deaf), 0, 0)

		if n := s.Counts().TooSlow; n != 4 {
			t.Errorf("%d were too slow, want 4", n)
		}
	})
}

func TestRequestTimeoutStartsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, ln, stop := newPiped(t, accepting, Options{})
		defer stop()
		nc := ln.Dial()
		for range 5 { // each half just in time, all of them long after the first
			time.Sleep(1500 * time.Millisecond)
			io.WriteString(nc, question[:10])
			time.Sleep(1500 * time.Millisecond)
			io.WriteString(nc, question[10:])
			if n, err := nc.Read(make([]byte, 100)); err != nil {
				t.Fatal(n, err)
			}
		}
		nc.Close()
	})
}

func TestManyRequestsOnOneConnection(t *testing.T) {
	var asked atomic.Int64
	s := New(askFunc(func(r sidecar.Request) sidecar.Reply {
		return sidecar.Reply{Room: int(asked.Add(1))}
	}), Options{MaxRequest: 100_000})
	var in, want bytes.Buffer
	for i := range 50 {
		pad := strings.Repeat("x", i*i*30) // up to 72 KB, across all buffer sizes
		fmt.Fprintf(&in, "request=sluice\nstage=rcpt\ncwd=%s\n\n", pad)
		fmt.Fprintf(&want, "action=DUNNO\nroom=%d\n\n", i+1)
	}
	for _, step := range []int{1 << 20, 4096, 1000, 7} {
		asked.Store(0)
		if got := feed(s, in.Bytes(), step); got != want.String() {
			t.Errorf("in steps of %d: got %q", step, got)
		}
	}
	if n := s.memory.lent.Load(); n != 0 {
		t.Errorf("%d bytes of buffers were not given back", n)
	}
}

// A feeder is a connection that gives out in in steps and collects what is written.
type feeder struct {
	net.Conn
	in   []byte
	step int
	out  bytes.Buffer
}

func (f *feeder) Read(b []byte) (int, error) {
	if len(f.in) == 0 {
		return 0, io.EOF
	}
	n := copy(b, f.in[:min(f.step, len(f.in))])
	f.in = f.in[n:]
	return n, nil
}
func (f *feeder) Write(b []byte) (int, error) { return f.out.Write(b) }
func (f *feeder) Close() error                { return nil }

// feed has s answer in and returns what it wrote.
func feed(s *Server, in []byte, step int) string {
	f := &feeder{in: in, step: step}
	s.admit = func(net.Conn) error { return nil }
	s.handle(context.Background(), s.add(f))
	return f.out.String()
}

func TestNoAnswer(t *testing.T) {
	for name, tc := range map[string]struct{ in, log string }{
		"garbage":                     {"\x16\x03\x01\n\n", "is not name=value"},
		"empty request":               {"\n" + question, "it is empty"},
		"Postfix without an instance": {"request=smtpd_access_policy\nprotocol_state=RCPT\nsender=x\n\n", "it has no instance"},
		"no kind":                     {"stage=data\nrequest=sluice\n\n", "not with request="},
		"half a request":              {"request=sluice\nstage=da", "ended after 23 bytes"},
		"too large":                   {"request=sluice\nx=" + strings.Repeat("x", 5000), "longer than 4096 bytes"},
		"end over limit":              {"request=sluice\nx=" + strings.Repeat("x", 4096-17) + "\n\n", "longer than 4096 bytes"},
		"many attributes":             {"request=sluice\n" + manyAttributes(200) + "\n", "more than 64"},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			s := New(accepting, Options{MaxRequest: 4096, Events: logTo(&log)})
			if got := feed(s, []byte(tc.in), 1<<20); got != "" {
				t.Errorf("answer %q", got)
			}
			if !strings.Contains(log.String(), tc.log) || s.Counts().Unanswered != 1 {
				t.Errorf("counted %d, logged %s", s.Counts().Unanswered, &log)
			}
			if n := s.memory.lent.Load(); n != 0 {
				t.Errorf("%d bytes of buffers were not given back", n)
			}
		})
	}
}

func TestBufferedIsLimited(t *testing.T) {
	s := New(accepting, Options{MaxBuffered: 20_000})
	if got := feed(s, []byte("request=sluice\nx="+strings.Repeat("x", 20_000)), 1<<20); got != "" {
		t.Errorf("answer %q", got)
	}
	if s.Counts().Unanswered != 1 {
		t.Error("not counted")
	}
	if got := feed(s, []byte(question), 1<<20); got == "" {
		t.Error("no answer afterwards")
	}
}

func TestLogIsThrottled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		s := New(accepting, Options{Events: logTo(&log)})
		for range 1000 {
			feed(s, []byte("x\n\n"), 100)
		}
		time.Sleep(reportEvery)
		feed(s, []byte("x\n\n"), 100)
		if got := log.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, "more=999") {
			t.Errorf("logged %s", got)
		}
		if n := s.Counts().Unanswered; n != 1001 {
			t.Errorf("counted %d", n)
		}
	})
}

func TestPanicCostsOneAnswer(t *testing.T) {
	var log bytes.Buffer
	s := New(askFunc(func(r sidecar.Request) sidecar.Reply {
		if r.ID == "bad" {
			panic("a bug")
		}
		return sidecar.Reply{}
	}), Options{Events: logTo(&log)})
	if got := feed(s, []byte("request=sluice\nstage=data\nid=bad\n\n"), 100); got != "" {
		t.Errorf("answer %q", got)
	}
	if got := feed(s, []byte(question), 100); got != "action=DUNNO\n\n" {
		t.Errorf("next answer %q", got)
	}
	if !strings.Contains(log.String(), "a bug") || !strings.Contains(log.String(), "TestPanicCostsOneAnswer") {
		t.Errorf("logged %s", &log)
	}
	if c := s.Counts(); c.Panics != 1 {
		t.Errorf("%+v", c)
	}
}

// Descriptors run out: the server backs off, sheds, and goes on.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(accepting, Options{})
		s.admit = func(net.Conn) error { return nil }
		ln := &failing{Pipes: hosttest.NewPipes()}
		stop := run(t, s, ln)
		defer stop()
		kept := ln.Dial()
		mustAnswer(t, kept)
		time.Sleep(time.Millisecond) // it is idle now, and the oldest
		ln.failures.Store(5)
		mustAnswer(t, ln.Dial()) // was being accepted already
		start := time.Now()
		mustAnswer(t, ln.Dial())
		if d := time.Since(start); d > 300*time.Millisecond {
			t.Errorf("accepted after %v", d)
		}
		if c := s.Counts(); c.NoAccept != 5 || c.Shed == 0 {
			t.Errorf("%+v", c)
		}
		within(t, "idle connection", endsAfter(t, kept), 0, 0)
	})
}

// failing is a listener whose next accepts fail.
type failing struct {
	*hosttest.Pipes
	failures atomic.Int64
}

func (f *failing) Accept() (net.Conn, error) {
	if f.failures.Load() > 0 {
		f.failures.Add(-1)
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return f.Pipes.Accept()
}

func TestListenerClosedByAnother(t *testing.T) {
	ln := hosttest.NewPipes()
	ln.Close()
	if err := New(accepting, Options{}).Serve(t.Context(), ln); err == nil {
		t.Error("no error")
	}
}

// At MaxConns the silent and dripping ones go first, then the longest idle;
// whoever is being answered stays.
func TestShedOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		s, ln, stop := newPiped(t, askFunc(func(r sidecar.Request) sidecar.Reply {
			if r.ID == "slow" {
				<-answer
			}
			return sidecar.Reply{}
		}), Options{MaxConns: 5})
		defer stop()
		asking := ln.Dial()
		io.WriteString(asking, "request=sluice\nstage=data\nid=slow\n\n")
		idle1, idle2 := ln.Dial(), ln.Dial()
		mustAnswer(t, idle1)
		time.Sleep(time.Second)
		mustAnswer(t, idle2)
		half, mute := ln.Dial(), ln.Dial()
		io.WriteString(half, "request=")
		time.Sleep(shedGrace)

		ended := make(chan string, 10)
		for name, nc := range map[string]net.Conn{"half": half, "mute": mute, "idle1": idle1, "idle2": idle2} {
			go func() { io.ReadAll(nc); ended <- name }()
		}
		var order []string
		var last net.Conn
		for range 4 {
			last = ln.Dial()
			mustAnswer(t, last)
			time.Sleep(time.Millisecond)
			order = append(order, <-ended)
		}
		got := strings.Join(order, " ")
		if got != "mute half idle1 idle2" && got != "half mute idle1 idle2" {
			t.Errorf("closed in the order %s", got)
		}
		close(answer)
		if n, err := asking.Read(make([]byte, 100)); n == 0 {
			t.Errorf("the question in flight got no answer: %v", err)
		}
		if c := s.Counts(); c.Shed != 4 || c.Crowded != 4 {
			t.Errorf("%+v", c)
		}
	})
}

func TestCrowdedWithQuestionsInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answer := make(chan struct{})
		_, ln, stop := newPiped(t, askFunc(func(sidecar.Request) sidecar.Reply {
			<-answer
			return sidecar.Reply{}
		}), Options{MaxConns: 1})
		defer stop()
		asking := ln.Dial()
		io.WriteString(asking, question)
		synctest.Wait()
		within(t, "connection over the maximum", endsAfter(t, ln.Dial()), 0, 0)
		close(answer)
		if n, _ := asking.Read(make([]byte, 100)); n == 0 {
			t.Error("the question in flight got no answer")
		}
	})
}
