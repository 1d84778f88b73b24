package alert

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
)

// A pair is two nodes that share a real Redis, with a clock of the test's own:
//
//	mx1: incident ─→ alert ─→ ops@example.net, as a list of what came
//	        └─ board in Redis ─┐
//	mx2: incident ─→ alert ─→ the same
type pair struct {
	t      *testing.T
	stores [2]*redisstore.Store
	domain string
	now    time.Time
	here   [2]bool // the domain is tripped, as this node sees
	nodes  [2]*teller
	silent [2]bool
	came   []string // ids of notices, as they came
}

// A teller is what of one node tells of incidents. It dies in the step of that number: every second
// one is before something is posted on the board or delivered, the others are after it.
type teller struct {
	p         *pair
	n         int
	notes     hosttest.Notes
	dir       string
	incidents *incident.Incidents
	alerts    *Alerts
	dies      int
	steps     int
	dead      bool
}

// killed is what a teller panics with when it dies.
type killed struct{}

func nodeName(n int) string { return fmt.Sprintf("mx%d", n+1) }

func newPair(t *testing.T) *pair {
	p := &pair{t: t}
	redis := redistest.Start(t)
	for n := range p.stores {
		own, err := journal.Open(t.TempDir(), journal.Options{Ledger: ratelimit.Options{Keep: time.Hour}})
		if err != nil {
			t.Fatal(err)
		}
		if p.stores[n], err = redisstore.Open(redisstore.Options{URL: redis.URL(), Timeout: hosttest.Deadline(2 * time.Second), Outage: redisstore.OutageShare,
			Node: nodeName(n), Nodes: 2, Ledger: own, Reporter: quiet{}}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		var running sync.WaitGroup
		running.Go(func() { p.stores[n].Run(ctx) })
		t.Cleanup(func() { cancel(); running.Wait(); p.stores[n].Close(); own.Close() })
		hosttest.Eventually(t, "Redis decides", func() bool { return p.stores[n].Status().Mode == "shared" })
	}
	return p
}

// quiet is a Reporter of which nothing is asked.
type quiet struct{}

func (quiet) RedisCrowded(int, int)               {}
func (quiet) RedisEvicts(string, string)          {}
func (quiet) RedisKeyUnusable(string, error)      {}
func (quiet) RedisValueUnread(string, error)      {}
func (quiet) RedisNamesake(string)                {}
func (quiet) RedisNamesakeGone(string)            {}
func (quiet) RedisLost(string, string, error)     {}
func (quiet) RedisBack(string, time.Duration)     {}
func (quiet) RedisReplaced(string)                {}
func (quiet) RedisReplayed(string, int, int, int) {}

// begin begins a round with nodes that know nothing, of which the first dies in a step.
func (p *pair) begin(round int, second bool) {
	p.domain, p.now, p.came, p.silent, p.here = fmt.Sprintf("d%d.example", round), noon, nil, [2]bool{}, [2]bool{true, second}
	for n := range p.nodes {
		p.nodes[n] = &teller{p: p, n: n, notes: hosttest.Notes{}, dir: p.t.TempDir(), dies: -1}
		p.nodes[n].start()
	}
	p.nodes[0].dies = round
	for n, here := range p.here {
		if here {
			p.nodes[n].incidents.Event(event.Event{Kind: event.Tripped, At: p.now, Domain: p.domain})
		}
	}
}

// start starts a node with what its disk has.
func (l *teller) start() {
	c, err := config.Parse("sluice.toml", anyone)
	if err != nil {
		l.p.t.Fatal(err)
	}
	events := event.Func(func(event.Event) {})
	l.incidents = incident.New(incident.Options{Node: nodeName(l.n), Notes: l.notes, Events: events, Now: l.p.now, Board: mortalBoard{l.p.stores[l.n], l},
		Alive: func() func(string) bool {
			return func(node string) bool { return !l.p.silent[slices.Index([]string{"mx1", "mx2"}, node)] }
		},
		Present: func(time.Time, string, incident.Cause) bool { return l.p.here[l.n] },
		Look: func(now time.Time, _ string) (v incident.View) {
			v.Who, v.Tried = []incident.Sender{{Author: "eve@" + l.p.domain}}, 100
			if v.Most = (incident.Culprit{Author: "eve@" + l.p.domain, Count: 90, Of: 100}); now.Sub(noon) > 2*time.Minute {
				v.MostBad = incident.Culprit{Author: "bob@" + l.p.domain, Count: 90, Of: 100}
			}
			return v
		}})
	l.alerts = New(Options{Dir: l.dir, Node: nodeName(l.n), Events: events, Config: func() *config.Config { return c }, Shared: l.incidents,
		Account: func(string) string { return "" },
		Card:    func(incident.Incident) string { return "" },
		Current: func(incident.ID) (incident.Incident, bool) { return incident.Incident{}, false },
		Send: func(_ context.Context, _ config.Channel, n Notice) error {
			l.acts(func() { l.p.came = append(l.p.came, n.ID) })
			return nil
		}})
	l.incidents.Watch(l.alerts.Changed)
	l.dead = false
}

// acts does something that others see, unless the node dies before it.
func (l *teller) acts(f func()) {
	l.die()
	f()
	l.die()
}

func (l *teller) die() {
	if l.steps++; l.steps == l.dies {
		l.dead = true
		panic(killed{})
	}
}

// tick is a second of a node.
func (l *teller) tick() {
	defer func() {
		if r := recover(); r != nil && r != any(killed{}) {
			panic(r)
		}
	}()
	l.incidents.Tick(l.p.t.Context(), l.p.now)
	l.alerts.step(l.p.now)
	for _, q := range l.alerts.queues {
		for {
			p, c := q.next(l.p.now)
			if p == nil {
				break
			}
			q.done(p, q.send(l.p.t.Context(), c, p.notice))
		}
	}
	l.alerts.Share(l.p.t.Context())
}

// until lets time pass to a minute.
func (p *pair) until(minute float64) {
	for end := noon.Add(time.Duration(minute * float64(time.Minute))); p.now.Before(end); p.now = p.now.Add(10 * time.Second) {
		for n, l := range p.nodes {
			if l.dead {
				p.silent[n] = true
			}
			if !p.silent[n] {
				p.level()
				l.tick()
			}
		}
	}
}

// level waits until both nodes have all of the board.
func (p *pair) level() {
	p.t.Helper()
	entries := func(s *redisstore.Store) map[string]string {
		all := map[string]string{}
		s.Entries("incident/", func(key string, value []byte) { all[key] = string(value) })
		return all
	}
	hosttest.Eventually(p.t, "both nodes know the board", func() bool { return maps.Equal(entries(p.stores[0]), entries(p.stores[1])) })
}

// clear empties the board for the next round.
func (p *pair) clear() {
	var keys []string
	p.stores[0].Entries("incident/", func(key string, _ []byte) { keys = append(keys, key) })
	for _, key := range keys {
		if err := p.stores[0].Remove(p.t.Context(), key); err != nil {
			p.t.Fatal(err)
		}
	}
	p.level()
}

// mortalBoard is a board whose node may die when it changes it.
type mortalBoard struct {
	*redisstore.Store
	l *teller
}

func (b mortalBoard) Post(ctx context.Context, key string, value []byte) (stands []byte, err error) {
	b.l.acts(func() { stands, err = b.Store.Post(ctx, key, value) })
	return stands, err
}

func (b mortalBoard) Remove(ctx context.Context, key string) (err error) {
	b.l.acts(func() { err = b.Store.Remove(ctx, key) })
	return err
}

// An incident of all nodes is told once, whichever step the node that tells of it dies in: who takes over goes on with
// its number. What it tells again, for it cannot know that it was delivered, has the same id.
func TestWhoTakesOverTellsNothingAgain(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for _, second := range [...]bool{true, false} { // it sees the domain itself, or not
		for round := 1; ; round++ {
			p.begin(round, second)
			p.until(4)
			steps := p.nodes[0].steps
			died := p.nodes[0].dead
			p.silent[0] = true
			p.until(6)
			p.here = [2]bool{}
			p.until(20)
			p.nodes[0].dies = -1
			p.nodes[0].start()
			p.silent[0] = false
			p.until(32)
			p.check(round, second, 1)
			if p.clear(); !died {
				t.Logf("%d steps", steps)
				break
			}
		}
	}
}

// So it is where who has taken over dies too, and the first one goes on.
func TestWhoTakesOverDiesToo(t *testing.T) {
	t.Parallel()
	p := newPair(t)
	for round := 1; ; round++ {
		p.begin(round, true)
		p.nodes[0].dies, p.nodes[1].dies = 9, round // 9: it was delivered, and mx2 does not know
		p.until(4)
		p.nodes[0].dies = -1
		p.nodes[0].start()
		p.silent[0] = false
		p.until(5)
		died := p.nodes[1].dead
		p.silent[1] = true
		p.until(7)
		p.here = [2]bool{}
		p.until(24)
		p.check(round, true, 2)
		if p.clear(); !died {
			break
		}
	}
}

// check checks what has come of an incident: each thing once, or with the same id again, of which there
// are no more than nodes that died.
func (p *pair) check(round int, second bool, died int) {
	p.t.Helper()
	var ids, states []string
	numbers := map[string]bool{}
	for _, id := range p.came {
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
			number, rest, _ := strings.Cut(id, ".")
			_, state, _ := strings.Cut(rest, ".")
			numbers[number] = true
			states = append(states, state)
		}
	}
	told := strings.Join(states, " ")
	if told != "open changed closed" && (second || told != "" && told != "open closed") || len(numbers) > 1 || len(p.came) > len(ids)+died {
		p.t.Errorf("dies in step %d, the second node sees it: %v; came %v", round, second, p.came)
	}
}
