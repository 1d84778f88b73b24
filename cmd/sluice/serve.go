package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore"
	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/engine"
	"sluice/sidecar/event"
	"sluice/sidecar/exim"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/panel"
	"sluice/sidecar/policyd"
	"sluice/sidecar/settings"
)

type serveCmd struct {
	Debug bool `help:"Log each refusal too."`
}

// Help is the long help.
func (serveCmd) Help() string {
	return `Runs in the foreground and logs to stderr. On SIGTERM it takes no more questions,
answers those in flight, saves, and ends; counts survive that, and kill -9 too.

Examples:
  sluice serve
  sluice serve --config /etc/sluice/trial.toml`
}

func (c serveCmd) Run(t *terminal) error {
	level := slog.LevelInfo
	if c.Debug {
		level = slog.LevelDebug
	}
	log := newLog(t.stderr, level)
	file := followConfig(t.configFile, t.servedConfig)
	config, err := t.servedConfig()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	n, err := openNode(t.ctx, config, log)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	n.file = file
	if n.shared != nil {
		file.tell = n.shared.SetConfig
	}
	return n.run(t.ctx)
}

// servedConfig reads the configuration, and refuses what is not served yet.
func (t *terminal) servedConfig() (*config.Config, error) {
	c, err := t.loadConfig()
	if err != nil {
		return nil, err
	}
	if t.adminSocket != "" {
		c.Listen.Admin = config.Listener("unix:" + t.adminSocket)
	}
	return c, served(c)
}

// panelRoot is what the paths of a panel's files begin with; empty for "/".
func panelRoot(c *config.Config) string { return strings.TrimSuffix(c.Panel.Root, "/") }

// A node is all that serve runs, wired.
type node struct {
	name   string
	config *config.Config
	log    *slog.Logger // for what is no event: the HTTP library's
	events *event.Stream
	ledger *journal.Store    // what this node accepted
	shared *redisstore.Store // nil where store.url is embedded:
	store  engine.Store      // the one of the two that decides
	locks  *lockdir.Dir
	policy *engine.Engine
	logs   []*mainlog.Follower
	file   *configFile     // nil in tests that have none
	panel  *panel.Follower // nil where panel.follow is false

	token         string // with which we may ask on TCP
	policySockets []net.Listener
	policyServers []*policyd.Server // one for each of policySockets
	milters       []milterFront
	adminSocket   net.Listener
	adminServer   *admin.Server
}

// openNode opens the store, then the lock directory, whose state is in it,
// then the policy on top of both, and last the sockets: from then on Exim asks.
func openNode(ctx context.Context, c *config.Config, log *slog.Logger) (_ *node, err error) {
	n := &node{config: c, log: log, events: event.NewStream(event.NewLog(log))}
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.name, err = nodeName(c); err != nil {
		return nil, err
	}
	mta := exim.Find(ctx, c.Exim.Binary)
	mta.Helper = filepath.Join(filepath.Dir(c.Listen.Admin.Address()), "deliver.sock")
	if err = n.openStore(); err != nil {
		return nil, err
	}
	n.locks, err = lockdir.Open(lockdir.Options{Path: c.Locks.Dir, Notes: n.ledger, Now: time.Now()})
	if err != nil {
		return nil, err
	}
	options := engine.Options{
		Config: c, Panel: n.readPanel(), Node: n.name, EximUser: mta.User, AnySender: mta.AnySender, Store: n.store, Notes: n.ledger,
		Locks: n.locks, Queue: mta, Events: n.events, Now: time.Now(),
	}
	if n.shared != nil {
		options.Board = n.shared
	} else {
		options.Left = redisstore.Left{Ledger: n.ledger}
	}
	n.policy = engine.New(options)
	n.ledger.KeepFor(time.Now(), n.policy.Keep())
	if n.shared != nil {
		n.policy.ShowShared(n.sharedStatus)
	}
	n.followLogs()
	sockets, err := inherited()
	if err != nil {
		return nil, err
	}
	uids := mailUIDs(mta, n.events)
	for _, l := range c.Listen.Policy {
		if l.Network() == "tcp" {
			err = n.listenTCP(l.Address())
		} else {
			err = n.listenPolicy(l.Address(), sockets[l.Address()], uids)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := n.listenMilters(uids); err != nil {
		return nil, err
	}
	return n, n.listenAdmin()
}

// readPanel begins to follow the panel's files, if it is to.
func (n *node) readPanel() settings.Panel {
	if !n.config.Panel.Follow {
		return settings.Panel{}
	}
	n.panel = panel.New(panelRoot(n.config))
	return n.panel.Read(time.Now())
}

// nodeName is the configured one, or the host's.
func nodeName(c *config.Config) (string, error) {
	if c.Store.Node != "" {
		return c.Store.Node, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("find the host name, for store.node is not set: %w", err)
	}
	return name, nil
}

// listenPolicy serves the socket that systemd has opened, or opens one.
func (n *node) listenPolicy(path string, l *net.UnixListener, uids []int) (err error) {
	if l == nil {
		if err := makeSocketDir(path); err != nil {
			return err
		}
		if l, err = policyd.Listen(path); err != nil {
			return err
		}
	}
	n.policySockets = append(n.policySockets, l)
	n.policyServers = append(n.policyServers, policyd.New(n.policy, policyd.Options{AllowUIDs: uids, Events: n.events}))
	return nil
}

// listenTCP serves Exims without Perl, which ask with a token.
func (n *node) listenTCP(address string) error {
	tokens, err := policyd.ReadTokens(n.config.Listen.TokenFile)
	if err != nil {
		return err
	}
	n.token = tokens[0]
	l, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("listen for policy questions: %w", err)
	}
	n.policySockets = append(n.policySockets, l)
	n.policyServers = append(n.policyServers, policyd.New(n.policy, policyd.Options{Tokens: tokens, Events: n.events}))
	return nil
}

// makeSocketDir makes the directory of a socket: /run is empty after a boot.
func makeSocketDir(path string) error {
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	// Exim must get in, whatever our umask is.
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
		return fmt.Errorf("make the directory of the socket %s: %w", path, err)
	}
	return nil
}

// configValues are those in force, which change when the file does.
func (n *node) configValues() []config.Value { return n.policy.Config().Values() }

func (n *node) listenAdmin() (err error) {
	path := n.config.Listen.Admin.Address()
	if err := makeSocketDir(path); err != nil {
		return err
	}
	n.adminServer = admin.New(admin.Options{Backend: n.policy, Config: n.configValues, Version: runningVersion(), Log: n.log})
	n.adminSocket, err = admin.Listen(path)
	return err
}

// run serves until ctx is done or a part fails. The parts behind the sockets
// stop after them: what is answered while they drain is still journalled,
// locked and released as always.
func (n *node) run(ctx context.Context) error {
	back, backCtx := errgroup.WithContext(context.WithoutCancel(ctx))
	backCtx, stopBack := context.WithCancel(backCtx)
	front, frontCtx := errgroup.WithContext(ctx)
	frontCtx, stopFront := context.WithCancel(frontCtx)
	defer stopFront()
	front.Go(func() error {
		select {
		case <-frontCtx.Done():
		case <-backCtx.Done(): // a part behind failed
			stopFront()
		}
		notify(daemon.SdNotifyStopping)
		n.events.Emit(event.Event{Kind: event.Stopping})
		return nil
	})

	back.Go(func() error { return tuneGC(backCtx) })
	n.runStore(backCtx, back.Go)
	back.Go(func() error {
		return n.locks.Run(backCtx, func(e sidecar.LockEvent) { n.policy.LockEvent(backCtx, time.Now(), e) })
	})
	back.Go(func() error { return n.policy.Run(backCtx) })
	if n.file != nil {
		back.Go(func() error { return n.file.run(backCtx, n.policy) })
	}
	if n.panel != nil {
		back.Go(func() error { return n.panel.Run(backCtx, n.policy.SetPanel) })
	}
	for _, l := range n.logs {
		back.Go(func() error { return l.Run(backCtx) })
	}
	for i, server := range n.policyServers {
		front.Go(func() error { return server.Serve(frontCtx, n.policySockets[i]) })
	}
	for _, m := range n.milters {
		front.Go(func() error { return m.serve(frontCtx) })
	}
	front.Go(func() error { return n.adminServer.Serve(frontCtx, n.adminSocket) })
	front.Go(func() error { return watch(frontCtx, n.config.Listen.Policy[0], n.token, n.events) })
	notify(daemon.SdNotifyReady)
	n.events.Emit(event.Event{Kind: event.Serving, Attrs: event.Attrs(
		"node", n.name, "version", programVersion(), "policy", n.config.Listen.Policy, "admin", n.config.Listen.Admin)})

	frontErr := front.Wait()
	n.events.Emit(event.Event{Kind: event.SocketsStopped})
	stopBack()
	backErr := back.Wait()
	n.events.Emit(event.Event{Kind: event.WorkStopped})
	return errors.Join(frontErr, backErr, n.close())
}

// close gives up what was opened, and saves the counts.
func (n *node) close() error {
	for _, l := range n.policySockets {
		l.Close()
	}
	for _, m := range n.milters {
		m.socket.Close()
	}
	if n.adminSocket != nil {
		n.adminSocket.Close()
	}
	if err := n.closeStore(); err != nil {
		return err
	}
	if n.adminSocket != nil { // opened last: not a start that failed
		n.events.Emit(event.Event{Kind: event.CountsSaved})
	}
	return nil
}

// mailUIDs are the users that may ask on the policy socket beside root: Exim's,
// for its ACLs ask as it, and Postfix's.
func mailUIDs(mta exim.Exim, events event.Sink) []int {
	var uids []int
	if mta.User == "" {
		events.Emit(event.Event{Kind: event.EximUserUnknown, Attrs: event.Attrs("exim.binary", mta.Binary)})
	}
	for _, name := range []string{cmp.Or(mta.User, "-"), "postfix"} {
		if uid, ok := exim.UID(name); ok {
			uids = append(uids, uid)
		}
	}
	return uids
}
