package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/ratelimit/redisurl"
	"sluice/sidecar/hosttest"
)

// A simulation is three nodes on a real Redis whose links break and heal, whose
// replies are lost and whose server is replaced when a schedule says so, with
// nothing waiting for a timeout: Run does not run, and its parts are called. Time
// goes on as it does, and in jumps.
type simulation struct {
	t      *testing.T
	random *rand.Rand
	redis  *redistest.Server
	nodes  []*Store
	token  ratelimit.Token

	mu     sync.Mutex    // for nodes that come back at the same time
	jumped time.Duration // since the beginning
	owing  time.Duration // of that, what the board does not know
}

func newSimulation(t *testing.T, outage Outage, random *rand.Rand) *simulation {
	s := &simulation{t: t, random: random, redis: redistest.Start(t, "--unixsocketperm", "700")}
	for i := range 3 {
		own, err := journal.Open(filepath.Join(t.TempDir(), "ledger"), journal.Options{Reporter: &heard{}, Ledger: ratelimit.Options{Keep: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		n, err := Open(Options{URL: "unix://" + s.redis.Socket(), Timeout: hosttest.Deadline(5 * time.Second), Outage: outage, Node: fmt.Sprint(i), Nodes: 3,
			Ledger: own, Reporter: &heard{}, RedisTime: s.arrival})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { n.Close(); own.Close() })
		s.nodes = append(s.nodes, n)
	}
	s.healAll()
	return s
}

func (s *simulation) now() time.Time { return time.Now().Add(s.jumped) }

// jump has time go on for all at once. What is on the board ends by the time of
// Redis itself, so that it ends earlier by as much.
func (s *simulation) jump(by time.Duration) {
	s.jumped += by
	s.owing += by
	for _, n := range s.nodes {
		n.clock.set(s.now())
		n.board.age(by)
	}
}

// age has time go on for a node's copy of the board.
func (b *board) age(by time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for key, e := range maps.Collect(b.entries.Prefix("")) {
		if !e.Till.IsZero() {
			e.Till = e.Till.Add(-by)
			b.entries.Set(key, e)
		}
	}
}

// arrival is when a call is run that is made now.
func (s *simulation) arrival() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.jump(time.Duration(s.random.IntN(3000)) * time.Microsecond)
	return s.now()
}

// cut has a node no longer reach Redis.
func (s *simulation) cut(i int) {
	l := s.nodes[i].servers.single
	l.refuses.Store(true)
	l.unready()
}

// heal has it reach Redis again: it merges its outbox and decides there.
func (s *simulation) heal(i int) {
	s.nodes[i].servers.single.refuses.Store(false)
	if !s.nodes[i].merge(context.Background()) || !s.nodes[i].servers.single.ready.Load() {
		s.t.Fatalf("node %d does not come back", i)
	}
}

// healAll has all nodes reach Redis again. Each waits until the others have replayed to
// a server that is new to them.
func (s *simulation) healAll() {
	var running sync.WaitGroup
	for _, n := range s.nodes {
		running.Go(func() {
			if err := n.heartbeat(context.Background(), n.servers.single); err != nil || !n.servers.single.ready.Load() {
				s.t.Errorf("node %s does not come back: %v", n.options.Node, err)
			}
		})
	}
	running.Wait()
}

// catchUp has a node that reaches Redis give it all that it has. When all nodes have done so,
// all decide there again, without that any has waited for the others.
func (s *simulation) catchUp(i int) {
	n, ctx := s.nodes[i], context.Background()
	l := n.servers.single
	l.refuses.Store(false)
	if l.stageNow() == unmet {
		if err := n.replay(ctx, l); err != nil {
			s.t.Fatal(err)
		}
		l.advance(l.serverNow(), l.serverChanges.Load(), replayed)
	}
	n.merge(ctx)
	for _, n := range s.nodes {
		if !n.isReplayed(n.servers.single) {
			return
		}
	}
	for _, n := range s.nodes {
		l := n.servers.single
		l.advance(l.serverNow(), l.serverChanges.Load(), complete)
		n.merge(ctx)
		if err := n.lookAgain(ctx); err != nil || l.answers() && !l.ready.Load() {
			s.t.Fatalf("node %s does not come back: %v", n.options.Node, err)
		}
	}
}

// replace has Redis come back empty, as another server.
func (s *simulation) replace() {
	s.swap()
	s.healAll()
}

// swap has Redis come back empty, as another server with which no node has caught up.
func (s *simulation) swap() {
	s.redis.Do("flushall")
	s.redis.Do("replicaof", "127.0.0.1", "1")
	s.redis.Do("replicaof", "no", "one") // which names the history of its data anew
	server, err := serverOf(s.redis.Do("info").(string), redisurl.Single)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, n := range s.nodes {
		l := n.servers.single
		if l.serverNow() == server {
			s.t.Fatal("it is no other server")
		}
		l.mu.Lock()
		l.server, l.stage = server, unmet
		l.unready()
		l.mu.Unlock()
	}
}

// take asks for one send. With lost, Redis runs it and the reply is lost.
func (s *simulation) take(i int, subject ratelimit.Subject, lost bool) bool {
	s.token++
	n := s.nodes[i]
	t := ratelimit.Take{Subjects: []ratelimit.Subject{subject}, Tokens: []ratelimit.Token{s.token}, Marks: []ratelimit.Token{s.token}}
	now, ctx := s.now(), context.Background()
	var r ratelimit.Result
	var err error
	if l := n.servers.single; lost && l.answers() {
		terms := n.terms(now, t.Subjects)
		if _, err := l.do(time.Now().Add(5*time.Second), takeCall(terms, t)); err != nil {
			s.t.Fatal(err)
		}
		r, err = n.takeDegraded(ctx, now, t, terms.attempt)
	} else {
		r, err = n.Take(ctx, now, t)
	}
	if err != nil && !errors.Is(err, ratelimit.ErrUncounted) {
		s.t.Fatal(err)
	}
	return err == nil && r.OK
}

// share has all that reach Redis exchange what they have seen.
func (s *simulation) share() {
	const age = `for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZINCRBY', KEYS[1], ARGV[1], key) end`
	s.redis.Do("eval", age, 1, boardKeys[2], -s.owing.Milliseconds())
	s.owing = 0
	for range 2 {
		for _, n := range s.nodes {
			if n.servers.single.ready.Load() {
				n.publish(context.Background())
				n.poll(context.Background())
			}
		}
	}
}

// Random schedules of faults and resets, in the soak thousands. At no time have more been accepted
// since the last reset than the outage mode allows where k of N nodes were without
// Redis: in share max*(1 + k/2N), in closed max, in local N*max. And what is counted
// in the end is what was accepted since the last reset, wherever and whenever that
// was made.
func TestExactAfterRandomFaults(t *testing.T) {
	for _, outage := range []Outage{OutageShare, OutageLocal, OutageOpen, OutageClosed} {
		t.Run(string(outage), func(t *testing.T) {
			t.Parallel()
			for part := range soak(60, 1) {
				t.Run(fmt.Sprint(part), func(t *testing.T) { runSchedules(t, outage, soak(100, 10)) })
			}
		})
	}
}

// runSchedules runs so many on one Redis. The resets of each subject are replayed to
// every server that takes its place, so that many would take long.
func runSchedules(t *testing.T, outage Outage, schedules int) {
	seed := uint64(time.Now().UnixNano())
	s := newSimulation(t, outage, rand.New(rand.NewPCG(seed, 0)))
	for number := range schedules {
		c := &schedule{simulation: s, outage: outage, alone: map[int]bool{},
			subject: daily(hourly(fmt.Sprintf("d%d.example", number), 4+s.random.Int64N(60)), s.random.Int64N(2)*200)}
		s.jump(25 * time.Hour) // what was before is out of every window
		if err := c.run(); err != nil {
			t.Fatalf("seed %d, schedule %d: %v; %s", seed, number, err, c.said)
		}
	}
	t.Logf("%d schedules, %d sends asked for", schedules, s.token)
}

// A schedule is the faults, sends and resets of one subject.
type schedule struct {
	*simulation
	outage   Outage
	subject  ratelimit.Subject
	accepted int64        // since the last reset
	alone    map[int]bool // nodes that decided alone
	said     string
}

func (c *schedule) say(format string, args ...any) { c.said += fmt.Sprintf(format, args...) }

func (c *schedule) run() error {
	for range 20 + c.random.IntN(60) {
		c.jump(time.Second + time.Duration(c.random.Int64N(int64(20*time.Second))))
		c.step(c.random.IntN(3))
		if bound := c.bound(); c.accepted > bound {
			return fmt.Errorf("%d of %d accepted, at most %d", c.accepted, c.subject.Limits[0].Max, bound)
		}
	}
	for i := range c.nodes {
		c.catchUp(i)
	}
	for _, n := range c.nodes {
		if !n.servers.single.ready.Load() || n.outbox.len() > 0 {
			return fmt.Errorf("node %s does not come back", n.options.Node)
		}
	}
	for _, w := range c.nodes[0].Standing(c.now(), c.subject.Name).Windows {
		if w.Sent != c.accepted {
			return fmt.Errorf("in %v %d counted of %d accepted", w.Window, w.Sent, c.accepted)
		}
	}
	return nil
}

func (c *schedule) step(i int) {
	switch step := c.random.IntN(20); {
	case step < 1:
		c.cut(i)
		c.alone[i] = true
		c.say("cut %d; ", i)
	case step < 3:
		c.catchUp(i)
		c.say("heal %d; ", i)
	case step < 4:
		c.share()
	case step == 4 && c.random.IntN(4) == 0:
		if c.swap(); c.random.IntN(2) == 0 {
			c.healAll()
		}
		for i, n := range c.nodes { // while they catch up, each has its share
			c.alone[i] = c.alone[i] || !n.servers.single.ready.Load()
		}
		c.say("replace; ")
	case step == 5:
		c.alone[i] = true
		c.take(i, true)
	case step < 8:
		c.take(i, false) // in the same moment as the reset
		c.reset(i)
		c.take(i, false)
	default:
		c.take(i, false)
	}
}

// take asks for some sends, sometimes with a part of the limit withheld from them.
func (c *schedule) take(i int, lost bool) {
	subject := c.subject
	subject.Limits = slices.Clone(subject.Limits)
	subject.Limits[0].Withheld = max(0, c.random.Int64N(2*subject.Limits[0].Max)-subject.Limits[0].Max)
	for range 1 + c.random.IntN(6) {
		if c.simulation.take(i, subject, lost) {
			c.accepted++
			c.say("%d ", i)
		}
	}
}

func (c *schedule) reset(i int) {
	if _, err := c.nodes[i].Reset(context.Background(), c.now(), c.subject.Name, -1); err != nil {
		c.t.Fatal(err)
	}
	c.accepted = 0
	c.say("reset %d at %s; ", i, c.now().Format("04:05.000"))
}

func (c *schedule) bound() int64 {
	max := c.subject.Limits[0].Max
	switch c.outage {
	case OutageShare:
		return max + int64(len(c.alone))*(max/2/3)
	case OutageLocal:
		return 3 * max
	case OutageOpen:
		return math.MaxInt64
	}
	return max
}
