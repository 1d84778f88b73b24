package quarantine

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
)

// Quarantine moves messages into the quarantine, a named queue where nothing is delivered.
func (q Queues) Quarantine(ctx context.Context, messages []Place) (Result, error) {
	return q.move(ctx, messages, func(Place) string { return logline.QuarantineQueue })
}

// Restore moves messages from the quarantine, each into its queue of to. Those that are older than
// the site's retry rules are noted as Late before.
func (q Queues) Restore(ctx context.Context, now time.Time, to []Place) (r Result, err error) {
	queues, from := make(map[string]string, len(to)), make([]Place, len(to))
	for i, p := range to {
		queues[p.ID], from[i] = p.Queue, Place{p.ID, logline.QuarantineQueue}
	}
	late := q.late(ctx, now, from)
	if len(late) > 0 {
		if err := q.Late.Add(late); err != nil {
			return Result{Left: idsOf(to)}, err
		}
	}
	r, err = q.move(ctx, from, func(p Place) string { return queues[p.ID] })
	r.Late = len(late)
	for i, p := range r.Done {
		r.Done[i].Queue = queues[p.ID]
	}
	return r, err
}

// move has Exim move messages. Its -MG leaves a message in both queues if it dies on the way, and
// will then move it no more.
func (q Queues) move(ctx context.Context, messages []Place, to func(Place) string) (Result, error) {
	var there []Place
	var gone []string // since they were selected; if another command has moved them, that is not done by this one
	for _, p := range messages {
		if q.has(p.ID, p.Queue) {
			there = append(there, p)
		} else {
			gone = append(gone, p.ID)
		}
	}
	r, err := q.do(ctx, there, job{to,
		func(to string) []string { return []string{"-MG", to} },
		func(ctx context.Context, p Place, r *Result) state { return q.moved(ctx, p, to(p), r) }})
	r.Gone = append(r.Gone, gone...)
	return r, err
}

// Halves are the messages of the quarantine that are in another queue too, since a move was
// interrupted, with that queue.
func (q Queues) Halves(ctx context.Context) (halves []Place, err error) {
	quarantined, elsewhere := map[string]bool{}, map[string]string{}
	err = exim.WalkSpool(q.Directory, func(f exim.SpoolFile) bool {
		if f.Queue == logline.QuarantineQueue {
			quarantined[f.ID] = true
		} else {
			elsewhere[f.ID] = f.Queue
		}
		return ctx.Err() == nil
	})
	for id := range quarantined {
		// What was moved while the queues were read was seen in both, and is in one.
		if queue, is := elsewhere[id]; is && q.half(Place{id, queue}) {
			halves = append(halves, Place{id, queue})
		}
	}
	slices.SortFunc(halves, func(a, b Place) int { return strings.Compare(a.ID, b.ID) })
	return halves, cmp.Or(err, ctx.Err())
}

// Mend removes from the quarantine what is in its other queue too. Each is looked up again right
// before: of what is in the quarantine only, that would be the only one.
func (q Queues) Mend(ctx context.Context, halves []Place) (r Result, err error) {
	for _, p := range halves {
		if err = cmp.Or(err, ctx.Err()); err == nil {
			r.Said, err = q.removeHalf(ctx, p)
		}
		switch {
		case q.has(p.ID, logline.QuarantineQueue):
			r.Left = append(r.Left, p.ID)
		case q.has(p.ID, p.Queue):
			r.Done, r.Twice = append(r.Done, p), append(r.Twice, p.ID)
		default:
			r.Gone = append(r.Gone, p.ID)
		}
	}
	return r, err
}

// removeHalf removes a message from the quarantine if it is in its queue too.
func (q Queues) removeHalf(ctx context.Context, p Place) (said string, err error) {
	if !q.half(p) {
		return "", nil
	}
	said, err = q.Exim.Act(ctx, logline.QuarantineQueue, []string{p.ID}, "-Mrm")
	return lastLine(said), err
}

// half reports whether a message is in its queue and in the quarantine, and stays so: no Exim
// moves it now, which would have its lock, and none will, since a move fails where there is one.
func (q Queues) half(p Place) bool {
	file, there := exim.FindSpoolFile(q.Directory, logline.QuarantineQueue, p.ID)
	if !there {
		return false
	}
	unlock, free := file.Lock()
	if !free {
		return false
	}
	defer unlock()
	return q.has(p.ID, p.Queue) && q.has(p.ID, logline.QuarantineQueue)
}

// moved looks where a message is that was to be moved. Of one that is in both queues, the copy in
// the quarantine is removed: the other may have been delivered to some meanwhile, and only that one
// knows to whom. While it is delivered, Exim removes neither.
func (q Queues) moved(ctx context.Context, p Place, to string, r *Result) state {
	source, target := q.has(p.ID, p.Queue), q.has(p.ID, to)
	if source && target && ctx.Err() == nil {
		other := Place{p.ID, p.Queue}
		if p.Queue == logline.QuarantineQueue {
			other.Queue = to
		}
		q.removeHalf(ctx, other) // what came of it is looked up
		source, target = q.has(p.ID, p.Queue), q.has(p.ID, to)
		if source != target && !slices.Contains(r.Twice, p.ID) {
			r.Twice = append(r.Twice, p.ID)
		}
	}
	switch {
	case source:
		return left
	case target:
		return done
	}
	return gone
}
