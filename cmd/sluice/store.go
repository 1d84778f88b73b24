package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore"
	"sluice/sidecar/config"
	"sluice/sidecar/operator"
)

// storeURL is store.url, wherever it is.
func storeURL(c *config.Config) (string, error) {
	url, err := c.StoreURL()
	if err != nil {
		err = fmt.Errorf("%s: %w", c.Origin("store.url_file"), err)
	}
	return url, err
}

// storeError adds to an error about store.url where that is set. Such errors never have
// the URL itself in them.
func storeError(c *config.Config, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: store.url: %w", c.Origin("store.url"), err)
}

// openStore opens the node's own ledger. If nodes share a Redis, it also opens the shared
// store, which uses both the ledger and Redis. Redis need not answer yet.
func (n *node) openStore() (err error) {
	c := n.config
	url, err := storeURL(c)
	if err != nil {
		return err
	}
	n.ledger, err = journal.Open(c.Store.Dir, journal.Options{
		Ledger: ratelimit.Options{MaxSubjects: int(c.Store.MaxSubjects), Keep: c.LongestWindow(),
			Named: func(subject string) bool { return n.engine != nil && n.engine.Names(subject) }},
		Reporter: storeEvents{n.events},
	})
	if err != nil {
		return err
	}
	if url == config.Embedded {
		return nil
	}
	n.shared, err = redisstore.Open(redisstore.Options{
		URL: url, Timeout: c.Store.Timeout, Outage: redisstore.Outage(c.Store.Outage),
		Node: n.name, Nodes: int(c.Store.Nodes), Ledger: n.ledger, Reporter: storeEvents{n.events},
		Changed: func(subject string) { n.engine.Changed(subject) }, Called: n.metrics.CalledRedis,
	})
	if err != nil {
		return storeError(c, err)
	}
	n.shared.SetConfig(c.Hash())
	return nil
}

// runStore runs both stores until ctx is done.
func (n *node) runStore(ctx context.Context, run func(func() error)) {
	run(func() error { return n.ledger.Run(ctx) })
	if n.shared != nil {
		run(func() error { return n.shared.Run(ctx) })
	}
}

// closeStore closes the connections to Redis, and saves the counts.
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

// sharedStatus is the status of the Redis that nodes share.
func (n *node) sharedStatus() operator.SharedStatus {
	st := n.shared.Status()
	status := operator.SharedStatus{Mode: st.Mode, Changes: st.Changes, Unmerged: st.Unmerged, Of: n.config.Store.Nodes,
		Namesake: st.Namesake, Servers: []operator.ServerStatus{}, Nodes: []operator.NodeStatus{}}
	for _, s := range st.Servers {
		status.Servers = append(status.Servers, operator.ServerStatus{Server: s.Name, Mode: s.Mode, Since: s.Since,
			Milliseconds: milliseconds(s.Latency), Trouble: s.Trouble, Blocked: s.Blocked, Evicts: s.Evicts, BadKey: s.BadKey})
	}
	for _, o := range st.Nodes {
		if o.Name == n.name { // what it last announced to the others may be out of date
			o.Mode, o.Namesake = st.Mode, st.Namesake
		}
		status.Nodes = append(status.Nodes, operator.NodeStatus{Node: o.Name, SignAge: o.Age.Seconds(), Mode: o.Mode,
			Milliseconds: milliseconds(o.Latency), Differs: o.Config != st.Config, Namesake: o.Namesake})
	}
	return status
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
