package policy

import (
	"sync/atomic"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// totals count since the start.
type totals struct {
	accepted, refused, watched, exempt atomic.Int64

	held      atomic.Int64               // recipients that the router began to hold
	refusals  [len(reasons)]atomic.Int64 // recipients, by reason
	overshoot atomic.Int64               // see Overshoot
}

// Decisions are counters since the start.
type Decisions struct {
	Accepted int64 `json:"accepted"` // sends charged
	Refused  int64 `json:"refused"`  // answers that refused or held
	Exempt   int64 `json:"exempt"`   // recipients of messages for which nobody is charged: exempt senders and scopes
	Watched  int64 `json:"watched"`  // of Accepted: sends that a watched limit would have refused
}

// Totals returns the counters as they are now.
func (p *Policy) Totals() Decisions {
	return Decisions{Accepted: p.totals.accepted.Load(), Refused: p.totals.refused.Load(), Exempt: p.totals.exempt.Load(),
		Watched: p.totals.watched.Load()}
}

// A reason is why a recipient was refused or held.
type reason int

const (
	reasonHourly    reason = iota // the window of hourly limits
	reasonDaily                   // any longer one
	reasonShare                   // room that is left for others
	reasonDeferfail               // a trip
	reasonStop
	reasonLock // by an operator
	reasonPanel
	reasonOutage // the store does not answer
	reasonGone   // the client had gone before it was known whose it was
)

// reasons are the names of all reasons.
var reasons = [...]string{"hourly", "daily", "share", "deferfail", "stop", "lock", "panel", "outage", "gone"}

// reasonOf is the reason for which a limit refuses.
func (q *question) reasonOf(u ratelimit.Use) reason {
	switch {
	case u.Withheld:
		return reasonShare
	case u.Limit.Window != q.Window:
		return reasonDaily
	}
	return reasonHourly
}

// reasonOfBlock is the reason for which who blocks refuses.
func reasonOfBlock(by string) reason {
	switch by {
	case sidecar.ByDeferfail:
		return reasonDeferfail
	case sidecar.ByStop:
		return reasonStop
	case sidecar.ByPanel:
		return reasonPanel
	}
	return reasonLock
}

// countRefusal counts the recipients of a question that is refused. What the router holds is
// counted by countHeld, for it asks about it again and again.
func (p *Policy) countRefusal(q *question, a sidecar.Action, why reason) {
	if q.why = why; q.Stage != sidecar.StageRoute || a == sidecar.Discard {
		p.totals.refusals[why].Add(int64(len(q.to)))
	}
}

// countHeld counts a recipient that the router holds from now on.
func (p *Policy) countHeld(q *question) {
	p.totals.held.Add(1)
	p.totals.refusals[q.why].Add(1)
}

// auditCharge looks whether a charge that was accepted is within the limits.
func (p *Policy) auditCharge(result ratelimit.Result) {
	for _, u := range result.Uses {
		if over := u.Used - u.Limit.Max; over > 0 && u.Limit.Max > 0 && !u.Watched && result.Charged > 0 {
			for most := p.totals.overshoot.Load(); over > most && !p.totals.overshoot.CompareAndSwap(most, over); {
				most = p.totals.overshoot.Load()
			}
		}
	}
}

// Overshoot is the most sends by which an accepted charge was beyond a limit that is enforced,
// by the store's own count, since the start. It is 0, unless this node decides alone and
// store.outage lets it accept more.
func (p *Policy) Overshoot() int64 { return p.totals.overshoot.Load() }

// Refusals are the recipients that were refused or held since the start, by reason, and how many of
// them were held.
func (p *Policy) Refusals() (byReason map[string]int64, held int64) {
	byReason = make(map[string]int64, len(reasons))
	for i, name := range reasons {
		byReason[name] = p.totals.refusals[i].Load()
	}
	return byReason, p.totals.held.Load()
}
