package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/cluster"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/hold"
	"sluice/sidecar/limit"
	"sluice/sidecar/live"
	"sluice/sidecar/lock"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/logline"
	"sluice/sidecar/policy"
	"sluice/sidecar/refusal"
	"sluice/sidecar/stop"
	"sluice/sidecar/suspension"
	"sluice/sidecar/wording"
)

// ErrBlockedByPanel is wrapped by errors about a domain that the panel still blocks.
var ErrBlockedByPanel = errors.New("still stopped by the panel")

// An Operator carries out the commands of people who operate a node, and shows it to them.
type Operator struct {
	settings   *live.Live
	store      Store
	clock      ratelimit.Clock
	events     event.Sink
	dir        lockfile.Dir
	policy     *policy.Policy
	reconciler sidecar.Reconciler
	late       func() int64
	owners     Owners
	scopes     scopes
	shown
	past
}

// Owners are the owners of state of a node.
type Owners struct {
	Locks     *lock.Locks
	Holds     *hold.Holds
	Deferfail *deferfail.Breaker
	Refusals  *refusal.Counts
	Who       *attribution.Attribution
	Feed      *cluster.Feed // nil: there are no other nodes
	Stopped   *stop.Stops
}

// shown has the funcs by which the readers of the logs and others, which package
// operator does not import, add their part to a Status.
type shown struct {
	logs    atomic.Pointer[func() []logline.Progress]
	sockets atomic.Pointer[func() error]
	shared  atomic.Pointer[func() SharedStatus]
}

// Store is what an Operator needs of the store that counts sends.
type Store interface {
	sidecar.Counts
	Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error)
	Size() (subjects, sends, uncounted int64)
	Failure() error
}

// Options are what an Operator is made with; all are needed.
type Options struct {
	Settings   *live.Live
	Store      Store
	Clock      ratelimit.Clock
	Events     event.Sink
	Dir        lockfile.Dir
	Policy     *policy.Policy
	Reconciler sidecar.Reconciler
	Late       func() int64 // as Totals.Late
	Owners     Owners
}

// New returns an Operator.
func New(o Options) *Operator {
	return &Operator{settings: o.Settings, store: o.Store, clock: o.Clock, events: o.Events, dir: o.Dir, policy: o.Policy, reconciler: o.Reconciler, late: o.Late, owners: o.Owners,
		scopes: scopes{o.Settings, o.Store, o.Clock, o.Dir, o.Owners.Holds}, past: past{settings: o.Settings}}
}

// ShowProgress has Status show how far the logs were read.
func (s *shown) ShowProgress(of func() []logline.Progress) { s.logs.Store(&of) }

// ShowSockets has Status show why the owners of sockets on this host cannot be found.
func (s *shown) ShowSockets(failure func() error) { s.sockets.Store(&failure) }

// ShowShared has Status show the state of the store that the nodes share.
func (s *shown) ShowShared(of func() SharedStatus) { s.shared.Store(&of) }

// Alive returns a func that reports whether a node which shares the counts has given a sign of
// life within a minute. Until it is known which nodes do, all have.
func (s *shown) Alive() func(node string) bool {
	var nodes []NodeStatus
	if of := s.shared.Load(); of != nil {
		nodes = (*of)().Nodes
	}
	return func(node string) bool {
		i := slices.IndexFunc(nodes, func(n NodeStatus) bool { return envelope.FoldDomain(n.Node) == node })
		return len(nodes) == 0 || i >= 0 && nodes[i].SignAge < 60
	}
}

// Status returns the state of a domain with what it redirects, of a mailbox, account or
// special subject, or for "" of all that have sends counted, locks or held mail. The fullest come first. The error wraps ErrNotFound if
// nothing is known of the scope.
func (o *Operator) Status(ctx context.Context, now time.Time, scope string) (Status, error) {
	s := Status{Node: o.settings.Load().Node, Now: now, Domains: []DomainStatus{}, Scopes: []ScopeStatus{}, Totals: o.totals(), Config: o.settings.Status(),
		Stops: o.stopsIn(now, scope)}
	names := map[string]bool{scope: true}
	defer func() { o.addAuthors(now, scope, s) }()
	switch {
	case scope == "":
		names = o.subjects(now)
	case !countedScope(scope): // an author, of whom only stops are known
		delete(names, scope)
	case sidecar.IsDomain(scope):
		names[sidecar.ForwardPrefix+scope] = true
	}
	for name := range names {
		if !sidecar.IsDomain(name) {
			if sc, known := o.scopeStatus(ctx, now, name); known && (scope == "" || scope == name || sc.counted()) {
				s.Scopes = append(s.Scopes, sc)
			}
		} else if d, known := o.domainStatus(ctx, now, name); known || d.Stopped != "" {
			s.Domains = append(s.Domains, d)
		}
	}
	if scope != "" && len(s.Domains)+len(s.Scopes)+len(s.Stops) == 0 {
		return s, o.scopes.notFound(now, scope)
	}
	slices.SortFunc(s.Domains, func(a, b DomainStatus) int {
		return cmp.Or(len(b.Locks)-len(a.Locks), compareTightest(a.Windows, b.Windows), cmp.Compare(a.Domain, b.Domain))
	})
	slices.SortFunc(s.Scopes, func(a, b ScopeStatus) int {
		return cmp.Or(compareTightest(a.Windows, b.Windows), cmp.Compare(a.Scope, b.Scope))
	})
	return s, nil
}

func compareTightest(a, b []Window) int { return cmp.Compare(Tightest(b).Percent, Tightest(a).Percent) }

// subjects returns all scopes that Status may show.
func (o *Operator) subjects(now time.Time) map[string]bool {
	names := map[string]bool{}
	o.store.Standings(o.clock.Store(now), func(s ratelimit.Standing) bool {
		names[s.Name] = true
		return true
	})
	for _, f := range o.dir.Files("") {
		names[f.Domain] = true
	}
	for _, subject := range o.owners.Holds.Subjects() {
		names[subject] = true
	}
	for _, subject := range o.owners.Refusals.Subjects() {
		names[subject] = true
	}
	for scope := range o.settings.Load().PanelBlocks {
		names[scope] = true
	}
	return names
}

// scopeStatus returns the state of a mailbox, an account or a special subject. It is known
// if a limit names it, sends of it are counted or held, or it is blocked.
func (o *Operator) scopeStatus(ctx context.Context, now time.Time, name string) (s ScopeStatus, known bool) {
	standing := o.store.Standing(o.clock.Store(now), name)
	settings := o.settings.Load()
	limits := settings.LimitsOf(name)
	who := settings.PayerOfScope(name)
	s = ScopeStatus{Scope: name, Counts: countsOf(standing, settings.Window), Partial: standing.Partial, Windows: windows(standing, limits), Held: o.owners.Holds.NumberIn(name), Mode: settings.Mode(who, name),
		FreesAt: o.freesAt(ctx, now, ratelimit.Subject{Name: name, Limits: limits, Watched: settings.Watched(who, name)})}
	s.Stopped, s.StoppedBy = o.stopped(now, authorOf(name), who)
	s.Watch, s.Refused = o.refused(now, name, s.Mode, standing)
	if s.DeferfailStatus = (DeferfailStatus{Causes: []deferfail.CauseStatus{}, LeftOut: []deferfail.LeftOut{}}); sidecar.IsSpecial(name) {
		s.DeferfailStatus = o.deferfailStatus(now, who, standing)
	}
	limited := len(s.Windows) > 0
	if sidecar.IsSpecial(name) { // it always has some, like a domain
		limited = settings.Scope(name) != nil
	}
	return s, limited || s.counted() || s.Stopped != ""
}

// counted reports whether sends of a scope are counted, refused or held.
func (s *ScopeStatus) counted() bool {
	return anySent(s.Windows) || s.Refused > 0 || s.Watch.Any() || s.Held > 0
}

// stopped returns what is answered while an operator or the panel blocks a payer, and
// which of the two does; "" if neither.
func (o *Operator) stopped(now time.Time, a sidecar.Author, who sidecar.Payer) (text, by string) {
	if b, blocked := o.policy.BlockOf(now, a, who); blocked && b.By != sidecar.ByDeferfail {
		return wording.Logged(b.Text(b.SMTP), ""), b.By
	}
	return "", ""
}

// countsOf are the sends of a subject in the window of hourly limits, and what became of them.
func countsOf(st ratelimit.Standing, window time.Duration) (c Counts) {
	for _, w := range st.Windows {
		if w.Window == window {
			c.Sent, c.Delivered, c.Deferred, c.Failed = w.Sent, w.Delivered, w.Deferred, w.Failed
		}
	}
	return c
}

func anySent(all []Window) bool {
	return slices.ContainsFunc(all, func(w Window) bool { return w.Sent > 0 })
}

// windows returns the limits of a subject with what is used of each, and behind them the
// windows that count sends and are no longer limited.
func windows(st ratelimit.Standing, limits []ratelimit.Limit) []Window {
	all := []Window{}
	for _, l := range limits {
		w := Window{Seconds: l.Window.Seconds(), Sent: st.Sent(l.Window), Limit: l.Max}
		if l.Max > 0 {
			w.Percent = w.Sent * 100 / l.Max
		}
		all = append(all, w)
	}
	for _, w := range st.Windows {
		limited := slices.ContainsFunc(limits, func(l ratelimit.Limit) bool { return l.Window == w.Window })
		if !limited && w.Sent > 0 {
			all = append(all, Window{Seconds: w.Window.Seconds(), Sent: w.Sent})
		}
	}
	return all
}

// domainStatus returns the state of a domain. It is known if sends of it are counted,
// refused, held or locked.
func (o *Operator) domainStatus(ctx context.Context, now time.Time, domain string) (d DomainStatus, known bool) {
	at := o.clock.Store(now)
	settings := o.settings.Load()
	who := settings.PayerOfDomain(domain)
	standing := o.store.Standing(at, domain)
	d = DomainStatus{Domain: domain, Account: who.Account, Counts: countsOf(standing, settings.Window), Partial: standing.Partial, Locks: []LockStatus{}, Held: o.owners.Holds.NumberIn(domain),
		Mode: settings.Mode(who, domain)}
	d.DeferfailStatus = o.deferfailStatus(now, who, standing)
	_, blocked := o.policy.BlockOf(now, sidecar.Author{}, who)
	d.Stopped, d.StoppedBy = o.stopped(now, sidecar.Author{}, who)
	d.Watch, d.Refused = o.refused(now, domain, d.Mode, standing)
	limits := settings.LimitsOf(domain)
	d.Windows = windows(standing, limits)
	d.Hourly, d.HourlyPercent = d.Windows[0].Limit, d.Windows[0].Percent // a domain always has this one
	if !blocked && settings.Enforces(domain) {
		d.FreesAt = o.freesAt(ctx, now, ratelimit.Subject{Name: domain, Limits: limits})
	}
	for _, f := range o.dir.Files(domain) {
		l := LockStatus{Kind: f.Kind, Since: f.Since, Owner: "sluice", Until: d.FreesAt}
		if f.Kind == lockfile.DeferFail {
			if l.Until = nil; d.Trip != nil {
				l.Until = &d.Trip.Ends
			}
		}
		if f.Operator {
			l.Owner, l.Until = "operator", nil
		}
		d.Locks = append(d.Locks, l)
	}
	return d, anySent(d.Windows) || d.Refused > 0 || d.Watch.Any() || len(d.Locks) > 0 || d.Held > 0
}

// deferfailStatus returns how a domain or special subject stands with its defers and failures.
func (o *Operator) deferfailStatus(now time.Time, who sidecar.Payer, standing ratelimit.Standing) (d DeferfailStatus) {
	settings := o.settings.Load()
	d.DeferfailMin, d.DeferfailPercent = settings.DeferfailLimits(who)
	for _, w := range standing.Windows {
		if w.Window == settings.Window {
			d.DeferfailNow = w.Bad() * 100 / max(1, w.Sent)
		}
	}
	d.Causes, d.LeftOut = o.owners.Deferfail.Causes(who.Subject())
	d.Trip, d.WouldTrip = o.owners.Deferfail.Trip(now, who.Subject()), o.owners.Deferfail.WouldTrip(now, who.Subject())
	return d
}

// refused returns what watched limits would have refused of a subject, and how many
// distinct sends were refused: by its limits if they are more than watched, and because it
// is blocked.
func (o *Operator) refused(now time.Time, subject string, mode limit.Mode, standing ratelimit.Standing) (watch refusal.Watch, n int64) {
	watch, n = o.owners.Refusals.Of(now, subject)
	if mode != limit.Watch {
		n += standing.Refused
	}
	return watch, n
}

// freesAt returns when the next send of a subject is accepted; nil if it would be now.
func (o *Operator) freesAt(ctx context.Context, now time.Time, subject ratelimit.Subject) *time.Time {
	result, err := o.store.Look(ctx, o.clock.Store(now), ratelimit.Take{Subjects: []ratelimit.Subject{subject}})
	if err != nil || result.OK {
		return nil
	}
	var last time.Time
	for _, u := range result.Uses {
		if u.Full && u.Frees.After(last) {
			last = u.Frees
		}
	}
	wall := o.clock.Wall(now, last)
	return &wall
}

func (o *Operator) totals() Totals {
	t := Totals{
		Decisions: o.policy.Totals.Decisions(),
		Late:      o.late(),
		Held:      int64(o.owners.Holds.Number()),
		Journal:   "ok",
		Locks:     "ok",
		Sockets:   "ok",
		Who:       o.owners.Who.Status(),
	}
	if logs := o.logs.Load(); logs != nil {
		t.Logs = (*logs)()
	}
	if shared := o.shared.Load(); shared != nil {
		st := (*shared)()
		t.Shared = &st
	}
	t.Subjects, t.Sends, t.Uncounted = o.store.Size()
	if err := o.store.Failure(); err != nil {
		t.Journal = err.Error()
	}
	if err := o.dir.Failure(); err != nil {
		t.Locks = err.Error()
	}
	if failure := o.sockets.Load(); failure != nil {
		if err := (*failure)(); err != nil {
			t.Sockets = err.Error()
		}
	}
	return t
}

// Lock locks a domain on all nodes until an operator unlocks it. It warns if nothing
// is known of that domain, which may be a typo, or if other nodes do not know yet.
func (o *Operator) Lock(ctx context.Context, now time.Time, domain, who string) (warning string, err error) {
	if warning, err = o.scopes.check(now, domain); err != nil {
		return "", err
	}
	o.events.Emit(event.Event{Kind: event.Command, Attrs: event.Attrs("who", who, "command", "lock", "scope", domain)})
	if err = o.owners.Locks.LockForAll(ctx, domain, who); err == nil {
		err = o.dir.Failure()
	}
	if err != nil && o.owners.Locks.ByHand(domain) {
		return "", fmt.Errorf("%s is refused from now on, but not while sluice is stopped: %w", domain, err)
	} else if err != nil {
		return "", err
	}
	if o.owners.Locks.Unposted(domain) {
		warning = strings.TrimPrefix(warning+"; the other nodes cannot be told now, and are as soon as they can", "; ")
	}
	return warning, nil
}

// Unlock removes every lock file of a domain and restarts it at zero, with what it redirects, on all
// nodes. Only files that an operator made by hand on another node stay. The error wraps ErrNotFound
// if nothing is known of the domain, which may be a typo, and ErrBlockedByPanel if the
// panel still blocks it.
func (o *Operator) Unlock(ctx context.Context, now time.Time, domain, who string) error {
	settings := o.settings.Load()
	_, by := suspension.Of(settings, settings.PayerOfDomain(domain))
	forwards := sidecar.ForwardPrefix + domain
	redirects := o.counts(ctx, now, forwards)
	if !redirects && by.Place == "" && !o.counts(ctx, now, domain) {
		return o.scopes.notFound(now, domain)
	}
	o.events.Emit(event.Event{Kind: event.Command, Attrs: event.Attrs("who", who, "command", "unlock", "scope", domain)})
	err := o.owners.Locks.UnlockForAll(ctx, domain)
	if err != nil { // it is locked no more: sluice asks its own record, and not the file
		err = fmt.Errorf("%s is released, but is refused while sluice is stopped until this succeeds, which is tried again by itself: %w", domain, err)
	}
	err = errors.Join(err, o.reconciler.Reset(ctx, now, domain, -1))
	if redirects {
		err = errors.Join(err, o.reconciler.Reset(ctx, now, forwards, -1))
	}
	if err == nil && by.Place != "" {
		verb := "holds"
		if by.Suspended {
			verb = "suspends"
		}
		return fmt.Errorf("%w: its locks are gone and it starts at zero, but %s %s it, and only there that can be taken back", ErrBlockedByPanel, by.Place, verb)
	}
	return err
}

// Reset restarts a domain, or any other scope, at zero. The locks that Sluice made of
// a domain go too; those of operators stay. The error wraps ErrNotFound if nothing is
// known of the scope.
func (o *Operator) Reset(ctx context.Context, now time.Time, scope, who string) error {
	if sidecar.AlwaysCounted(scope) {
		if !o.counts(ctx, now, scope) {
			return o.scopes.notFound(now, scope)
		}
		o.events.Emit(event.Event{Kind: event.Command, Attrs: event.Attrs("who", who, "command", "reset", "scope", scope)})
		return o.reconciler.Reset(ctx, now, scope, -1)
	}
	if len(o.store.Standing(o.clock.Store(now), scope).Windows) == 0 {
		return o.scopes.notFound(now, scope)
	}
	o.events.Emit(event.Event{Kind: event.Command, Attrs: event.Attrs("who", who, "command", "reset", "scope", scope)})
	epoch, err := o.store.Reset(ctx, o.clock.Store(now), scope, -1)
	err = errors.Join(err, o.owners.Refusals.Reset(ctx, now, sidecar.Reset{Subject: scope, Epoch: epoch}))
	if _, domain, ok := strings.Cut(scope, "@"); ok {
		o.reconciler.ReconcileSoon(domain)
	}
	return err
}

// counts reports whether sends of a domain or a special subject are counted, refused, held
// or locked.
func (o *Operator) counts(ctx context.Context, now time.Time, subject string) (known bool) {
	if sidecar.IsDomain(subject) {
		_, known = o.domainStatus(ctx, now, subject)
	} else {
		_, known = o.scopeStatus(ctx, now, subject)
	}
	return known
}
