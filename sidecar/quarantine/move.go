package quarantine

import (
	"context"
	"slices"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/exim"
)

// Quarantine moves messages into the quarantine, a named queue where nothing is delivered.
func (q Queues) Quarantine(ctx context.Context, messages []Place) (Result, error) {
	return q.move(ctx, messages, func(Place) string { return sidecar.QuarantineQueue })
}

// Restore moves messages from the quarantine, each into its queue of to. Those that are older than
// the site's retry rules are noted as Late before.
func (q Queues) Restore(ctx context.Context, now time.Time, to []Place) (r Result, err error) {
	queues, from := make(map[string]string, len(to)), make([]Place, len(to))
	for i, p := range to {
		queues[p.ID], from[i] = p.Queue, Place{p.ID, sidecar.QuarantineQueue}
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
	return q.do(ctx, messages, job{to,
		func(to string) []string { return []string{"-MG", to} },
		func(ctx context.Context, p Place, r *Result) state { return q.moved(ctx, p, to(p), r) }})
}

// Mend removes from the quarantine what is in another queue too, since a move was interrupted, and
// returns those messages.
func (q Queues) Mend(ctx context.Context) (ids []string, err error) {
	quarantined, elsewhere := map[string]bool{}, map[string]bool{}
	err = exim.WalkSpool(q.Directory, func(f exim.SpoolFile) bool {
		if f.Queue == sidecar.QuarantineQueue {
			quarantined[f.ID] = true
		} else {
			elsewhere[f.ID] = true
		}
		return ctx.Err() == nil
	})
	for id := range quarantined {
		if elsewhere[id] {
			ids = append(ids, id)
		}
	}
	if err == nil {
		_, err = q.Exim.Act(ctx, sidecar.QuarantineQueue, ids, "-Mrm")
	}
	return ids, err
}

// moved looks where a message is that was to be moved. Of one that is in both queues, the copy in
// the quarantine is removed: the other may have been delivered to some meanwhile, and only that one
// knows to whom. While it is delivered, Exim removes neither.
func (q Queues) moved(ctx context.Context, p Place, to string, r *Result) state {
	source, target := q.has(p.ID, p.Queue), q.has(p.ID, to)
	if source && target && ctx.Err() == nil {
		q.Exim.Act(ctx, sidecar.QuarantineQueue, []string{p.ID}, "-Mrm") // what came of it is looked up
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
