package policy

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/identity"
	"sluice/sidecar/notice"
	"sluice/sidecar/settings"
	"sluice/sidecar/totals"
	"sluice/sidecar/transaction"
	"sluice/sidecar/wording"
)

// A Policy answers a mail server's questions about messages.
type Policy struct {
	Options
	blockers  []Blocker // the first one with a reason answers
	observers []Observer
	sharer    Sharer             // nil: nobody leaves room for others
	incoming  *transaction.Table // of Postfix
	notices   notice.Notices
	unknown   atomic.Int64 // how many messages have got a made-up id; see ask
	questions sync.Pool    // of *question, with nothing in them
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
	// Original returns the address of which an alias or list has made a recipient that is held.
	// Exim does not always say so again. Empty: none has, or it is not held.
	Original(id string, token ratelimit.Token) string
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
	Over    *wording.Refusal   // that limit
	Full    bool               // the payer's Subject is at its limit now
	Blocked bool               // refused, though not held, because the payer is blocked
	By      string             // who blocks, as in sidecar.Block

	Uncharged bool // accepted, and nobody pays; the router reports a recipient with each attempt
}

// notify tells the observers what was decided.
func (p *Policy) notify(q *question, d Decision) {
	kept := &q.buffers.decision // on the heap once, and not with each question
	*kept = d
	kept.Request, kept.Payer, kept.Author, kept.To = &q.Request, q.who, q.author, q.to
	for _, o := range p.observers {
		o.Decided(q.now, kept)
	}
}

// Options are what a Policy is made with; all are needed.
type Options struct {
	Store    Store
	Settings func() *settings.Settings
	Clock    ratelimit.Clock
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
	return &Policy{Options: o, incoming: transaction.New()}
}

// AddBlocker adds a Blocker behind those there are. Call it before the first question.
func (p *Policy) AddBlocker(b Blocker) { p.blockers = append(p.blockers, b) }

// AddObserver adds an Observer. Call it before the first question.
func (p *Policy) AddObserver(o Observer) { p.observers = append(p.observers, o) }

// SetSharer has authors leave room for others. Call it before the first question.
func (p *Policy) SetSharer(s Sharer) { p.sharer = s }

// Ask decides on one Request. Many goroutines may call it at once. now is the time just
// read.
func (p *Policy) Ask(ctx context.Context, now time.Time, r sidecar.Request) sidecar.Reply {
	q, _ := p.questions.Get().(*question)
	if q == nil {
		q = new(question)
	}
	q.Request, q.Settings, q.now, q.at = r, p.Settings(), now, p.Clock.Store(now)
	if !q.Config.Who.Subjects {
		q.Subject = ""
	}
	reply := p.ask(ctx, q)
	*q = question{} // or text of the request would stay in memory
	p.questions.Put(q)
	return reply
}

// A question is a Request with what was found out about it so far. Questions are reused: to
// allocate one for each would take a tenth of the time to decide it. So whoever is told of one
// keeps nothing but its strings.
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
	buffers buffers
}

// buffers hold what is made of a question about one recipient.
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
	if q.Stage == sidecar.StageRoute && !identity.IsMade(&q.Request) {
		q.Original = cmp.Or(p.Held.Original(q.ID, q.Token(q.ID, envelope.FoldRouted(q.Recipient), 0)), q.Original)
	}
	q.who, q.author = q.Identify(&q.Request)
	if (q.Socket != "" || q.CWD != "") && q.ID != "" && (q.Stage != sidecar.StageRoute || q.Claimed) {
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
		q.findShare(p.sharer, t.Subjects)
		return q.room(result)
	}}
}

// Charged returns the id under which a message of Postfix was charged; empty if that is
// not known. The message is the one to which this smtpd process gave this queue id in the
// second of at.
func (p *Policy) Charged(queue, process string, at time.Time) string {
	return p.incoming.Copy(p.incoming.FindLogged(queue, process, at)).ID
}
