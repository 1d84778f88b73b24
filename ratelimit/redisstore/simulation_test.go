package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore/redistest"
)

// A simulation is three nodes on a real Redis whose links break and heal, whose
// replies are lost and whose server is replaced when a schedule says so, with
// nothing waiting for a timeout: Run does not run, and its parts are called.
type simulation struct {
	t     *testing.T
	redis *redistest.Server
	nodes []*Store
	token ratelimit.Token
}

func newSimulation(t *testing.T, outage Outage) *simulation {
	s := &simulation{t: t, redis: redistest.Start(t, "--unixsocketperm", "700")}
	for i := range 3 {
		own, err := journal.Open(filepath.Join(t.TempDir(), "ledger"), journal.Options{Reporter: &heard{}, Ledger: ratelimit.Options{Keep: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		n, err := Open(Options{URL: "unix://" + s.redis.Socket(), Timeout: 5 * time.Second, Outage: outage, Node: fmt.Sprint(i), Nodes: 3,
			Ledger: own, Reporter: &heard{}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close(); own.Close() })
		s.nodes = append(s.nodes, n)
	}
	s.healAll()
	return s
}

// cut has a node no longer reach Redis.
func (s *simulation) cut(i int) { s.nodes[i].servers.one.unready() }

// heal has it reach Redis again: it tells what it owes, and decides there.
func (s *simulation) heal(i int) {
	if !s.nodes[i].merge(context.Background()) || !s.nodes[i].servers.one.ready.Load() {
		s.t.Fatalf("node %d does not come back", i)
	}
}

func (s *simulation) healAll() {
	for _, n := range s.nodes {
		n.options.Nodes = 1 // none waits for the others, which stand still meanwhile
		if err := n.tend(context.Background(), n.servers.one); err != nil || !n.servers.one.ready.Load() {
			s.t.Fatalf("node %s does not come back: %v", n.options.Node, err)
		}
		n.options.Nodes = 3
	}
}

// replace has Redis come back empty, as another server.
func (s *simulation) replace() {
	s.redis.Do("flushall")
	for _, n := range s.nodes {
		l := n.servers.one
		l.mu.Lock()
		l.server += "+"
		l.unready()
		l.mu.Unlock()
	}
	s.healAll()
}

// take asks for one send. With lost, Redis runs it and the reply is lost.
func (s *simulation) take(i int, subject ratelimit.Subject, lost bool) bool {
	s.token++
	n := s.nodes[i]
	t := ratelimit.Take{Subjects: []ratelimit.Subject{subject}, Tokens: []ratelimit.Token{s.token}, Marks: []ratelimit.Token{s.token}}
	now, ctx := time.Now(), context.Background()
	var r ratelimit.Result
	var err error
	if l := n.servers.one; lost && l.ready.Load() {
		terms := n.terms(now, t.Subjects)
		if _, err := l.do(now.Add(5*time.Second), takeCall(terms, t)); err != nil {
			s.t.Fatal(err)
		}
		r, err = n.alone(ctx, now, t, terms.attempt)
	} else {
		r, err = n.Take(ctx, now, t)
	}
	if err != nil && !errors.Is(err, ErrUncounted) {
		s.t.Fatal(err)
	}
	return err == nil && r.OK
}

// share has all that reach Redis exchange what they have seen.
func (s *simulation) share() {
	for range 2 {
		for _, n := range s.nodes {
			if n.servers.one.ready.Load() {
				n.feed(context.Background())
				n.poll(context.Background())
			}
		}
	}
}

// Thousands of random schedules of faults: in share never over
// max*(1 + k/2N), where k of N nodes were without Redis at some time, in closed
// never over max; and what is counted in the end is what was accepted.
func TestExactAfterRandomFaults(t *testing.T) {
	schedules := soak(6_000, 500)
	for _, outage := range []Outage{OutageShare, OutageClosed} {
		t.Run(string(outage), func(t *testing.T) {
			t.Parallel()
			s := newSimulation(t, outage)
			seed := uint64(time.Now().UnixNano())
			random := rand.New(rand.NewPCG(seed, 0))
			for schedule := range schedules {
				if err := s.schedule(random, outage, fmt.Sprintf("d%d.example", schedule)); err != nil {
					t.Fatalf("seed %d, schedule %d: %v", seed, schedule, err)
				}
			}
			t.Logf("%d schedules, %d sends asked for", schedules, s.token)
		})
	}
}

func (s *simulation) schedule(random *rand.Rand, outage Outage, name string) error {
	subject := hourly(name, 4+random.Int64N(60))
	max, accepted := subject.Limits[0].Max, int64(0)
	alone := map[int]bool{} // nodes that decided alone
	said := ""
	for range 20 + random.IntN(60) {
		i := random.IntN(3)
		switch step := random.IntN(20); {
		case step < 1:
			s.cut(i)
			alone[i] = true
			said += fmt.Sprintf("cut %d; ", i)
		case step < 3:
			s.heal(i)
			said += fmt.Sprintf("heal %d; ", i)
		case step < 4:
			s.share()
		case step == 4 && random.IntN(200) == 0:
			s.replace()
			said += "replace; "
		default:
			lost := step == 5
			alone[i] = alone[i] || lost
			for range 1 + random.IntN(6) {
				if s.take(i, subject, lost) {
					accepted++
					said += fmt.Sprintf("%d ", i)
				}
			}
		}
		bound := max
		if outage == OutageShare {
			bound += int64(len(alone)) * (max / 2 / 3)
		}
		if accepted > bound {
			return fmt.Errorf("%d of %d accepted, at most %d; %s", accepted, max, bound, said)
		}
	}
	for i := range s.nodes {
		s.heal(i)
	}
	st := s.nodes[0].Standing(time.Now(), name)
	if counted := sentOf(st); counted != accepted {
		return fmt.Errorf("%d counted of %d accepted; %s", counted, accepted, said)
	}
	return nil
}

func sentOf(st ratelimit.Standing) int64 {
	if len(st.Windows) == 0 {
		return 0
	}
	return st.Windows[0].Sent
}
