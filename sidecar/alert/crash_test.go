package alert

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
)

// Incidents open, change and close while sluice is stopped at any moment and begins again with
// what the disk has, and a channel fails every third time. Each is told, and no end before its
// begin.
func TestCrashesKeepTheOrder(t *testing.T) {
	rounds := 30
	if hosttest.Soak() {
		rounds = 200
	}
	synctest.Test(t, func(t *testing.T) {
		seed := rand.Uint64()
		var mu sync.Mutex
		source := rand.New(rand.NewPCG(seed, 1))
		random := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return source.IntN(n)
		}
		d := newDesk(t, anyone+"[alert]\nper_hour = 1000\n")
		d.now = time.Now()
		got := map[string][]State{}
		send := func(ctx context.Context, _ config.Channel, n Notice) error {
			time.Sleep(time.Duration(random(3)) * time.Second)
			if random(3) == 0 {
				return errors.New("away")
			}
			mu.Lock()
			defer mu.Unlock()
			got[n.Incident] = append(got[n.Incident], n.State)
			return ctx.Err() // it may have been delivered, and nobody knows
		}
		d.Send = send
		var all []*incident.Incident
		for round := range rounds {
			stop := d.run()
			i := d.opened(int64(round), fmt.Sprintf("d%d.example", round), incident.Critical)
			all = append(all, i)
			if old := all[random(len(all))]; old.Open() && old != i {
				old.Closed = time.Now()
				d.changes(old, func(*incident.Incident) {})
			}
			time.Sleep(time.Duration(random(5000)) * time.Millisecond)
			stop()
			incidents := d.incidents
			d.receive()
			d.open(d.Dir)
			d.Send = send
			for _, i := range incidents {
				d.Changed(*i)
			}
		}
		stop := d.run()
		for _, i := range all {
			if i.Open() {
				i.Closed = time.Now().Add(time.Second)
				d.changes(i, func(*incident.Incident) {})
			}
		}
		time.Sleep(20 * time.Hour)
		stop()
		for _, i := range all {
			states := got[i.ID.String()]
			closed := false
			for _, s := range states {
				if s == StateClosed {
					closed = true
				} else if closed {
					t.Errorf("seed %d: %s was told as %v", seed, i.ID, states)
				}
			}
			if len(states) == 0 || states[0] != StateOpen || !closed {
				t.Errorf("seed %d: %s was told as %v", seed, i.ID, states)
			}
		}
		if d.files() != 0 {
			t.Errorf("%d files are left", d.files())
		}
	})
}
