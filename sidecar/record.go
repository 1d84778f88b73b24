package sidecar

import (
	"context"
	"encoding/json"
	"path"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
)

// A record is what is known from the log of messages that are still on their
// way.
type record struct {
	mu       sync.Mutex
	arrivals map[string]*arrived
	early    map[string][]LogEntry // outcomes that came before their arrival
	unnoted  []string              // ids of arrivals since the last Checkpoint
	gone     []string              // ids of noted arrivals whose messages have left
	expired  time.Time             // when arrivals were last looked through
}

// arrived is a message's arrival line, as far as it says who is charged. It is
// kept until the message has left the queue, over restarts too.
type arrived struct {
	At     time.Time `json:"at"`
	Sender string    `json:"sender,omitempty"`
	Auth   string    `json:"auth,omitempty"`
	Login  string    `json:"login,omitempty"`
	Client string    `json:"client,omitempty"`

	noted bool
}

const (
	arrivalNotes = "arrival/"
	positionNote = "log/position"

	// maxEarly bounds outcomes that wait for their arrival: cutthrough deliveries,
	// which Exim logs just before it.
	maxEarly = 1000
	// arrivalFor is how long a message may be on its way. Exim's queues end long
	// before; what left behind the log's back is forgotten then.
	arrivalFor = 32 * 24 * time.Hour
)

func newRecord(notes Notes, log *OperatorLog) *record {
	r := &record{arrivals: map[string]*arrived{}, early: map[string][]LogEntry{}}
	notes.Notes(arrivalNotes, func(key string, value []byte) {
		a := &arrived{noted: true}
		if err := json.Unmarshal(value, a); err != nil {
			log.NoteUnread(key, err)
			return
		}
		r.arrivals[strings.TrimPrefix(key, arrivalNotes)] = a
	})
	return r
}

// Record takes in one line of the log. Lines are told in their order, and may
// be told again: nothing is counted twice.
func (p *Policy) Record(ctx context.Context, now time.Time, e LogEntry) {
	p.record.mu.Lock()
	defer p.record.mu.Unlock()
	switch e.Kind {
	case LogArrived:
		p.record.arrive(e)
		early := p.record.early[e.ID]
		delete(p.record.early, e.ID)
		for _, outcome := range early {
			p.recordOutcome(ctx, now, outcome)
		}
	case LogCompleted:
		p.record.leave(e.ID)
	default:
		p.recordOutcome(ctx, now, e)
	}
}

// arrive copies what it keeps: the line would stay in memory otherwise.
func (r *record) arrive(e LogEntry) {
	r.unnoted = append(r.unnoted, e.ID)
	r.arrivals[e.ID] = &arrived{At: e.At, Sender: strings.Clone(e.Sender), Auth: strings.Clone(e.Auth),
		Login: strings.Clone(e.Login), Client: strings.Clone(e.ClientAddress)}
}

func (r *record) leave(id string) {
	if a := r.arrivals[id]; a != nil && a.noted {
		r.gone = append(r.gone, id)
	}
	delete(r.arrivals, id)
}

// wait keeps an outcome until its arrival is told, if that can still come.
func (r *record) wait(e LogEntry) {
	began, known := IDTime(e.ID)
	if e.Kind != LogDelivered || known && e.At.Sub(began) > 10*time.Minute {
		return
	}
	if len(r.early) >= maxEarly {
		clear(r.early)
	}
	r.early[e.ID] = append(r.early[e.ID], e)
}

// ShowProgress has Status tell how far the log was read.
func (p *Policy) ShowProgress(of func() LogProgress) { p.progress.Store(&of) }

// Position is what Checkpoint was last given; nil at the first start.
func (p *Policy) Position() (position []byte) {
	p.notes.Notes(positionNote, func(_ string, value []byte) { position = value })
	return position
}

// Checkpoint keeps how far the log was read, and with it what is needed to go
// on from there: the arrivals of messages that are still on their way.
func (p *Policy) Checkpoint(now time.Time, position []byte) error {
	r := p.record
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	for _, id := range r.unnoted {
		a := r.arrivals[id]
		if a == nil || a.noted { // most have left already
			continue
		}
		note, err := json.Marshal(a)
		if err == nil {
			err = p.notes.Note(arrivalNotes+id, note)
		}
		if err != nil {
			return err
		}
		a.noted = true
	}
	r.unnoted = r.unnoted[:0]
	if err := p.bads.save(p.notes, now); err != nil {
		return err
	}
	if err := p.notes.Note(positionNote, position); err != nil {
		return err
	}
	for len(r.gone) > 0 { // behind the position: an outcome read again needs it
		if err := p.notes.Forget(arrivalNotes + r.gone[0]); err != nil {
			return err
		}
		r.gone = r.gone[1:]
	}
	return nil
}

func (r *record) expire(now time.Time) {
	if now.Sub(r.expired) < time.Hour {
		return
	}
	r.expired = now
	for id, a := range r.arrivals {
		if now.Sub(a.At) > arrivalFor {
			r.leave(id)
		}
	}
}

// An outcome is one of a send that counts: remote, and really attempted.
type outcome struct {
	*LogEntry
	to    address
	kind  ratelimit.Outcome
	cause Cause    // of a bad one
	known bool     // who is charged is known
	who   identity // zero unless known
	when  time.Time
}

// recordOutcome settles a send, or charges one that nobody asked about.
func (p *Policy) recordOutcome(ctx context.Context, now time.Time, e LogEntry) {
	s := p.settings.Load()
	o, ok := s.outcomeOf(&e)
	if !ok {
		return
	}
	a := p.record.arrivals[e.ID]
	s.dateAndPayer(&o, a)
	told := o.kind
	if o.kind != ratelimit.Delivered && s.ignores(o.who, o.cause) {
		told |= ratelimit.Excused
	}
	at, first := p.clock.store(now), token(s.Node, e.ID, o.to, 0)
	known, moved, err := p.settleAll(ctx, at, s.Node, &o, first, told)
	switch {
	case err != nil:
		p.log.StoreFailed(err)
		return
	case !known && !o.known:
		p.record.wait(e)
		return
	case !known && o.who.class == charged:
		moved, err = p.chargeLate(ctx, now, s, &o, ratelimit.Take{Tokens: []ratelimit.Token{first}, Outcome: told})
	}
	if err != nil {
		p.log.StoreFailed(err)
	}
	if moved > 0 && o.who.class == charged && o.who.domain != "" {
		p.noteOutcome(s, &o, first, told)
	}
}

// settleAll settles all sends of a message to one recipient: entries that fold
// to the same address cannot be told apart in the log.
func (p *Policy) settleAll(ctx context.Context, at time.Time, node string, o *outcome, first ratelimit.Token, told ratelimit.Outcome) (known bool, moved int, err error) {
	tokens := [1]ratelimit.Token{first}
	for n := 0; ; n++ {
		if n > 0 {
			tokens[0] = token(node, o.ID, o.to, n)
		}
		k, m, err := p.store.Settle(ctx, at, tokens[:], told)
		if k == 0 || err != nil {
			return known, moved, err
		}
		known, moved = true, moved+m
	}
}

// chargeLate charges a send about which nobody asked: sluice was down, or the
// message went through while it arrived. It was made when its message arrived.
func (p *Policy) chargeLate(ctx context.Context, now time.Time, s *Settings, o *outcome, t ratelimit.Take) (moved int, err error) {
	t.Subjects, t.Force, t.Age = s.subjects(o.who), true, max(0, now.Sub(o.when))
	result, err := p.store.Take(ctx, p.clock.store(now), t)
	if err != nil {
		return 0, err
	}
	if result.Charged > 0 {
		p.totals.late.Add(int64(result.Charged))
		p.due.add(o.who.domain)
	}
	p.holds.release(o.who.domain, o.ID, t.Tokens[0])
	return result.Moved, nil
}

// dateAndPayer finds when a send was made and who is charged for it. Where the
// arrival is not known, the time in the message's id is near enough.
func (s *Settings) dateAndPayer(o *outcome, a *arrived) {
	if a == nil {
		if when, ok := IDTime(o.ID); ok {
			o.when = when
		} else {
			o.when = o.At
		}
		return
	}
	o.known, o.when = true, a.At
	o.who = s.identify(&Request{Stage: StageRoute, Sender: a.Sender, Auth: a.Auth, Login: a.Login, ClientAddress: a.Client,
		Recipient: o.Recipient, Original: o.Original})
}

// outcomeOf takes a line for what it means, or reports that it means nothing:
// for a local recipient, for an attempt that was not made, or for one of our
// own refusals.
func (s *Settings) outcomeOf(e *LogEntry) (o outcome, ok bool) {
	o = outcome{LogEntry: e, to: foldRouted(e.Recipient)}
	switch e.Kind {
	case LogDelivered:
		o.kind = ratelimit.Delivered
	case LogDeferred:
		o.kind = ratelimit.Deferred
	case LogFailed:
		o.kind = ratelimit.Failed
	}
	if o.to.domain == "" || o.to.domain == holdDomain || ours(e.Router) || o.kind == ratelimit.Deferred && !attempted(e.Text) ||
		s.localDomains.get().has(o.to.domain) || !s.remoteTransport(e.Transport) {
		return o, false
	}
	if o.kind != ratelimit.Delivered {
		o.cause = causeOf(e)
	}
	return o, true
}

// holdDomain is where our router sends what it holds; see exim-config/routers.conf.
const holdDomain = "hold.sluice.invalid"

// ours tells whether a router is a limiter's: ours, or cPanel's.
func ours(router string) bool {
	for _, prefix := range [...]string{"sluice", "enforce_mail_permissions", "check_mail_permissions"} {
		if strings.HasPrefix(router, prefix) {
			return true
		}
	}
	return false
}

// attempted tells from the text of a deferral whether there was an attempt.
// Its error numbers have changed over Exim's versions.
func attempted(text string) bool {
	return !strings.Contains(text, "retry time not reached") && !strings.Contains(text, "reusing SMTP connection skips")
}

// remoteTransport tells whether a transport is remote; a line without one tells
// nothing against it.
func (s *Settings) remoteTransport(name string) bool {
	if name == "" {
		return true
	}
	for _, glob := range s.remoteTransports {
		if match, _ := path.Match(glob, name); match {
			return true
		}
	}
	return false
}
