package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore"
	"sluice/sidecar/operator"
)

// embedded is the store.url of a node that counts by itself.
const embedded = "embedded:"

// openStore opens the ledger, and over it the Redis that nodes share, if there
// is one. That Redis need not answer.
func (n *node) openStore() (err error) {
	c := n.config
	n.ledger, err = journal.Open(c.Store.Dir, journal.Options{
		Ledger:   ratelimit.Options{MaxSubjects: int(c.Store.MaxSubjects), Keep: c.Keep()},
		Reporter: storeEvents{n.events},
	})
	if err != nil {
		return err
	}
	n.store = n.ledger
	if c.Store.URL == embedded {
		return nil
	}
	n.shared, err = redisstore.Open(redisstore.Options{
		URL: c.Store.URL, Timeout: c.Store.Timeout, Outage: redisstore.Outage(c.Store.Outage),
		Node: n.name, Nodes: int(c.Store.Nodes), Ledger: n.ledger, Reporter: storeEvents{n.events},
		Turned: func(subject string) { n.policy.Turned(subject) },
	})
	if err != nil {
		return fmt.Errorf("%s: %w", c.Origin("store.url"), err)
	}
	n.shared.SetConfig(c.Hash())
	n.store = n.shared
	return nil
}

// runStore runs both until ctx is done.
func (n *node) runStore(ctx context.Context, run func(func() error)) {
	run(func() error { return n.ledger.Run(ctx) })
	if n.shared != nil {
		run(func() error { return n.shared.Run(ctx) })
	}
}

// closeStore gives Redis up, and saves the counts.
func (n *node) closeStore() error {
	var err error
	if n.shared != nil {
		err = n.shared.Close()
	}
	if n.ledger == nil {
		return err
	}
	if saved := n.ledger.Close(); saved != nil {
		err = errors.Join(err, fmt.Errorf("save the counts: %w", saved))
	}
	return err
}

// sharedStatus tells how the Redis is that nodes share.
func (n *node) sharedStatus() operator.SharedStatus {
	st := n.shared.Status()
	told := operator.SharedStatus{Mode: st.Mode, Changes: st.Changes, Unmerged: st.Unmerged, Of: n.config.Store.Nodes,
		Servers: []operator.ServerStatus{}, Nodes: []operator.NodeStatus{}}
	for _, s := range st.Servers {
		told.Servers = append(told.Servers, operator.ServerStatus{Server: s.Name, Mode: s.Mode, Since: s.Since,
			Milliseconds: milliseconds(s.Latency), Trouble: s.Trouble, Evicts: s.Evicts})
	}
	for _, o := range st.Nodes {
		if o.Name == n.name { // what it last told the others may not be so any more
			o.Mode = st.Mode
		}
		told.Nodes = append(told.Nodes, operator.NodeStatus{Node: o.Name, SignAge: o.Age.Seconds(), Mode: o.Mode,
			Milliseconds: milliseconds(o.Latency), Differs: o.Config != st.Config})
	}
	return told
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
