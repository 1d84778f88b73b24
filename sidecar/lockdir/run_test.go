package lockdir

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/lockfile"
)

// running runs the rig's Dir until the test ends, and hands over its events.
func (r *rig) running(poll time.Duration, hook func(lockfile.Event)) <-chan lockfile.Event {
	return r.runningOn(r.path, poll, hook)
}

// runningOn is running with the kernel's notices of another directory.
func (r *rig) runningOn(watched string, poll time.Duration, hook func(lockfile.Event)) <-chan lockfile.Event {
	r.d.poll = poll
	events := make(chan lockfile.Event, 10000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() {
		done <- r.d.run(ctx, &watch{path: watched}, func(e lockfile.Event) {
			hook(e)
			events <- e
		})
	}()
	r.t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			r.t.Error(err)
		}
	})
	return events
}

func ignore(lockfile.Event) {}

// next waits for an event of a kind; others in between are passed over.
func next(t testing.TB, events <-chan lockfile.Event, kind lockfile.EventKind) lockfile.Event {
	t.Helper()
	deadline := time.After(hosttest.Patience())
	for {
		select {
		case e := <-events:
			if e.Kind == kind {
				return e
			}
		case <-deadline:
			t.Fatalf("no event of kind %d: %s", kind, hosttest.Missed(hosttest.Patience()))
		}
	}
}

// releasedAtOnce removes a lock and wants it noticed, by the kernel's notice alone:
// the poll is never, and no other look is due.
func (r *rig) releasedAtOnce(events <-chan lockfile.Event) {
	r.t.Helper()
	r.make(hourly)
	hosttest.Eventually(r.t, "no look is due", func() bool { return !r.d.unsettled() })
	time.Sleep(quiet) // the last one, which was due before
	r.rm(hourly)
	next(r.t, events, lockfile.RemovedByHand)
}

const never = time.Hour // a poll that does not help

func TestRunNoticesAHandAtOnce(t *testing.T) {
	r := newRig(t)
	events := r.running(never, ignore)
	r.create(other) // also waits for the watch to stand
	next(t, events, lockfile.Made)
	r.releasedAtOnce(events)
	r.make(hourly)
	r.touch(hourly, noon)
	next(t, events, lockfile.TakenOver)
}

func TestRunPollsBehindTheWatch(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	events := r.runningOn(t.TempDir(), 20*time.Millisecond, ignore)
	r.rm(hourly)
	next(t, events, lockfile.RemovedByHand)
	r.create(other)
	next(t, events, lockfile.Made)
}

func TestRunFollowsTheDirectory(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	events := r.running(never, ignore)
	for i := range 3 {
		r.rmRf()
		if i == 1 {
			r.must(os.Mkdir(r.path, 0o755))
		}
		next(t, events, lockfile.DirLost)
		r.wantState(hourly, "sluice")
	}
	r.releasedAtOnce(events) // the new directory is watched too
}

// rm -rf of the directory under load releases nothing; rm * releases all.
func TestRunTellsRmRfFromRmStar(t *testing.T) {
	r := newRig(t)
	var locks []lockfile.Lock
	for i := range 50 {
		l := lockfile.Lock{Kind: lockfile.Hourly, Domain: fmt.Sprintf("d%03d.example", i)}
		locks = append(locks, l)
		r.make(l)
	}
	events := r.running(never, ignore)
	r.create(other) // waits for the watch to stand
	next(t, events, lockfile.Made)
	r.rmRf()
	if e := <-events; e.Kind != lockfile.DirLost {
		t.Fatalf("rm -rf: event %q", short([]lockfile.Event{e}))
	}
	for _, l := range locks {
		r.rm(l)
	}
	var released []lockfile.Lock
	for range locks {
		released = append(released, next(t, events, lockfile.RemovedByHand).File.Lock)
	}
	slices.SortFunc(released, byName)
	if !slices.Equal(released, locks) {
		t.Errorf("rm * released %d of %d", len(released), len(locks))
	}
}

// Whoever hears of an event may call every method, and a method that finds
// something wakes Run.
func TestRunCallsBack(t *testing.T) {
	r := newRig(t)
	r.make(hourly)
	r.make(deferfail)
	events := r.running(never, func(e lockfile.Event) {
		if e.Kind == lockfile.RemovedByHand {
			r.must(r.d.Unmake(deferfail))
			r.must(r.d.Remove(other))
			r.make(other)
			r.d.Files("")
		}
	})
	r.rm(hourly)
	next(t, events, lockfile.RemovedByHand)
	r.wantState(other, "sluice")
	r.edit(other)
	r.must(r.d.Unmake(other))
	next(t, events, lockfile.TakenOver)
}

// None of our own doings is an event, however many goroutines do them while
// the watcher looks.
func TestOwnDoingsAreNoEvents(t *testing.T) {
	r := newRig(t)
	events := r.running(2*time.Millisecond, ignore)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			l := lockfile.Lock{Kind: lockfile.Hourly, Domain: fmt.Sprintf("d%d.example", g%4)}
			for i := range 60 {
				var err error
				switch i % 6 {
				case 0, 2:
					err = r.d.Make(l, "20/20 (100%)", int64(i))
				case 1:
					err = r.d.Unmake(l)
				case 3:
					err = r.d.MakeOperator(l, "locked by root")
				case 4:
					err = r.d.Remove(l)
				case 5:
					r.d.Files("")
					r.d.Files(l.Domain)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	r.create(other)
	for e := range events {
		if e.File.Lock == other {
			break
		}
		t.Errorf("event %v", short([]lockfile.Event{e}))
	}
}
