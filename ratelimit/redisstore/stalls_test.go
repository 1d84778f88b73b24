package redisstore

import (
	"testing"
	"time"

	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

func TestStallsBetween(t *testing.T) {
	at := func(ms int) time.Time {
		return time.UnixMilli(1_800_000_000_000).Add(time.Duration(ms) * time.Millisecond)
	}
	var s stalls
	if got := s.between(at(0), at(100)); got != 0 {
		t.Errorf("%v without a timer", got)
	}
	s.fired(at(0), at(10))
	s.fired(at(10), at(20))
	s.fired(at(35), at(45)) // 15 late
	for _, test := range []struct{ from, to, want int }{
		{0, 20, 0}, {0, 40, 15}, {25, 30, 5}, {30, 40, 5}, {35, 45, 0},
		{40, 70, 25}, // and has not fired yet
		{0, 70, 40},
	} {
		if got := s.between(at(test.from), at(test.to)); got != time.Duration(test.want)*time.Millisecond {
			t.Errorf("from %d to %d: %v, want %d ms", test.from, test.to, got, test.want)
		}
	}
	for i := range 200 { // a ring
		s.fired(at(1001+10*i), at(1010+10*i))
	}
	if got := s.between(at(0), at(70)); got != 0 {
		t.Errorf("%v of long ago", got)
	}
}

// Redis has not failed whose answers come while this process is not let run. One that does
// not answer at all is found to be dead all the same.
func TestAStarvedNodeDoesNotBlameRedis(t *testing.T) {
	t.Parallel()
	for _, starved := range []bool{false, true} {
		r := redistest.Start(t)
		own, err := journal.Open(t.TempDir(), journal.Options{Reporter: &heard{}})
		if err != nil {
			t.Fatal(err)
		}
		defer own.Close()
		n, err := Open(Options{URL: r.URL(), Timeout: min(hosttest.Deadline(100*time.Millisecond), time.Second), Outage: OutageShare, Node: "a", Nodes: 1, Ledger: own, Reporter: &heard{}})
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		l := n.servers.single
		hosttest.Eventually(t, "shared", func() bool {
			n.heartbeat(t.Context(), l)
			return l.ready.Load()
		})
		sent := 0
		take := func() {
			sent++
			if res, err := n.Take(t.Context(), time.Now(), take(sent, 1, hourly("a.example", 1000))); err != nil || !res.OK {
				t.Fatalf("%+v, %v", res, err)
			}
		}
		hosttest.Eventually(t, "an answer", func() bool {
			n.heartbeat(t.Context(), l)
			n.merge(t.Context())
			take()
			return l.ready.Load() && n.outbox.len() == 0
		})
		if starved { // the timer is due from now on, and does not fire
			n.servers.stalls.fired(time.Now(), time.Now())
		}
		r.Freeze()
		failed := 0
		for ; l.ready.Load() && failed < 100; failed++ {
			take()
		}
		r.Thaw()
		if want := failures; !starved && failed != want {
			t.Errorf("lost after %d failures, want %d", failed, want)
		}
		if want := failures + maxExcused; starved && failed != want {
			t.Errorf("starved: lost after %d failures, want %d", failed, want)
		}
	}
}
