package operator

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/printable"
	"sluice/sidecar/settings"
	"sluice/sidecar/typed"
)

// A Result is what an Edit of the limits did, or with Preview would do.
type Result struct {
	Change  history.Change `json:"change"`
	Effects []Effect       `json:"effects"` // at once, on what is counted now
	Warning string         `json:"warning"` // of a scope that may be a typo, or of a 0 that means no limit; else empty
}

// An Effect says that mail of a scope is refused from now on, or no longer.
type Effect struct {
	Scope   string `json:"scope"`
	Refused bool   `json:"refused"` // now; otherwise released
	Sent    int64  `json:"sent"`
	Limit   int64  `json:"limit"` // the one that refuses, or did; 0 where it is the defer and failure percentage
	Text    string `json:"text"`  // "20/20 (100%)", as in a lock file
}

// Change changes limits, or with Preview only returns what that would do. It checks first
// whether the scope may be a typo.
func (o *Operator) Change(ctx context.Context, now time.Time, edit history.Edit) (r Result, err error) {
	if scope, set, bad := history.ParseEdit(edit); bad == nil && len(edit.Set) > 0 {
		if r.Warning, err = o.scopes.check(now, scope); err != nil {
			return Result{}, err
		}
		r.Warning = strings.TrimPrefix(r.Warning+unlimited(scope, set, edit.Set), "; ")
	}
	before, after := o.settings.Load(), (*settings.Settings)(nil)
	if edit.Preview {
		r.Change, after, err = o.settings.Preview(now, edit)
	} else {
		r.Change, err = o.settings.Change(ctx, now, edit)
		after = o.settings.Load()
	}
	if err != nil {
		return Result{}, err
	}
	r.Effects = o.effects(now, before, after)
	return r, nil
}

// unlimited warns of limits that were typed as 0, which somebody may take for a stop.
func unlimited(scope string, set []limit.Setting, args []string) string {
	what, command := "a domain", ""
	switch {
	case sidecar.IsMailbox(scope):
		what, command = "a mailbox", cmp.Or(printable.Command("sluice stop", scope), "sluice stop MAILBOX")
	case sidecar.IsAccount(scope):
		what, command = "an account", cmp.Or(printable.Command("sluice stop", scope), "sluice stop ACCOUNT")
	case sidecar.IsDomain(scope) && scope != sidecar.DefaultScope:
		command = printable.Command("sluice lock", scope)
	}
	command = cmp.Or(command, "sluice lock DOMAIN")
	for i, s := range set {
		if limit.IsLimit(s.Key) && s.Value == int64(0) && !strings.Contains(args[i], typed.Unlimited) {
			return fmt.Sprintf("; %s=0 is UNLIMITED, and stops nothing; what stops %s is `%s`", s.Key, what, command)
		}
	}
	return ""
}

// Swapped is called when other settings have come into force. It has the loop reconcile
// the subjects whose mail is refused only by the old or only by the new ones.
func (o *Operator) Swapped(now time.Time, before, after *settings.Settings) {
	for _, e := range o.effects(now, before, after) {
		if who := after.PayerOfScope(e.Scope); who.Subject() != "" {
			o.reconciler.ReconcileSoon(who.Subject())
		}
	}
}

// effects returns who is refused under one of two settings only, by what is counted now.
func (o *Operator) effects(now time.Time, before, after *settings.Settings) []Effect {
	all := []Effect{}
	o.store.Standings(o.clock.Store(now), func(st ratelimit.Standing) bool {
		was, is := o.verdict(before, st), o.verdict(after, st)
		switch {
		case was.Refused == is.Refused:
		case is.Refused:
			all = append(all, is)
		default:
			was.Refused = false
			all = append(all, was)
		}
		return true
	})
	slices.SortFunc(all, func(a, b Effect) int { return cmp.Compare(a.Scope, b.Scope) })
	return all
}

// verdict returns whether the next send of a subject would be refused.
func (o *Operator) verdict(s *settings.Settings, st ratelimit.Standing) Effect {
	e := Effect{Scope: st.Name}
	who := s.PayerOfScope(st.Name)
	if s.Mode(who, st.Name) != limit.Enforce {
		return e
	}
	if u, full := s.UsedUp(st); full {
		return Effect{st.Name, true, u.Used, u.Limit.Max, printable.Ratio(u.Used, u.Limit.Max)}
	}
	if sidecar.AlwaysCounted(st.Name) {
		if sent, text, refused := o.owners.Deferfail.Refuses(s, st); refused {
			return Effect{Scope: st.Name, Refused: true, Sent: sent, Text: text}
		}
	}
	return e
}

// History returns the changes of a scope, or all for "", the last first.
func (o *Operator) History(now time.Time, scope string) ([]history.Change, error) {
	return o.settings.History(now, scope)
}

// Export returns what operators have set; see live.Live.
func (o *Operator) Export(now time.Time, scope string, left bool) ([]history.Saved, error) {
	return o.settings.Export(now, scope, left)
}

// maxChecked bounds the warnings about scopes of an import: each takes a pass over all
// that is counted.
const maxChecked = 20

// Import sets what was exported, all or nothing. It leaves out what would have expired.
func (o *Operator) Import(ctx context.Context, now time.Time, lines []history.Saved, who string, preview bool) (r Import, err error) {
	r = Import{Expired: []string{}, Warnings: []string{}}
	var last []history.Saved
	for _, line := range lines {
		if !line.Until.IsZero() && !now.Before(line.Until) {
			r.Expired = append(r.Expired, line.Place)
		} else {
			last = append(last, line)
		}
	}
	var wrong error
	r.Warnings, wrong = o.checkScopes(now, last)
	before, after := o.settings.Load(), (*settings.Settings)(nil)
	if preview || wrong != nil {
		r.Changes, after, err = o.settings.PreviewImport(now, last, who)
	} else {
		r.Changes, err = o.settings.Import(ctx, now, last, who)
		after = o.settings.Load()
	}
	if err = errors.Join(err, wrong); err != nil {
		return Import{}, err
	}
	r.Effects = o.effects(now, before, after)
	return r, nil
}

// checkScopes checks each scope of what is to be set once.
func (o *Operator) checkScopes(now time.Time, lines []history.Saved) (warnings []string, err error) {
	warnings = []string{}
	checked := map[string]bool{}
	for _, line := range lines {
		scope, _, bad := typed.Settings(line.Scope, line.Set)
		if bad != nil || checked[scope] || len(warnings) == maxChecked {
			continue
		}
		checked[scope] = true
		warning, wrong := o.scopes.check(now, scope)
		if wrong != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", line.Place, wrong))
		} else if warning != "" {
			warnings = append(warnings, line.Place+": "+warning)
		}
	}
	return warnings, err
}

// An Import is what was set from a file, or with Preview would be.
type Import struct {
	Changes  []history.Change `json:"changes"`
	Expired  []string         `json:"expired"`  // FILE:LINE of what is left out, for it would have ended by now
	Effects  []Effect         `json:"effects"`  // as in Result
	Warnings []string         `json:"warnings"` // of scopes that may be typos
}
