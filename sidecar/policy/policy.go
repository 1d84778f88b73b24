package policy

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/settings"
	"sluice/sidecar/transaction"
)

// A Core answers questions about messages.
type Policy struct {
	store     Store
	settings  func() *settings.Settings
	clock     sidecar.Clock
	events    event.Sink
	holds     HeldMail
	blockers  []Blocker // in the order in which they speak
	observers []Observer
	incoming  *transaction.Table
	totals    totals
	unknown   atomic.Int64 // messages without an id
	spaces    sync.Pool    // of *space
}

// A ChargeStore is a store as far as a Core needs it.
type Store interface {
	Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Known(now time.Time, token ratelimit.Token) bool
	Horizon(now time.Time) time.Time
}

// HeldMail is what the router holds.
type HeldMail interface {
	// Hold notes that a recipient is held; charged: it was paid for before.
	Hold(now time.Time, who sidecar.Payer, id string, token ratelimit.Token, charged bool)
	Drop(domain, id string, token ratelimit.Token)
	// Uncharged reports whether a recipient is held that was never charged.
	Uncharged(domain, id string, token ratelimit.Token) bool
}

// An Observer hears of each decision of the limits. It must not wait, and must keep
// nothing of the Decision.
type Observer interface {
	Decided(now time.Time, d *Decision)
}

// A Decision is what was decided about a message by what is counted.
type Decision struct {
	Request *sidecar.Request
	Payer   sidecar.Payer
	Charged int  // sends that were charged
	Refused bool // or would have been, if they were not sent by the router
	Full    bool // the domain is at its limit now
}

// CoreOptions are what a Core is made with.
type Options struct {
	Store    Store
	Settings func() *settings.Settings
	Clock    sidecar.Clock
	Events   event.Sink
}

// NewCore returns a Core, which asks nobody yet what is held or blocked.
func New(o Options) *Policy {
	return &Policy{store: o.Store, settings: o.Settings, clock: o.Clock, events: o.Events, incoming: transaction.New()}
}

// Connect tells a Core who holds mail, who blocks, in the order in which they speak,
// and who observes. It is called before the first question.
func (p *Policy) Connect(held HeldMail, blockers []Blocker, observers ...Observer) {
	p.holds, p.blockers, p.observers = held, blockers, observers
}

// Room is how many sends of somebody would be accepted now.
func (p *Policy) Room(ctx context.Context, now time.Time, who sidecar.Payer) int {
	s := p.settings()
	if _, blocked := p.BlockOf(now, sidecar.Author{}, who); blocked {
		return 0
	}
	if s.ExemptScope(who) {
		return sidecar.RoomUnlimited
	}
	result, err := p.store.Look(ctx, p.clock.Store(now), ratelimit.Take{Subjects: s.AppendSubjects(nil, who)})
	if err != nil || !result.OK {
		return 0
	}
	return room(result)
}

// Decisions are counters since the start.
type Decisions struct {
	Accepted     int64 `json:"accepted"`     // sends charged
	Refused      int64 `json:"refused"`      // answers that refused or held
	Exempt       int64 `json:"exempt"`       // recipients of messages for which nobody is charged: exempt senders and scopes
	Watched      int64 `json:"watched"`      // answers that would have refused if the limit were not watched
	Unidentified int64 `json:"unidentified"` // questions in which nobody could be found to charge
}

// Totals are the counters now.
func (p *Policy) Totals() Decisions {
	return Decisions{Accepted: p.totals.accepted.Load(), Refused: p.totals.refused.Load(), Exempt: p.totals.exempt.Load(),
		Watched: p.totals.watched.Load(), Unidentified: p.totals.unidentified.Load()}
}

// totals count since the start.
type totals struct {
	accepted, refused, watched, exempt, unidentified atomic.Int64
}
