package policy

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/settings"
	"sluice/sidecar/totals"
	"sluice/sidecar/transaction"
)

// A Policy answers a mail server's questions about messages.
type Policy struct {
	Options
	blockers  []Blocker // the first one with a reason answers
	observers []Observer
	sharing   sharing
	incoming  *transaction.Table // of Postfix
	notices   notices
	unknown   atomic.Int64 // how many messages have got a made-up id; see ask
	buffers   sync.Pool    // of *buffers
}

// Store is what a Policy needs of the store that counts sends.
type Store interface {
	Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Known(now time.Time, token ratelimit.Token) bool
	Horizon(now time.Time) time.Time
}

// HeldMail records which recipients wait in Exim's queue because the router holds them.
type HeldMail interface {
	// Hold records a held recipient, and reports whether it was not held before.
	Hold(now time.Time, h sidecar.Held) (begins bool)
	// Drop forgets a recipient that is held no more.
	Drop(subject, id string, token ratelimit.Token)
	// Uncharged reports whether a recipient is held and was never charged.
	Uncharged(subject, id string, token ratelimit.Token) bool
	// Kept returns the Block of a recipient that a stop has held, and that stays held though
	// the stop is over.
	Kept(now time.Time, subject, id string, token ratelimit.Token) (sidecar.Block, bool)
}

// An Observer is called with each decision that the limits make, and with what passes without one. It must not wait, and
// must keep nothing of the Decision.
type Observer interface {
	Decided(now time.Time, d *Decision)
}

// A Decision is what was decided about a message, or one recipient of it.
type Decision struct {
	Request *sidecar.Request
	Payer   sidecar.Payer
	Author  sidecar.Author
	To      []envelope.Address // the remote recipients
	Charged int                // sends that were charged
	Uses    []ratelimit.Use    // of the limits under which they were charged
	Refused bool               // refused or held by a limit
	Full    bool               // the payer's Subject is at its limit now
	Blocked bool               // refused, though not held, because the payer is blocked
	By      string             // who blocks, as in sidecar.Block

	Uncharged bool // accepted, and nobody pays; the router reports a recipient with each attempt
}

// Options are what a Policy is made with; all are needed.
type Options struct {
	Store    Store
	Settings func() *settings.Settings
	Clock    sidecar.Clock
	Events   event.Sink
	Totals   *totals.Totals // of all decisions
	Held     HeldMail
	// Tried reports whether Exim has tried a recipient of a message that an alias or list
	// has made; see delivery.Recorder. It must not wait.
	Tried func(id string, token ratelimit.Token) bool
	// Came is told of a message with an id what the log will not have: over which connection
	// of a client on this host it comes, or in which directory a program sends it. It must
	// not wait.
	Came func(r *sidecar.Request)
	// Culprit returns who sends most at the expense of a subject, as far as is known. It must
	// not wait.
	Culprit func(now time.Time, subject string) sidecar.Culprit
}

// New returns a Policy without Blockers and Observers.
func New(o Options) *Policy {
	return &Policy{Options: o, sharing: sharing{events: o.Events}, incoming: transaction.New()}
}

// AddBlocker adds a Blocker behind those there are. Call it before the first question.
func (p *Policy) AddBlocker(b Blocker) { p.blockers = append(p.blockers, b) }

// AddObserver adds an Observer. Call it before the first question.
func (p *Policy) AddObserver(o Observer) { p.observers = append(p.observers, o) }

// SetSharer has authors leave room for others. Call it before the first question.
func (p *Policy) SetSharer(s Sharer) { p.sharing.sharer = s }

// Ask decides on one Request. Many goroutines may call it at once. now is the time just
// read.
func (p *Policy) Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply {
	q := question{Request: r, Settings: p.Settings(), now: now, at: p.Clock.Store(now)}
	if !q.Config.Who.Subjects {
		q.Subject = ""
	}
	if q.buffers, _ = p.buffers.Get().(*buffers); q.buffers == nil {
		q.buffers = new(buffers)
	}
	reply := p.ask(ctx, &q)
	*q.buffers = buffers{} // or text of the request would stay in memory
	p.buffers.Put(q.buffers)
	return reply
}

// A question is a Request with what was found out about it so far.
type question struct {
	sidecar.Request
	*settings.Settings
	now     time.Time // by the system's clock
	at      time.Time // by the store's clock
	who     sidecar.Payer
	author  sidecar.Author
	to      []envelope.Address // the remote recipients
	block   sidecar.Block      // what blocks the payer, once blocked has reported true
	warning string             // the watched limit that would have refused; else empty
	share   share
	why     totals.Reason // of the refusal, once there is one
	buffers *buffers
}

// buffers hold what is made of a question about one recipient. They are reused: to
// allocate them for each question would take as long as to decide it.
type buffers struct {
	to       [1]envelope.Address
	tokens   [1]ratelimit.Token
	marks    [1]ratelimit.Token
	subjects [1]ratelimit.Subject
	uses     [2]ratelimit.Use // by hour and by day
	limits   [2]ratelimit.Limit
	decision Decision
}

// ask finds who pays, and for which recipients.
func (p *Policy) ask(ctx context.Context, q *question) sidecar.Reply {
	q.who, q.author = q.Identify(&q.Request)
	if (q.Socket != "" || q.CWD != "") && q.ID != "" && q.Stage != sidecar.StageRoute {
		p.Came(&q.Request)
	}
	if q.Stage == sidecar.StagePostfixEnd {
		return p.askPostfixEnd(ctx, q)
	}
	q.to = q.remoteRecipients()
	if q.ID == "" && !q.beforeID() {
		// The made-up id keeps the sends of this message apart from the next one's.
		q.ID = fmt.Sprintf("unknown-%d-%d", q.now.UnixNano(), p.unknown.Add(1))
	}
	return p.decide(ctx, q)
}

// Room returns how much of a payer's mail would be accepted now. No more is accepted while it
// is blocked or the store fails.
func (p *Policy) Room(ctx context.Context, now time.Time, who sidecar.Payer) sidecar.Room {
	s := p.Settings()
	if b, blocked := p.BlockOf(now, sidecar.Author{}, who); blocked {
		if b.Retries != nil {
			return sidecar.Room{Retries: b.Retries.Left()}
		}
		return sidecar.Room{}
	}
	if s.ExemptScope(who) {
		return sidecar.Room{Sends: sidecar.RoomUnlimited, Retries: sidecar.RoomUnlimited}
	}
	q := &question{Settings: s, now: now, who: who}
	t := ratelimit.Take{Subjects: s.AppendSubjects(nil, who)}
	result, err := p.Store.Look(ctx, p.Clock.Store(now), t)
	if err != nil || !result.OK {
		return sidecar.Room{Retries: sidecar.RoomUnlimited}
	}
	return sidecar.Room{Sends: q.room(result), Retries: sidecar.RoomUnlimited, Of: func(a sidecar.Author) int {
		q.author, q.share = a, share{}
		p.sharing.find(q, t.Subjects)
		return q.room(result)
	}}
}

// Charged returns the id under which a message of Postfix was charged; empty if that is
// not known. The message is the one to which this smtpd process gave this queue id in the
// second of at.
func (p *Policy) Charged(queue, process string, at time.Time) string {
	return p.incoming.Copy(p.incoming.FindLogged(queue, process, at)).ID
}
