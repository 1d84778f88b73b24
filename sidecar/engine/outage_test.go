package engine_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/engine"
	"sluice/sidecar/hosttest"
)

// unheard is told what happens to a Redis, and does not mind. A method that is missing panics.
type unheard struct{ redisstore.Reporter }

func (unheard) RedisLost(string, string, error)     {}
func (unheard) RedisBack(string, time.Duration)     {}
func (unheard) RedisReplaced(string)                {}
func (unheard) RedisReplayed(string, int, int, int) {}

// newRedisOffice is an office that counts in a Redis, by the real time, and knows its people
// for a week.
func newRedisOffice(t *testing.T, redis *redistest.Server, limit int, people ...rate) *office {
	t.Helper()
	own, err := journal.Open(t.TempDir(), journal.Options{Ledger: ratelimit.Options{Keep: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { own.Close() })
	shared, err := redisstore.Open(redisstore.Options{URL: redis.URL(), Timeout: hosttest.Deadline(5 * time.Second), Outage: redisstore.OutageShare,
		Node: "node1", Nodes: 1, Ledger: own, Reporter: unheard{}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); shared.Run(ctx) }()
	t.Cleanup(func() { stop(); <-done; shared.Close() })
	hosttest.Eventually(t, "Redis decides", func() bool { return shared.Status().Mode == "shared" })
	o := &office{max: limit, site: &site{t: t, config: parsed(t, fmt.Sprintf("[limits]\nhourly = %d\nothers_share = 50\n", limit)), ledger: t.TempDir(), dir: t.TempDir(),
		now: time.Now(), shared: shared, board: shared}}
	o.open()
	t.Cleanup(func() { o.store.Close() })
	o.clear()
	for days := 7; days > 0; days-- {
		for _, p := range people {
			o.Who.Charged(o.now.AddDate(0, 0, -days), &attribution.Message{Subject: "a.example", Author: sidecar.Author{Key: p.name + "@a.example", Proof: sidecar.Proven}}, p.hourly)
		}
	}
	o.Who.Tick(t.Context(), o.now)
	return o
}

// As TestAnyOffice, with resets and a Redis that is killed and comes back empty at any time. While it is
// away, mail may have to wait; when it is back, whoever is within its usual hour is served, and
// never are more accepted than the limit.
func TestAnyOfficeWhileRedisComesAndGoes(t *testing.T) {
	for seed := range uint64(5) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 19))
			limit := 100 + random.IntN(200)
			var people []rate
			for i := range 2 + random.IntN(3) {
				people = append(people, rate{fmt.Sprint("p", i), 1 + random.IntN(limit/24)})
			}
			redis := redistest.Start(t)
			o := newRedisOffice(t, redis, limit, people...)
			away := false
			back := func() {
				if away {
					redis.Start()
					hosttest.Eventually(t, "Redis decides again", func() bool { return o.shared.(*redisstore.Store).Status().Mode == "shared" })
				}
				away = false
			}
			send := func(name string, n int) int {
				o.now = time.Now()
				return o.try(name, n)
			}
			left := map[string]int{}
			for _, p := range people {
				left[p.name] = p.hourly
			}
			for range 12 {
				switch random.IntN(5) {
				case 2:
					if !away && o.Reset(t.Context(), time.Now(), "a.example", "root") == nil {
						o.accepted = nil
					}
				case 0:
					if !away {
						redis.Kill()
						away = true
					}
				case 1:
					back()
				}
				send([]string{"eve", "/home/bob/x", "mal"}[random.IntN(3)], 1+random.IntN(limit/2))
				p := people[random.IntN(len(people))]
				n := min(left[p.name], 1+random.IntN(5))
				if got := send(p.name, n); got < n && !away {
					t.Errorf("%s: %d of %d are accepted: %s", p.name, got, n, o.text)
				} else {
					left[p.name] -= got
				}
			}
			back()
			for _, p := range people {
				if got := send(p.name, left[p.name]); got != left[p.name] {
					t.Errorf("in the end %s: %d of %d are accepted: %s", p.name, got, left[p.name], o.text)
				}
			}
			t.Logf("limit %d, sent %v, refused %v", limit, o.sent, o.refused)
			if o.worst > limit || o.refused["eve"]+o.refused["mal"]+o.refused["/home/bob/x"] == 0 {
				t.Errorf("%d of %d in an hour, refused %v", o.worst, limit, o.refused)
			}
		})
	}
	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		o := newRedisOffice(t, redistest.Start(t), 120, rate{"ann", 3})
		if n := o.try("ann", 123); n != 120 {
			t.Errorf("%d of 120", n)
		}
	})
}

// without is a store that takes and finds nothing.
type without struct {
	engine.Store
	err error
}

func (w without) Take(context.Context, time.Time, ratelimit.Take) (ratelimit.Result, error) {
	return ratelimit.Result{}, w.err
}

func (w without) Look(context.Context, time.Time, ratelimit.Take) (ratelimit.Result, error) {
	return ratelimit.Result{}, w.err
}

// Mail that waits because Redis is away and this node's share is used up is no failure of the store.
func TestMailOverThisNodesShareIsNoFailureOfTheStore(t *testing.T) {
	for _, c := range []struct {
		err       error
		want, not string
	}{
		{fmt.Errorf("take: %w", ratelimit.ErrUncounted), `level=WARN msg="mail is deferred or held: Redis does not answer`, "store failed"},
		{errors.New("disk full"), `level=ERROR msg="store failed" error="disk full"`, "Redis"},
	} {
		for _, stage := range []sidecar.Stage{sidecar.StageRcpt, sidecar.StageData, sidecar.StageRoute, sidecar.StagePostfixRcpt} {
			s := newSite(t, limit20)
			store := &without{err: c.err}
			s.shared = store
			s.restart()
			store.Store = s.store
			r := authed(stage)
			r.ID, r.Recipient, r.Recipients, r.Postfix = "1xUzSN-000001-0q", "x@far.example", "x@far.example", sidecar.Postfix{Instance: "1a2.3"}
			s.want(s.Ask(t.Context(), s.now, r), sidecar.Defer, "Domain a.example cannot be counted now")
			if log := s.log.String(); !strings.Contains(log, c.want) || strings.Contains(log, c.not) {
				t.Errorf("%v at %v is logged as %s", c.err, stage, log)
			}
		}
	}
}
