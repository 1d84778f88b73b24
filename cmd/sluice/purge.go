package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/remedy"
)

// purgeVerb is what serve says to sluice deliver to have the quarantine purged: serve itself cannot
// run Exim. It says no more than that: what is removed stands in the configuration and in the
// record of actions.
const purgeVerb = "quarantine\n"

// purgePeriod is how often that is done, and purgeFor how long it may take.
const (
	purgePeriod = time.Hour
	purgeFor    = 10 * time.Minute
)

// A purged is the answer of sluice deliver.
type purged struct {
	Removed int    `json:"removed"`
	Failed  string `json:"failed,omitempty"`
}

// deliverPurge is what sluice deliver does then. It ends when nobody waits for it any more: where a
// command holds the queue for long, one more would wait each hour, until none can be started.
func deliverPurge(t *terminal) error {
	var p purged
	ctx, cancel := context.WithTimeout(t.ctx, purgeFor)
	defer cancel()
	var err error
	if p.Removed, err = t.host().Purge(ctx, time.Now()); err != nil {
		p.Failed = err.Error()
	}
	return json.NewEncoder(t.stdout).Encode(p)
}

// askPurge has sluice deliver purge the quarantine, if it listens on a socket, and does it itself
// if not.
func askPurge(ctx context.Context, helper string, host *remedy.Host) (removed int, err error) {
	c, err := net.Dial("unix", helper)
	if err != nil {
		return host.Purge(ctx, time.Now())
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	c.SetDeadline(time.Now().Add(purgeFor))
	var p purged
	if _, err = io.WriteString(c, purgeVerb); err == nil {
		err = json.NewDecoder(io.LimitReader(c, 1<<16)).Decode(&p)
	}
	if err != nil {
		return 0, fmt.Errorf("have sluice deliver purge the quarantine: %w", err)
	}
	if p.Failed != "" {
		err = errors.New(p.Failed)
	}
	return p.Removed, err
}

// purge has the quarantine purged each purgePeriod until ctx is done, if that is wanted.
func (n *node) purge(ctx context.Context) error {
	tick := time.NewTicker(purgePeriod)
	defer tick.Stop()
	failed := false
	for {
		if n.engine.Config().Queue.PurgeDays > 0 {
			removed, err := askPurge(ctx, n.helper, n.host)
			if removed > 0 {
				n.events.Emit(event.Event{At: time.Now(), Kind: event.QueuePurged, Attrs: event.Attrs("messages", removed)})
			}
			if err != nil && !failed && ctx.Err() == nil {
				n.events.Emit(event.Event{At: time.Now(), Kind: event.QueueUnpurged, Err: err})
			}
			failed = err != nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
