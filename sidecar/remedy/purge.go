package remedy

import (
	"context"
	"fmt"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/quarantine"
)

// Purge removes what was put into the quarantine queue.purge_days ago, if that is set, and returns
// how much that was. Whoever has it called has no say in what is removed: that is in the
// configuration and on record. What somebody has moved there by hand stays.
func (h *Host) Purge(ctx context.Context, now time.Time) (removed int, err error) {
	c, err := h.Config()
	if err != nil || c.Queue.PurgeDays == 0 {
		return 0, err
	}
	q, err := h.Queue(ctx, nil)
	if err != nil {
		return 0, err
	}
	end, err := h.AloneAtQueue(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	all, err := h.Actions()
	if err != nil {
		return 0, err
	}
	old, err := quarantine.PutBefore(all, now.AddDate(0, 0, -int(c.Queue.PurgeDays)))
	if err != nil {
		return 0, err
	}
	queues := q.Queues(Follow)
	if old = queues.There(old); len(old) == 0 {
		return 0, nil
	}
	a := action.Action{Verb: quarantine.Remove, Why: fmt.Sprintf("queue.purge_days = %d", c.Queue.PurgeDays)}
	_, err = h.Act(a, quarantine.Values{Messages: old}, func(int) (any, error) {
		r, err := queues.Remove(ctx, old)
		if removed = len(r.Done); len(r.Left) > 0 && err == nil {
			err = fmt.Errorf("%d of %d messages are in the quarantine still: %s", len(r.Left), len(old), r.Said)
		}
		return r, err
	})
	return removed, err
}
