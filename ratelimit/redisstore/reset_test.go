package redisstore

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// want checks what Redis counts for a subject in its first window.
func (s *simulation) want(name string, sent int64) {
	s.t.Helper()
	if st := s.nodes[0].Standing(s.now(), name); st.Partial || len(st.Windows) == 0 || st.Windows[0].Sent != sent {
		s.t.Fatalf("%s: %+v, want %d sent", name, st, sent)
	}
}

// takeOf has a node charge some sends to subjects.
func (s *simulation) takeOf(i int, tokens []ratelimit.Token, subjects ...ratelimit.Subject) {
	s.t.Helper()
	r, err := s.nodes[i].Take(context.Background(), s.now(), ratelimit.Take{Subjects: subjects, Tokens: tokens})
	if err != nil || !r.OK {
		s.t.Fatalf("%+v, %v", r, err)
	}
}

func (s *simulation) resetOf(i int, name string, at time.Time) {
	s.t.Helper()
	if _, err := s.nodes[i].Reset(context.Background(), at, name, -1); err != nil {
		s.t.Fatal(err)
	}
}

// A reset without Redis forgets what its subject was charged for in the same
// minute, and not what others of its slot were.
func TestAResetAloneIsOfItsSubject(t *testing.T) {
	s := newSimulation(t, OutageShare, rand.New(rand.NewPCG(1, 1)))
	domain, mailbox := hourly("a.example", 100), hourly("m@a.example", 100)
	full := hourly("a.example", 5)
	full.Watched = true
	for _, name := range []string{"a.example", "m@a.example"} {
		first := ratelimit.Token(1000 * (1 + len(name)))
		send := func(i int, n int, subjects ...ratelimit.Subject) {
			s.takeOf(i, tokens(int(first), n), subjects...)
			first += ratelimit.Token(n)
		}
		s.jump(2 * time.Hour)
		send(0, 2, domain, mailbox)
		send(0, 3, domain)
		send(0, 4, mailbox)
		s.jump(time.Second)
		s.cut(0)
		s.resetOf(0, name, s.now())
		s.jump(time.Second)
		send(1, 2, mailbox)
		send(1, 1, domain, mailbox)
		send(1, 8, full, mailbox) // of which the domain, which still has 6, gets none
		send(0, 1, domain, mailbox)
		s.heal(0)
		if name == "a.example" {
			s.want("a.example", 2)
			s.want("m@a.example", 6+12)
		} else {
			s.want("a.example", 7)
			s.want("m@a.example", 12)
		}
	}
}

// A take that was answered here and runs in Redis after a reset is one from before it.
func TestALateTakeFromBeforeAReset(t *testing.T) {
	s := newSimulation(t, OutageShare, rand.New(rand.NewPCG(1, 1)))
	n, domain := s.nodes[0], hourly("a.example", 100)
	late := ratelimit.Take{Subjects: []ratelimit.Subject{domain}, Tokens: tokens(1, 3)}
	terms := n.terms(s.now(), late.Subjects)
	s.takeOf(0, tokens(21, 1), domain)
	s.jump(20 * time.Millisecond) // Redis's clock is known only to within the time between two answers
	s.cut(0)
	if r, err := n.takeDegraded(context.Background(), s.now(), late, terms.attempt); err != nil || !r.OK {
		t.Fatal(r, err)
	}
	// The clock of the ledger may be ahead of a caller's.
	s.resetOf(0, "a.example", s.now().Add(-time.Second))
	s.takeOf(0, tokens(11, 2), domain)
	s.jump(time.Minute)
	terms.now = s.now()
	if _, err := n.servers.single.do(time.Now().Add(hosttest.Patience()), takeCall(terms, late)); err != nil {
		t.Fatal(err)
	}
	s.heal(0)
	s.want("a.example", 2)
	n.outbox.commit(&pendingWrite{seq: 1000, Tokens: late.Tokens}) // merged once more
	s.heal(0)
	s.want("a.example", 2)
}

// A node that receives a reset late still counts what it has sent since.
func TestAResetThatIsHeardOfLate(t *testing.T) {
	s := newSimulation(t, OutageLocal, rand.New(rand.NewPCG(1, 1)))
	domain := hourly("a.example", 10)
	s.token = 100
	s.takeOf(1, tokens(1, 5), domain)
	s.cut(1)
	s.jump(time.Minute)
	s.resetOf(0, "a.example", s.now())
	s.share()
	s.jump(20 * time.Second)
	s.takeOf(1, tokens(11, 4), domain)
	s.heal(1)
	s.want("a.example", 4)
	s.share()
	s.cut(1)
	s.jump(time.Second)
	if st := s.nodes[1].Standing(s.now(), "a.example"); !st.Partial || st.Windows[0].Sent != 4 {
		t.Fatalf("%+v", st)
	}
	s.takeOf(1, tokens(21, 6), domain)
	if s.take(1, domain, false) {
		t.Fatal("more than its own count allows")
	}
	if used := s.nodes[1].usage.used("a.example", time.Hour); used != 0 && used != 4 {
		t.Fatalf("it saw %d", used)
	}
}

// Redis comes back empty after two resets that followed soon upon sends of other nodes,
// and one another, and who made them is gone: what was sent before them counts no more,
// and what was sent since does.
func TestAServerIsReplacedAfterResets(t *testing.T) {
	t.Parallel()
	s := newSimulation(t, OutageShare, rand.New(rand.NewPCG(1, 1)))
	domain := hourly("a.example", 100)
	for i := range 2 {
		s.takeOf(1, tokens(100*i+1, 5), domain)
		s.takeOf(2, tokens(100*i+11, 5), domain)
		s.jump(500 * time.Millisecond)
		s.resetOf(0, "a.example", s.now())
		s.share()
		s.jump(500 * time.Millisecond)
	}
	s.takeOf(1, tokens(301, 2), domain)
	s.takeOf(2, tokens(311, 2), domain)
	s.want("a.example", 4)
	s.nodes = s.nodes[1:]
	for range 2 { // the second time what the board had was restored as well
		s.replace()
		s.want("a.example", 4)
		s.jump(time.Minute)
		s.share()
	}
}

// A server that took the place of another one is told of the same reset by each node. The last to
// tell it does not have the refusals forgotten that came since.
func TestAResetToldLateForgetsNoRefusals(t *testing.T) {
	t.Parallel()
	s := newSimulation(t, OutageShare, rand.New(rand.NewPCG(1, 1)))
	domain := hourly("a.example", 5)
	s.takeOf(1, tokens(1, 2), domain)
	s.jump(time.Second)
	s.resetOf(0, "a.example", s.now())
	s.share()
	s.jump(time.Second)
	s.takeOf(1, tokens(11, 5), domain)
	s.swap()
	late := s.nodes[2]
	s.nodes = s.nodes[1:2]
	s.catchUp(0)
	s.token = 100
	for range 3 {
		if s.take(0, domain, false) {
			t.Fatal("more than the limit")
		}
	}
	at := time.UnixMilli(s.nodes[0].ledger.Standing(s.now(), "a.example").Epoch).Add(50 * time.Millisecond) // its clock is not the other's
	if err := late.writeReset(t.Context(), late.servers.single, "a.example", at, -1); err != nil {
		t.Fatal(err)
	}
	if st := s.nodes[0].Standing(s.now(), "a.example"); st.Refused != 3 || st.Windows[0].Sent != 5 {
		t.Errorf("%+v, want 5 sent and 3 refused", st)
	}
	s.resetOf(0, "a.example", s.now())
	if st := s.nodes[0].Standing(s.now(), "a.example"); st.Refused != 0 {
		t.Errorf("reset: %+v", st)
	}
}

// The latest date of a reset follows from its deadline, however long the machine lets the
// caller wait before the call is made: what is sent after the deadline is sent later.
func TestAResetIsDatedByItsDeadline(t *testing.T) {
	s, l := &Store{}, newLink("redis.example", time.Second)
	if at := s.latest(l, time.Now()); !at.IsZero() {
		t.Fatalf("%v, though Redis's clock is not known", at)
	}
	deadline := time.Now()
	answer := time.UnixMilli(1_800_000_000_000)
	l.observeTime(answer) // which came after the deadline
	if at := s.latest(l, deadline); !at.Before(answer) || at.Before(answer.Add(-hosttest.Patience())) {
		t.Errorf("%v, an answer of after the deadline is of %v", at, answer)
	}
	l.forgetTime()
	if at := s.latest(l, deadline); !at.IsZero() {
		t.Errorf("%v by the clock of another server", at)
	}
}

// A reset that Redis runs late, after the node has gone on alone, forgets nothing of
// what was sent since.
func TestALateResetIsOfItsTime(t *testing.T) {
	r := redistest.Start(t)
	n := startNode(t, Options{URL: "unix://" + r.Socket(), Timeout: hosttest.Deadline(200 * time.Millisecond)})
	domain := hourly("a.example", 100)
	if ok, err := insist(n, take(1, 5, domain)); !ok || err != nil {
		t.Fatal(ok, err)
	}
	time.Sleep(10 * time.Millisecond) // Redis's clock is known only to within the time between two answers
	r.Freeze()
	if _, err := n.Reset(context.Background(), n.time(), "a.example", -1); err != nil {
		t.Fatal(err)
	}
	if res, err := n.take(take(11, 3, domain)); err != nil || !res.OK {
		t.Fatalf("%+v, %v", res, err)
	}
	time.Sleep(300 * time.Millisecond)
	r.Thaw()
	n.shared()
	hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
	if st := n.Standing(n.time(), "a.example"); st.Partial || len(st.Windows) == 0 || st.Windows[0].Sent != 3 {
		t.Fatalf("%+v", st)
	}
}
