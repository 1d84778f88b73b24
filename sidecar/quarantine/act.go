package quarantine

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"

	"sluice/sidecar/exim"
)

// Remove has Exim remove messages: there is no way back.
func (q Queues) Remove(ctx context.Context, messages []Place) (Result, error) {
	return q.do(ctx, messages, job{nil, always("-Mrm"), func(_ context.Context, p Place, _ *Result) state {
		if q.has(p.ID, p.Queue) {
			return left
		}
		return done
	}})
}

// Freeze has Exim try messages no more, until they are thawed or timeout_frozen_after bounces them.
func (q Queues) Freeze(ctx context.Context, messages []Place) (Result, error) {
	return q.do(ctx, messages, job{nil, always("-Mf"), q.frozen(true)})
}

// Thaw takes that back.
func (q Queues) Thaw(ctx context.Context, messages []Place) (Result, error) {
	return q.do(ctx, messages, job{nil, always("-Mt"), q.frozen(false)})
}

// frozen looks whether messages are frozen, or not, as they are to be.
func (q Queues) frozen(want bool) func(context.Context, Place, *Result) state {
	return func(_ context.Context, p Place, _ *Result) state {
		switch is, there, err := q.Frozen(p); {
		case !there:
			return gone
		case err == nil && is == want:
			return done
		}
		return left
	}
}

// Frozen reports whether a message is frozen, and whether it is in its queue. Of a header that
// cannot be read the error says why.
func (q Queues) Frozen(p Place) (frozen, there bool, err error) {
	file, there := exim.FindSpoolFile(q.Directory, p.Queue, p.ID)
	if !there {
		return false, false, nil
	}
	h, err := file.Header()
	if errors.Is(err, fs.ErrNotExist) { // it has left meanwhile
		return false, false, nil
	}
	return !h.Frozen.IsZero(), true, err
}

// deliveries is how many processes of Exim deliver at a time: mail for a host that does not
// answer must not keep all other from going.
const deliveries = 4

// Deliver has Exim try messages once, now. Done of the result are those that have left the queue,
// and Left those that wait on. It ends with ctx, and what Exim has begun goes on then.
func (q Queues) Deliver(ctx context.Context, messages []Place) (all Result, err error) {
	q.Again = func(context.Context) bool { return false }
	j := job{nil, always("-M"), func(_ context.Context, p Place, _ *Result) state {
		if q.has(p.ID, p.Queue) {
			return left
		}
		return done
	}}
	var mu sync.Mutex
	var running sync.WaitGroup
	for share := range slices.Chunk(messages, len(messages)/deliveries+1) {
		running.Go(func() {
			r, failed := q.do(ctx, share, j)
			mu.Lock()
			defer mu.Unlock()
			all.Done, all.Left = append(all.Done, r.Done...), append(all.Left, r.Left...)
			if err == nil {
				err = failed
			}
		})
	}
	running.Wait()
	return all, err
}

func always(option string) func(string) []string {
	return func(string) []string { return []string{option} }
}
