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
	"strconv"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore"
	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/alert"
	"sluice/sidecar/config"
	"sluice/sidecar/engine"
	"sluice/sidecar/event"
	"sluice/sidecar/exim"
	"sluice/sidecar/history"
	"sluice/sidecar/journald"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/panel"
	"sluice/sidecar/peer"
	"sluice/sidecar/policyd"
	"sluice/sidecar/queue"
	"sluice/sidecar/remedy"
	"sluice/sidecar/script"
	"sluice/sidecar/settings"
	"sluice/sidecar/web"
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
	log := journald.NewLog(t.log, level)
	file := followConfig(t.configFile, t.servedConfig)
	config, err := t.servedConfig()
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	asking, done := context.WithTimeout(t.ctx, eximAtStart)
	defer done()
	file.exim = openLists(asking, config)
	addLastLists(config, file.exim)
	n, err := openNode(asking, config, log)
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	n.file, n.scripts.Record, n.host = file, t.actions, t.host()
	if n.shared != nil {
		file.announce = n.shared.SetConfig
	}
	return n.run(t.ctx)
}

// servedConfig reads the configuration, with the admin socket of the command line.
func (t *terminal) servedConfig() (*config.Config, error) {
	c, err := t.loadConfig()
	if err == nil {
		err = checkExemptHosts(c)
	}
	if err != nil {
		return nil, err
	}
	if t.adminSocket != "" {
		c.Listen.Admin = config.Listener("unix:" + t.adminSocket)
	}
	return c, nil
}

// panelRoot is what the paths of a panel's files begin with; "" for "/".
func panelRoot(c *config.Config) string { return strings.TrimSuffix(c.Panel.Root, "/") }

// A node is everything that serve runs, wired.
type node struct {
	name    string
	config  *config.Config
	events  *event.Stream
	ledger  *journal.Store    // counts what this node accepted
	shared  *redisstore.Store // counts for all nodes; nil where store.url is embedded:
	locks   *lockdir.Dir
	stops   *lockdir.Dir // the files of who is stopped
	engine  *engine.Engine
	logs    []*mainlog.Follower
	alerts  *alert.Alerts
	file    *configFile     // nil in tests that have none
	queue   *queue.Index    // nil where there is no Exim
	panel   *panel.Follower // nil where panel.follow is false
	scripts *script.Watch
	helper  string       // socket of sluice deliver
	host    *remedy.Host // what root may do without it
	token   string       // with which the watchdog may ask on TCP
	fronts  []front      // policy sockets first, the admin socket last

	addresses *peer.Addresses // of this host
	metrics   *web.Metrics
	asker     *peer.Finder // the engine, which it tells whose a client on this host is
}

// A front is a socket and what answers on it.
type front struct {
	socket net.Listener
	serve  func(context.Context, net.Listener) error
	file   socketFile // of a unix socket
}

// eximAtStart is how long serve asks Exim in all before it answers questions itself: one that hangs
// is not waited for again at each of them.
const eximAtStart = 6 * time.Second

// openNode opens the store, then the lock directories, whose records are in the store, then
// the engine on top of both, and last the sockets: from then on Exim asks. Exim itself is asked
// until ctx is done.
func openNode(ctx context.Context, c *config.Config, log *slog.Logger) (_ *node, err error) {
	queued := &event.Queue{}
	n := &node{config: c}
	n.metrics = newMetrics(n)
	n.events = event.NewStream(event.NewLog(log), queued, n.metrics)
	defer func() {
		if err != nil {
			n.close()
		}
	}()
	if n.name, err = nodeName(c); err != nil {
		return nil, err
	}
	mta := exim.Find(ctx, c.Exim.Binary)
	mta.Helper = deliverSocket(c)
	if err := n.openStore(); err != nil {
		return nil, err
	}
	if err := n.openLocks(); err != nil {
		return nil, err
	}
	n.openEngine(mta, queued)
	n.openQueue(ctx, mta)
	n.prepareAlerts(mta)
	n.followLogs()
	n.findPeers()
	return n, n.listen(mta, log)
}

// openLocks opens the directory of the lock files, and the one of the files of who is stopped.
func (n *node) openLocks() (err error) {
	o := lockdir.Options{Path: n.config.Locks.Dir, Notes: n.ledger, Now: time.Now()}
	if n.locks, err = lockdir.Open(o); err != nil {
		return err
	}
	o.Path, o.Within = filepath.Join(o.Path, lockdir.StoppedName), n.locks
	n.stops, err = lockdir.Open(o)
	return err
}

// openEngine makes the engine, and connects it with who observes what it decides and records.
func (n *node) openEngine(mta exim.Exim, queued *event.Queue) {
	var err error
	if n.addresses, err = peer.ReadAddresses(); err != nil {
		n.events.Emit(event.Event{Kind: event.AddressesUnknown, Err: err})
	}
	options := engine.Options{
		Config: n.config, Panel: n.readPanel(), Node: n.name, Own: n.addresses.Has, Exim: engine.Exim{User: mta.User, AnySender: mta.AnySender},
		Store: n.ledger, Notes: n.ledger, Locks: n.locks, Stopped: n.stops, Queue: mta, Events: n.events, Queued: queued, Now: time.Now(),
	}
	if n.shared != nil {
		options.Store, options.Board = n.shared, n.shared
	} else {
		options.Former = history.Read(redisstore.FormerEntries(n.ledger), n.events)
	}
	n.engine = engine.New(options)
	n.ledger.KeepFor(time.Now(), n.engine.Keep())
	if n.shared != nil {
		n.engine.ShowShared(n.sharedStatus)
	}
	n.engine.Recorder.AddObserver(n.metrics)
	n.scripts, n.helper = script.NewWatch(mta.Helper, n.events), mta.Helper
	n.engine.Policy.AddObserver(watchedScripts{n.scripts})
	n.engine.OnSurvey(n.metrics.Survey)
}

// listen opens all sockets, or takes those that systemd has opened. log is for the HTTP library, whose
// errors are no events.
func (n *node) listen(mta exim.Exim, log *slog.Logger) error {
	sockets, err := inherited()
	if err != nil {
		return err
	}
	uids := mailUIDs(mta, n.events)
	for _, l := range n.config.Listen.Policy {
		listen := n.listenPolicy
		if l.Network() == "tcp" {
			listen = n.listenTCP
		}
		if err := listen(l.Address(), sockets[l.Address()], uids); err != nil {
			return err
		}
	}
	if err := n.listenMilters(uids); err != nil {
		return err
	}
	if err := n.listenMetrics(sockets, log); err != nil {
		return err
	}
	return n.listenAdmin(log)
}

// deliverSocket is the socket of sluice deliver, which is beside the admin socket.
func deliverSocket(c *config.Config) string {
	return filepath.Join(filepath.Dir(c.Listen.Admin.Address()), "deliver.sock")
}

// findPeers prepares to find out whose the clients on this host are.
func (n *node) findPeers() {
	sockets := peer.NewSockets(n.addresses)
	n.asker = &peer.Finder{Asker: n.engine, Addresses: n.addresses, Sockets: sockets, Events: n.events,
		Believes: func(r *sidecar.Request) bool { return n.engine.Settings.Load().Believes(r) }}
	n.engine.ShowSockets(func() error { return sockets.Failure(time.Now()) })
	if err := sockets.Failure(time.Now()); err != nil {
		n.events.Emit(event.Event{Kind: event.SocketsHidden, Err: err})
	}
}

// readPanel begins to follow the panel's files, where the configuration says so.
func (n *node) readPanel() settings.Panel {
	if !n.config.Panel.Follow {
		return settings.Panel{}
	}
	n.panel = panel.New(panelRoot(n.config))
	return n.panel.Read(time.Now())
}

// nodeName is the configured name, or the host's.
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
func (n *node) listenPolicy(path string, l net.Listener, uids []int) (err error) {
	listen := func() (net.Listener, error) { return listenUnix(path, uids) }
	if l != nil && deaf(path) {
		l.Close()
		l = nil
	}
	if l == nil {
		l, err = listen()
	} else if err = policyd.Permit(path, uids...); err != nil {
		l.Close()
	}
	if err != nil {
		return err
	}
	n.reportOpen(path)
	serve := func(ctx context.Context, l net.Listener) error { // one server for each listener
		return policyd.New(n.metrics.Asker(n.asker), policyd.Options{AllowUIDs: uids, Events: n.events}).Serve(ctx, l)
	}
	n.fronts = append(n.fronts, front{l, serve, socketFile{path, listen}})
	return nil
}

// listenUnix makes a unix socket to which root and these users may connect.
func listenUnix(path string, uids []int) (net.Listener, error) {
	if err := makeSocketDir(path); err != nil {
		return nil, err
	}
	l, err := policyd.Listen(path, uids...)
	if err != nil {
		return nil, err
	}
	return l, nil
}

// reportOpen says so if everybody may connect to a socket.
func (n *node) reportOpen(path string) {
	if who, err := policyd.MayConnect(path); err == nil && who.Everybody {
		n.events.Emit(event.Event{Kind: event.SocketOpen, Attrs: event.Attrs("socket", path)})
	}
}

// listenTCP serves Exims without Perl, which ask over TCP with a token. systemd has opened
// the socket where sluice itself may not.
func (n *node) listenTCP(address string, l net.Listener, uids []int) error {
	tokens, err := policyd.ReadTokens(n.config.Listen.TokenFile)
	if err != nil {
		return err
	}
	n.token = tokens[0]
	if err := onlyRootListens("listen.policy", address); err != nil {
		return err
	}
	if l == nil {
		if l, err = net.Listen("tcp", address); err != nil {
			return fmt.Errorf("listen for policy questions: %w; under systemd it opens the port: systemctl enable sluice-tcp.socket; systemctl restart sluice", err)
		}
	}
	n.fronts = append(n.fronts, front{l, policyd.New(n.metrics.Asker(n.asker), policyd.Options{Tokens: tokens, AllowUIDs: uids, Events: n.events}).Serve, socketFile{}})
	return nil
}

// onlyRootListens fails if every user may listen on the port of an address, which key has.
func onlyRootListens(key, address string) error {
	const file = "/proc/sys/net/ipv4/ip_unprivileged_port_start"
	_, text, _ := net.SplitHostPort(address)
	port, _ := strconv.Atoi(text) // the configuration was validated
	first, err := os.ReadFile(file)
	if err != nil {
		return nil // a kernel without it has only the ports of config.RootPorts
	}
	if n, err := strconv.Atoi(strings.TrimSpace(string(first))); err == nil && port >= n {
		return fmt.Errorf("listen on %s: every user may listen on that port, and could be asked in our place: "+
			"take one below %d (%s), or raise net.ipv4.ip_unprivileged_port_start", address, n, key)
	}
	return nil
}

// makeSocketDir makes the directory of a socket, because /run is empty after a boot.
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

// listenAdmin serves the commands. log is for the HTTP library, whose errors are no events.
func (n *node) listenAdmin(log *slog.Logger) error {
	path := n.config.Listen.Admin.Address()
	if err := makeSocketDir(path); err != nil {
		return err
	}
	inForce := func() []config.Value { return n.engine.Config().Values() }
	server := admin.New(admin.Options{Backend: n.engine, Config: inForce, AlertTest: n.testAlerts, Version: runningVersion(), Queue: n.showQueue(), Quarantine: n.quarantined, Monitor: n.metrics.Handler(), Log: log})
	l, err := admin.Listen(path)
	if err == nil {
		n.fronts = append(n.fronts, front{l, server.Serve, socketFile{path, func() (net.Listener, error) { return admin.Listen(path) }}})
	}
	return err
}

// run serves until ctx is done or a part fails. It stops the sockets first and the work
// behind them last, so that what is answered while they drain is still journalled, locked
// and released.
func (n *node) run(ctx context.Context) error {
	work, workCtx := errgroup.WithContext(context.WithoutCancel(ctx))
	workCtx, stopWork := context.WithCancel(workCtx)
	sockets, socketsCtx := errgroup.WithContext(ctx)
	socketsCtx, stopSockets := context.WithCancel(socketsCtx)
	defer stopSockets()
	sockets.Go(func() error {
		select {
		case <-socketsCtx.Done():
		case <-workCtx.Done(): // a part behind failed
			stopSockets()
		}
		notify(daemon.SdNotifyStopping)
		n.events.Emit(event.Event{Kind: event.Stopping})
		return nil
	})

	n.runWork(workCtx, work.Go)
	for _, f := range n.fronts {
		sockets.Go(func() error { return f.serveOn(socketsCtx, sockets.Go, n.events) })
	}
	sockets.Go(func() error { return watch(socketsCtx, n.config.Listen.Policy[0], n.token, n.events) })
	notify(daemon.SdNotifyReady)
	n.events.Emit(event.Event{Kind: event.Serving, Attrs: event.Attrs(
		"node", n.name, "version", programVersion(), "policy", n.config.Listen.Policy, "admin", n.config.Listen.Admin)})

	socketsErr := sockets.Wait()
	n.events.Emit(event.Event{Kind: event.SocketsStopped})
	stopWork()
	workErr := work.Wait()
	n.events.Emit(event.Event{Kind: event.WorkStopped})
	closeErr := n.close()
	if closeErr == nil {
		n.events.Emit(event.Event{Kind: event.CountsSaved})
	}
	return errors.Join(socketsErr, workErr, closeErr)
}

// runWork runs everything behind the sockets until ctx is done.
func (n *node) runWork(ctx context.Context, run func(func() error)) {
	run(func() error { return tuneGC(ctx) })
	n.runStore(ctx, run)
	n.runHands(ctx, run, n.locks, n.engine.LockEvent)
	n.runHands(ctx, run, n.stops, n.engine.StopEvent)
	run(func() error { return n.engine.Run(ctx) })
	run(func() error { return n.alerts.Run(ctx) })
	run(func() error { return n.followAddresses(ctx, n.addresses.Run) })
	if n.file != nil {
		run(func() error { return n.file.run(ctx, n.engine) })
		run(func() error { return n.file.exim.Run(ctx, n.events, n.file.listsChanged) })
	}
	if dir := n.config.Metrics.Textfile; dir != "" {
		run(func() error { return n.metrics.Write(ctx, dir, n.events) })
	}
	if n.panel != nil {
		run(func() error { return n.panel.Run(ctx, n.engine.SetPanel) })
	}
	run(func() error { return n.scripts.Run(ctx) })
	if n.queue != nil {
		run(func() error { return n.queue.Run(ctx) })
		run(func() error { return n.purge(ctx) })
	}
	for _, l := range n.logs {
		run(func() error { return l.Run(ctx) })
	}
}

// runHands has the engine take in what hands do in a directory. What they did while nobody
// looked is in force when it returns, and so before the first answer.
func (n *node) runHands(ctx context.Context, run func(func() error), dir *lockdir.Dir, takeIn func(context.Context, time.Time, lockfile.Event)) {
	report := func(e lockfile.Event) { takeIn(ctx, time.Now(), e) }
	dir.Deliver(report)
	run(func() error { return dir.Run(ctx, report) })
}

// followAddresses keeps the addresses of this host up to date: run is Addresses.Run. Where
// the kernel does not tell them, those known stay, and it is asked again after a while.
func (n *node) followAddresses(ctx context.Context, run func(context.Context) error) error {
	for {
		err := run(ctx)
		if err == nil {
			return nil // ctx has ended
		}
		n.events.Emit(event.Event{Kind: event.AddressesUnknown, Err: err})
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(10 * time.Second):
		}
	}
}

// close closes the sockets and the store, and saves the counts.
func (n *node) close() error {
	if n.asker != nil {
		n.asker.Sockets.Close()
	}
	for _, f := range n.fronts {
		f.socket.Close()
	}
	return n.closeStore()
}

// mailUIDs are the users that may ask on the policy socket beside root: Exim's, as which
// its ACLs ask, and Postfix's.
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
