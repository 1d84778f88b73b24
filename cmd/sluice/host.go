package main

import (
	"context"
	"fmt"
	"math"

	"sluice/sidecar/exim"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/queue"
	"sluice/sidecar/remedy"
	"sluice/sidecar/settings"
)

// host is this host, for what is done to it as root.
func (t *terminal) host() *remedy.Host {
	h := &remedy.Host{Record: t.actions, Audit: t.audit, Config: t.loadConfig, Node: t.node, Account: t.accountOf, Ask: t.askAdmin}
	h.ReadLog = func(logs *mainlog.History, reader mainlog.Reader) error { return readLogs(t, logs, reader) }
	h.Say = func(text string) { printf(t.stderr, "%s\n", text) }
	h.Queue = func(_ context.Context, held func() map[string]int) (*remedy.Queue, error) {
		return t.openQueue(h, held)
	}
	return h
}

// node is the name of this node.
func (t *terminal) node() (string, error) {
	c, err := t.loadConfig()
	if err != nil {
		return "", err
	}
	return nodeName(c)
}

// accountOf finds the account of a domain in what root can read on this host, without the running
// sluice.
func (t *terminal) accountOf(domain string) (string, error) {
	c, err := t.loadConfig()
	if err != nil {
		return "", err
	}
	s, err := settings.New(settings.Sources{Config: c}, settings.Host{}, nil)
	if err != nil {
		return "", fmt.Errorf("find the account of %s: %w", domain, err)
	}
	return s.PayerOfDomain(domain).Account, nil
}

// openQueue finds Exim's queue. What of it is held only a running sluice knows: held, nil if none runs.
func (t *terminal) openQueue(h *remedy.Host, held func() map[string]int) (*remedy.Queue, error) {
	no := false
	o, _, err := foreignFlag{Foreign: &no}.settingsFor(t, nil)
	if err != nil {
		return nil, err
	}
	q := &remedy.Queue{Host: h, Node: o.Node, Exim: exim.Find(t.ctx, o.Config.Exim.Binary), Mainlog: o.Config.Exim.Mainlog}
	if q.Directory = spoolOf(t.ctx, o.Config, q.Exim); q.Directory == "" {
		return nil, fmt.Errorf("%s does not say where Exim's queue is: set exim.spool_directory; %w", o.Config.Exim.Binary, remedy.ErrNotExim)
	}
	s, err := settings.New(settings.Sources{Config: o.Config, Panel: o.Panel}, settings.Host{Node: o.Node, EximUser: o.EximUser, Own: o.Own}, nil)
	if err != nil {
		return nil, err
	}
	// queue.max is for what runs for long: what is cleaned up is to be all there is.
	q.Index = newQueue(queue.Options{Directory: q.Directory, Max: math.MaxInt, Held: held}, func() *settings.Settings { return s })
	return q, nil
}
