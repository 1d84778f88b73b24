package hold

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// Exim delivers what is released in two processes at a time with twenty messages each:
// enough to empty a queue soon, and too few to load the host.
const (
	releaseProcesses = 2
	releaseMessages  = 20
	// releaseAgain is how long a message waits for its next try if the router has not
	// asked since the last one: Exim could not be run, or had the message open just then.
	releaseAgain = time.Minute
	// releaseSoon is used instead if the router had asked less than releaseSoon before
	// the try: then the Exim process that asked still had the message open.
	releaseSoon = 2 * time.Second
)

// startRelease begins to deliver what is held of a subject, unless that is going on or
// there is no room.
func (h *Holds) startRelease(ctx context.Context, now time.Time, subject string) {
	if len(h.releasable(ctx, now, subject, now)) == 0 {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current[subject] == 0 {
		h.begun++
		number := h.begun
		h.current[subject] = number
		h.releases.Go(func() { h.runRelease(ctx, subject, number) })
	}
}

// isCurrent reports whether a release is still the one of its subject; see Reset.
func (h *Holds) isCurrent(subject string, number int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current[subject] == number
}

// runRelease has Exim deliver held messages, the oldest first, until the limit is
// reached again. Each is tried once; the router asks about it as always.
func (h *Holds) runRelease(ctx context.Context, subject string, number int) {
	before, began := h.NumberIn(subject), time.Now()
	for ctx.Err() == nil && h.isCurrent(subject, number) {
		start := time.Now()
		ids := h.releasable(ctx, start, subject, began)
		if len(ids) == 0 {
			break
		}
		h.setTried(subject, ids, start)
		h.deliver(ctx, ids)
	}
	if !h.end(subject, number) {
		return
	}
	event.EmitError(h.Events, event.StoreFailed, h.expire(subject, time.Now()))
	if left := h.NumberIn(subject); left < before {
		h.Events.Emit(event.Event{Kind: event.Released, Domain: subject, Attrs: event.Attrs("recipients", before-left, "still_held", left)})
	}
}

// end ends a release, and reports whether it was still the one of its subject.
func (h *Holds) end(subject string, number int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.current[subject] != number {
		return false
	}
	delete(h.current, subject)
	return true
}

// room is how much of a payer's held mail may be delivered now.
type room struct {
	sidecar.Room
	authors map[string]int // of Sends: how many may be an author's that was asked about
}

// reserve subtracts the room that a held message needs, and reports whether there was enough. What
// was charged before counts as a retry only.
func (r *room) reserve(m *heldMessage) bool {
	switch {
	case m.charged > 0 && r.Retries > 0:
		r.Retries -= m.charged
	case r.Sends > 0 && r.of(m.author) > 0:
		r.Sends--
		r.authors[m.author.Key]--
	default:
		return false
	}
	return true
}

// of returns for how many sends of an author there is room.
func (r *room) of(a sidecar.Author) int {
	n, known := r.authors[a.Key]
	if !known {
		if n = r.Sends; r.Of != nil {
			n = r.Of(a)
		}
		r.authors[a.Key] = n
	}
	return n
}

// releasable returns the ids of the oldest held messages for which there is room and that
// were not tried after since, at most as many as are delivered at once.
func (h *Holds) releasable(ctx context.Context, now time.Time, subject string, since time.Time) (ids []string) {
	waiting := slices.DeleteFunc(h.heldIn(subject), func(m heldMessage) bool {
		again := releaseAgain
		if m.tried.Sub(m.asked) < releaseSoon {
			again = releaseSoon
		}
		unasked := !m.asked.After(m.tried) && now.Sub(m.tried) < again
		return unasked || m.tried.After(since) ||
			h.Waits != nil && h.Waits(now, sidecar.Held{Payer: m.who, ID: m.id, Author: m.author, Stop: m.stop})
	})
	slices.SortFunc(waiting, func(a, b heldMessage) int {
		if a.last != b.last {
			if a.last {
				return 1
			}
			return -1
		}
		return strings.Compare(a.id, b.id) // Exim's ids begin with the time
	})
	rooms := map[sidecar.Payer]*room{}
	for _, m := range waiting {
		if len(ids) == releaseProcesses*releaseMessages {
			break
		}
		if rooms[m.who] == nil {
			rooms[m.who] = &room{h.Room(ctx, now, m.who), map[string]int{}}
		}
		if rooms[m.who].reserve(&m) {
			ids = append(ids, m.id)
		}
	}
	return ids
}

// deliver shares messages among the processes, and returns when all are done.
func (h *Holds) deliver(ctx context.Context, ids []string) {
	var processes sync.WaitGroup
	for n := min(len(ids), releaseProcesses); n > 0; n-- {
		share := ids[:len(ids)/n]
		ids = ids[len(share):]
		processes.Go(func() {
			if err := h.Queue.Deliver(ctx, share); err != nil {
				h.Events.Emit(event.Event{Kind: event.DeliverFailed, Attrs: event.Attrs("messages", len(share), "first", share[0]), Err: err})
			}
		})
	}
	processes.Wait()
}
