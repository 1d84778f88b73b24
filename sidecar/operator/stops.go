package operator

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/live"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/printable"
	"sluice/sidecar/stop"
	"sluice/sidecar/typed"
)

// A StopStatus is one stop, as commands show it.
type StopStatus struct {
	stop.Stop
	State string `json:"state"` // "in force", "expired" or "ended"
	Held  int    `json:"held"`  // recipients of the author's mail that wait in Exim's queue
}

// bounds of a request to stop somebody.
const longestWhy = 500 // bytes

// Stop stops an author or an account on all nodes. It warns of what the stop does not do.
func (o *Operator) Stop(ctx context.Context, now time.Time, request stop.Request) (StopStatus, string, error) {
	scope, err := stop.Canonical(request.Scope)
	if err != nil {
		return StopStatus{}, "", err
	}
	if request.For < 0 || request.For > live.LongestChange || len(request.Why) > longestWhy {
		return StopStatus{}, "", fmt.Errorf("--for must be from 1s to %d days, and --why at most %d bytes long", live.LongestChange/limit.Day, longestWhy)
	}
	request.Scope = scope
	var warnings []string
	if domain := stop.DomainOf(scope); domain != "" {
		warning, err := o.scopes.check(now, domain)
		if err != nil {
			return StopStatus{}, "", err
		}
		warnings = append(warnings, warning)
	}
	st := o.owners.Stopped.Stop(ctx, now, request)
	switch err := o.owners.Stopped.Failure(); {
	case !lockfile.StopFile(scope):
		warnings = append(warnings, "only while sluice runs: its name can be that of no file, by which Exim would refuse it while sluice is stopped")
	case err != nil:
		warnings = append(warnings, "only while sluice runs: "+err.Error())
	}
	if o.owners.Stopped.Unposted() {
		warnings = append(warnings, "the other nodes cannot be told now, and are as soon as they can")
	}
	if before := o.owners.lasting(now, st); before != "" {
		warnings = append(warnings, before)
	}
	warnings = slices.DeleteFunc(warnings, func(w string) bool { return w == "" })
	return o.owners.stopStatus(now, *st), strings.Join(warnings, "; "), nil
}

// lasting warns of an earlier stop of the same scope that outlasts this one.
func (o *Owners) lasting(now time.Time, st *stop.Stop) string {
	if st.Until.IsZero() {
		return ""
	}
	for _, before := range o.Stopped.List(st.Until, st.Scope, false) {
		if before.Mark != st.Mark {
			return fmt.Sprintf("after it an earlier stop goes on: %s", before.Origin())
		}
	}
	return ""
}

// Start ends the stops of an author or an account on all nodes. With release, what they held
// goes however old it is; without it, the warning tells how much stays. The error wraps
// ErrNotFound if there is nothing to start.
func (o *Operator) Start(ctx context.Context, now time.Time, scope, who string, release bool) (warning string, err error) {
	if scope, err = stop.Canonical(scope); err != nil {
		return "", err
	}
	if !o.owners.Stopped.Start(ctx, now, scope, who, release) {
		return "", fmt.Errorf("%w: it is not stopped", typed.ErrNotFound)
	}
	return o.owners.stays(now, scope), nil
}

// EndStop ends one stop of an author or an account, by its mark; others of it go on. The error
// wraps ErrNotFound if it is not in force.
func (o *Operator) EndStop(ctx context.Context, now time.Time, scope, mark, who string) (warning string, err error) {
	if scope, err = stop.Canonical(scope); err != nil {
		return "", err
	}
	if !o.owners.Stopped.End(ctx, now, scope, mark, who) {
		return "", fmt.Errorf("%w: this stop of it is not in force", typed.ErrNotFound)
	}
	return o.owners.stays(now, scope), nil
}

// LeaveOut stops an author in place of a subject, as Sluice itself does for too many defers and
// failures: what of its mail was deferred or failed counts no more against the subject, whose trip
// ends with that if the others' mail is fine. The error wraps ErrNotFound if the subject is not tripped.
func (o *Operator) LeaveOut(ctx context.Context, now time.Time, scope, subject, who string) (StopStatus, error) {
	canonical, err := stop.Canonical(scope)
	switch {
	case err != nil:
		return StopStatus{}, err
	case o.owners.Deferfail.Trip(now, subject) == nil:
		return StopStatus{}, fmt.Errorf("%w: %s is not refused for defers and failures", typed.ErrNotFound, subject)
	}
	o.owners.Stopped.Blame(ctx, now, canonical, subject, fmt.Sprintf("%s holds against it what of %s was deferred or failed", who, subject), "")
	o.reconciler.ReconcileSoon(subject)
	for _, st := range o.owners.Stopped.List(now, canonical, true) {
		if st.Of == subject {
			return o.owners.stopStatus(now, st), nil
		}
	}
	return StopStatus{}, fmt.Errorf("%s could not be stopped in place of %s", canonical, subject)
}

// stays tells what stays as it was when a stop has ended.
func (o *Owners) stays(now time.Time, scope string) (warning string) {
	if old := o.Holds.NumberHeldBy(scope, func(id string) bool { return o.Stopped.KeptID(now, scope, id) }); old > 0 {
		warning = fmt.Sprintf("%s of messages over an hour old stay held: %s --release", printable.Count(int64(old), "recipient", "recipients"), stop.StartCommand(scope))
	}
	if o.Stopped.Unposted() {
		warning = strings.TrimPrefix(warning+"; the other nodes cannot be told now, and are as soon as they can", "; ")
	}
	return warning
}

// Stops lists the stops of a scope, of a domain those of its authors and in its place, or all
// for "", the last first, with those of the last weeks that are over.
func (o *Operator) Stops(now time.Time, scope string) ([]StopStatus, error) {
	if scope == "" {
		return o.owners.statuses(now, o.owners.Stopped.List(now, "", true)), nil
	}
	canonical, err := stop.Canonical(scope)
	if err == nil {
		return o.owners.statuses(now, o.owners.Stopped.List(now, canonical, true)), nil
	}
	domain, bad := typed.Scope(scope)
	if bad != nil {
		return nil, err
	}
	return o.owners.statuses(now, slices.DeleteFunc(o.owners.Stopped.List(now, "", true), func(st stop.Stop) bool {
		return stop.DomainOf(st.Scope) != domain && st.Of != domain
	})), nil
}

func (o *Owners) statuses(now time.Time, stops []stop.Stop) []StopStatus {
	all := []StopStatus{}
	for _, st := range stops {
		all = append(all, o.stopStatus(now, st))
	}
	return all
}

func (o *Owners) stopStatus(now time.Time, st stop.Stop) StopStatus {
	return StopStatus{st, st.State(now), o.Holds.NumberOf(st.Scope)}
}

// stopsIn lists the stops in force that concern a scope: all for "", of a domain those of its
// authors and of the account that owns it.
func (o *Operator) stopsIn(now time.Time, scope string) []StopStatus {
	account := ""
	if countedScope(scope) {
		account = o.settings.Load().PayerOfScope(scope).Account
	}
	all := o.owners.Stopped.List(now, "", false)
	if canonical, err := stop.Canonical(scope); err == nil {
		scope = canonical
	}
	return o.owners.statuses(now, slices.DeleteFunc(all, func(st stop.Stop) bool {
		return scope != "" && st.Scope != scope && stop.DomainOf(st.Scope) != scope && (account == "" || st.Scope != sidecar.AccountPrefix+account)
	}))
}

// StayStopped says which authors of a domain that was released stay stopped; empty for none.
func (o *Operator) StayStopped(now time.Time, domain string) string {
	var all []string
	for _, st := range o.owners.Stopped.List(now, "", false) {
		if stop.DomainOf(st.Scope) == domain {
			all = append(all, fmt.Sprintf("%s stays stopped: %s", st.Scope, stop.StartCommand(st.Scope)))
		}
	}
	return strings.Join(all, "; ")
}

// EmitStopped reports which authors of a domain that a hand has released stay stopped.
func (o *Operator) EmitStopped(now time.Time, domain string) {
	for _, st := range o.owners.Stopped.List(now, "", false) {
		if stop.DomainOf(st.Scope) == domain {
			o.events.Emit(event.Event{Kind: event.StaysStopped, Domain: domain, Attrs: event.Attrs("scope", st.Scope)})
		}
	}
}

// authorOf is who sends as a scope: a mailbox does, others are no author.
func authorOf(scope string) sidecar.Author {
	if sidecar.IsMailbox(scope) {
		return sidecar.Author{Key: sidecar.AuthorKey("", scope)}
	}
	return sidecar.Author{}
}

// ShownScope returns a scope of which there is a status in its canonical form: one of limits,
// or an author.
func ShownScope(s string) (string, error) {
	scope, err := typed.Scope(s)
	if err == nil {
		return scope, nil
	}
	if author, bad := stop.Canonical(s); bad == nil {
		return author, nil
	}
	return "", err
}

// countedScope reports whether a scope is one of limits, and not only an author.
func countedScope(scope string) bool {
	_, err := typed.Scope(scope)
	return err == nil
}

// explainAuthor explains an author that has no limits of its own. bad is why its scope is none
// of limits.
func (o *Operator) explainAuthor(now time.Time, scope string, bad error) (Explanation, error) {
	scope, err := stop.Canonical(scope)
	if err != nil {
		return Explanation{}, bad
	}
	s := o.settings.Load()
	e := Explanation{Scope: scope, Node: s.Node, Mode: limit.Enforce, Values: []Value{}, Stops: o.stopsIn(now, scope)}
	e.Stopped, e.StoppedBy = o.stopped(now, sidecar.Author{Key: scope}, sidecar.Payer{})
	e.add(scope, s.Decisive("expected", []string{scope, sidecar.DefaultScope}))
	return e, nil
}
