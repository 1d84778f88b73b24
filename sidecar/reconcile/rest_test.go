package reconcile

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"sluice/ratelimit"
)

// emptyStore counts nothing.
type emptyStore struct{ Store }

func (emptyStore) Horizon(time.Time) time.Time                        { return time.Time{} }
func (emptyStore) Standings(time.Time, func(ratelimit.Standing) bool) {}
func (emptyStore) Size() (subjects, sends, uncounted int64)           { return 0, 0, 0 }

func TestTheLoopRestsAfterManyDomains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const took = time.Millisecond // of each domain
		l := New(Options{Store: emptyStore{}})
		done := map[string]time.Time{}
		l.Add(Owner{Reconcile: func(_ context.Context, _ time.Time, domain string) error {
			time.Sleep(took)
			done[domain] = time.Now()
			return nil
		}})
		began := time.Now()
		ctx, cancel := context.WithCancel(t.Context())
		stopped := make(chan error)
		go func() { stopped <- l.Run(ctx) }()
		at := func(after time.Duration, domains ...string) {
			time.Sleep(time.Until(began.Add(after)))
			l.ReconcileSoon(domains...)
		}
		var many []string
		for i := range manyDirty + 1 {
			many = append(many, fmt.Sprintf("%d.example", i))
		}
		at(1100*time.Millisecond, many...)
		at(1800*time.Millisecond, "resting.example")
		at(3500*time.Millisecond, "rested.example")
		time.Sleep(2 * time.Second)
		cancel()
		<-stopped
		for domain, want := range map[string]time.Duration{"resting.example": 2 * time.Second, "rested.example": 3500 * time.Millisecond} {
			if got := done[domain].Sub(began); got != want+took {
				t.Errorf("%s: after %v, want %v", domain, got, want+took)
			}
		}
	})
}
