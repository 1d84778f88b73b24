package redisstore

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/ratelimit/storetest"
	"sluice/sidecar/hosttest"
)

func TestMain(m *testing.M) {
	checks := "80"
	if hosttest.Soak() {
		checks = "20000"
	}
	flag.Set("rapid.checks", checks) // the command line may say otherwise
	quiet()                          // both before the first client
	redistest.Quiet()
	hosttest.Shuffle()
	flag.Parse()
	goleak.VerifyTestMain(m)
}

// timed is a Store and its Redis, both with the time of the test.
type timed struct {
	*Store
	at time.Time
}

// set sets the clock of Redis. A ledger has one for all subjects, which goes on
// by a millisecond at a reset and for a new window; Redis has one for each slot, so
// here it follows the ledger's and what a slot has answered.
func (s *timed) set(now time.Time) {
	s.extendRetention(context.Background()) // as Run does with every sign of life
	own, _ := s.ledger.Look(context.Background(), time.Time{}, ratelimit.Take{})
	for _, t := range []time.Time{now, own.At} {
		if t.After(s.at) {
			s.at = t
		}
	}
}

func (s *timed) Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	s.set(now)
	r, err := s.heard(s.Store.Take(ctx, s.at, t))
	if err != nil {
		err = fmt.Errorf("%w: %v", err, s.servers.single.reason(nil))
	}
	return r, err
}

func (s *timed) Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	s.set(now)
	return s.heard(s.Store.Look(ctx, s.at, t))
}

// heard moves the clock on to the time of an answer.
func (s *timed) heard(r ratelimit.Result, err error) (ratelimit.Result, error) {
	if r.At.After(s.at) {
		s.at = r.At
	}
	return r, err
}

func (s *timed) Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error {
	s.set(now)
	return s.Store.Settle(ctx, s.at, reports)
}

func (s *timed) Uncharge(ctx context.Context, now time.Time, tokens []ratelimit.Token) error {
	s.set(now)
	return s.Store.Uncharge(ctx, s.at, tokens)
}

func (s *timed) Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error) {
	s.set(now)
	return s.Store.Reset(ctx, s.at, subject, seen)
}

func (s *timed) Standing(now time.Time, subject string) ratelimit.Standing {
	s.set(now)
	return s.Store.Standing(s.at, subject)
}

// TestAgainstAnExactLog holds the store to what the ledger is held to. For
// each history the Redis is emptied, and the node begins anew.
func TestAgainstAnExactLog(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--unixsocketperm", "700")
	dir, n := t.TempDir(), 0
	stop := func() {}
	storetest.Property(t, func() storetest.Store {
		stop()
		r.Do("flushall")
		n++
		var s storetest.Store
		s, stop = openTimed(t, r, filepath.Join(dir, fmt.Sprint(n)), ratelimit.Options{})
		return s
	})
	stop()
}

func TestWithholds(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--unixsocketperm", "700")
	storetest.Withheld(t, func() storetest.Store {
		r.Do("flushall")
		s, stop := openTimed(t, r, t.TempDir(), ratelimit.Options{})
		t.Cleanup(stop)
		return s
	})
}

func TestAtTheCeiling(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--unixsocketperm", "700")
	storetest.Ceiling(t, func(o ratelimit.Options) storetest.Store {
		s, stop := openTimed(t, r, t.TempDir(), o)
		t.Cleanup(stop)
		return s
	})
}

// openTimed opens a store with a ledger of its own, and returns what closes both.
func openTimed(t *testing.T, r *redistest.Server, dir string, o ratelimit.Options) (storetest.Store, func()) {
	own, err := journal.Open(dir, journal.Options{Ledger: o, Reporter: &heard{}})
	if err != nil {
		t.Fatal(err)
	}
	s := &timed{}
	s.Store, err = Open(Options{URL: "unix://" + filepath.Join(r.Dir, "s"), Timeout: hosttest.Deadline(5 * time.Second), Outage: OutageClosed,
		Node: "a", Nodes: 1, Ledger: own, Reporter: &heard{}, RedisTime: func() time.Time { return s.at }})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.heartbeat(context.Background(), s.servers.single); err != nil || !s.servers.single.ready.Load() {
		t.Fatalf("not ready: %v", err)
	}
	return s, func() {
		s.Close()
		own.Close()
		os.RemoveAll(dir)
	}
}
