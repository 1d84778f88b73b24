package totals

import (
	"sync/atomic"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// Totals count since the start. The zero value counts from zero.
type Totals struct {
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

// Decisions returns the counters as they are now.
func (t *Totals) Decisions() Decisions {
	return Decisions{Accepted: t.accepted.Load(), Refused: t.refused.Load(), Exempt: t.exempt.Load(), Watched: t.watched.Load()}
}

// A Reason is why a recipient was refused or held.
type Reason int

// The reasons.
const (
	Hourly    Reason = iota // the window of hourly limits
	Daily                   // any longer one
	Share                   // room that is left for others
	Deferfail               // a trip
	Stop
	Lock // by an operator
	Panel
	Outage // the store does not answer
	Gone   // the client had gone before it was known whose it was
)

// reasons are the names of all reasons.
var reasons = [...]string{"hourly", "daily", "share", "deferfail", "stop", "lock", "panel", "outage", "gone"}

// ReasonOfBlock is the reason for which who blocks refuses.
func ReasonOfBlock(by string) Reason {
	switch by {
	case sidecar.ByDeferfail:
		return Deferfail
	case sidecar.ByStop:
		return Stop
	case sidecar.ByPanel:
		return Panel
	}
	return Lock
}

// Exempt counts recipients for whom nobody is charged.
func (t *Totals) Exempt(n int) { t.exempt.Add(int64(n)) }

// Charged counts sends that were charged, and looks whether they are within the limits.
func (t *Totals) Charged(result ratelimit.Result) {
	t.accepted.Add(int64(result.Charged))
	for _, u := range result.Uses {
		if over := u.Used - u.Limit.Max; over > 0 && u.Limit.Max > 0 && !u.Watched && result.Charged > 0 {
			for most := t.overshoot.Load(); over > most && !t.overshoot.CompareAndSwap(most, over); {
				most = t.overshoot.Load()
			}
		}
	}
}

// Watched counts sends, of those that were charged, that a watched limit would have refused.
func (t *Totals) Watched(n int64) { t.watched.Add(n) }

// Answered counts an answer that refuses or holds.
func (t *Totals) Answered() { t.refused.Add(1) }

// Refused counts recipients that were refused.
func (t *Totals) Refused(why Reason, n int) { t.refusals[why].Add(int64(n)) }

// Held counts a recipient that the router holds from now on.
func (t *Totals) Held(why Reason) {
	t.held.Add(1)
	t.refusals[why].Add(1)
}

// Overshoot is the most sends by which an accepted charge was beyond a limit that is enforced,
// by the store's own count, since the start. It is 0, unless this node decides alone and
// store.outage lets it accept more.
func (t *Totals) Overshoot() int64 { return t.overshoot.Load() }

// Refusals are the recipients that were refused or held since the start, by reason, and how many of
// them were held.
func (t *Totals) Refusals() (byReason map[string]int64, held int64) {
	byReason = make(map[string]int64, len(reasons))
	for i, name := range reasons {
		byReason[name] = t.refusals[i].Load()
	}
	return byReason, t.held.Load()
}
