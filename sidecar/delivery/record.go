package delivery

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/notes"
	"sluice/sidecar/settings"
)

// A Recorder has the store count what became of messages according to the logs.
type Recorder struct {
	settings      func() *settings.Settings
	store         Store
	clock         ratelimit.Clock
	events        event.Sink
	notes         notes.Store
	charged       func(id, process string, at time.Time) string
	reconcileSoon func(domains ...string)
	left          func([]logline.Departure)
	observers     []Observer
	messages      *messages
	late          atomic.Int64
	recorded      sync.Pool // of *[]Judged, which Prepare uses again
}

// Store is what a Recorder needs of the store that counts sends.
type Store interface {
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
	Known(now time.Time, token ratelimit.Token) bool
	Uncharge(ctx context.Context, now time.Time, tokens []ratelimit.Token) error
}

// An Observer is called with new outcomes, in the order of the log. It must keep nothing
// of them.
type Observer interface {
	Recorded(now time.Time, news []logline.Outcome)
}

// Options are what a Recorder is made with; all are needed.
type Options struct {
	Settings func() *settings.Settings
	Store    Store
	Clock    ratelimit.Clock
	Events   event.Sink
	Notes    notes.Store
	// Charged returns the id under which a message of Postfix was charged; see
	// policy.Policy.Charged. It is empty if that is not known.
	Charged func(id, process string, at time.Time) string
	// ReconcileSoon has the loop reconcile domains that may have come over a limit.
	ReconcileSoon func(domains ...string)
	// Left is told of messages that have left Exim's queue, behind what became of
	// them. It must keep none of them.
	Left func([]logline.Departure)
}

// New returns a Recorder that goes on from the messages in its notes.
func New(o Options) *Recorder {
	return &Recorder{settings: o.Settings, store: o.Store, clock: o.Clock, events: o.Events, notes: o.Notes, charged: o.Charged,
		reconcileSoon: o.ReconcileSoon, left: o.Left, messages: newMessages(o.Notes, o.Events)}
}

// AddObserver adds an Observer. Call it before the first Record.
func (d *Recorder) AddObserver(o Observer) { d.observers = append(d.observers, o) }

// Late returns how many sends were charged from the log because Sluice was not asked about
// them.
func (d *Recorder) Late() int64 { return d.late.Load() }

// Prepare does what can be done while other entries are recorded. The func that it returns
// records these; call each of those funcs once, in the order of the log. Entries may be recorded again:
// nothing is counted twice.
func (d *Recorder) Prepare(entries []logline.Entry) (record func(ctx context.Context, now time.Time)) {
	s := d.settings()
	used, _ := d.recorded.Get().(*[]Judged)
	if used == nil {
		used = new([]Judged)
	}
	lines := slices.Grow((*used)[:0], len(entries))[:len(entries)]
	for i := range lines {
		l := &lines[i]
		l.Entry = &entries[i]
		Judge(s, l)
		if l.Kind == logline.Arrived {
			l.From = d.messages.sources.Get(OriginOf(l.Entry, IsBounce(l.Entry, s.EximUser)))
		}
	}
	return func(ctx context.Context, now time.Time) {
		d.RecordLines(ctx, now, lines)
		*used = lines
		d.recorded.Put(used)
	}
}

// Record records entries that were not prepared.
func (d *Recorder) Record(ctx context.Context, now time.Time, entries []logline.Entry) {
	d.Prepare(entries)(ctx, now)
}

// RecordLines records lines of the log, in their order.
func (d *Recorder) RecordLines(ctx context.Context, now time.Time, lines []Judged) {
	r, s := d.messages, d.settings()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.batch
	b.Clear()
	for i := range lines {
		l := &lines[i]
		if l.Postfix && d.recordPostfix(s, now, l) {
			continue
		}
		switch l.Kind {
		case logline.Arrived:
			r.asked.sends.take(l.ID)
			r.arrive(s, l)
			if early := r.early[l.ID]; early != nil {
				delete(r.early, l.ID)
				for j := range early {
					r.addOutcome(s, &Judged{Entry: &early[j]})
				}
			}
		case logline.Completed:
			r.leave(l.ID)
			b.left = append(b.left, logline.Departure{ID: l.ID, At: l.At})
		case logline.Moved: // and may come back
			b.left = append(b.left, logline.Departure{ID: l.ID, Moved: true, To: l.Text, At: l.At})
		case logline.Lost:
			d.lost(ctx, now, l.ID)
		case logline.Refused, logline.Ran: // for simulations only
		default:
			r.addOutcome(s, l)
		}
	}
	d.Settle(ctx, now, s, b)
	d.left(b.left)
}

// A Batch is the outcomes of some lines of the log, with a report to the store for each.
type Batch struct {
	Outcomes []Outcome
	reports  []ratelimit.Report
	more     []int             // indexes of deliveries that may stand for several sends; see settleDuplicates
	n        uint64            // number of the batch
	news     []logline.Outcome // reused by notify, like domains
	domains  []string          // that may have come over a limit
	left     []logline.Departure
}

// Clear empties a Batch, to be used again.
func (b *Batch) Clear() {
	clear(b.Outcomes) // they hold on to the block of the log
	clear(b.reports)
	clear(b.news)
	clear(b.left)
	b.left = b.left[:0]
	b.Outcomes, b.reports = b.Outcomes[:0], b.reports[:0]
}

// An Outcome is a line that counts, with its message.
type Outcome struct {
	*Judged
	when   time.Time    // when its send was made
	number int          // of its spelling; see Arrived.numberOf
	Of     *Arrived     // nil if the message's arrival is not known
	Payer  *PayerLimits // nil likewise
	Tried  time.Time    // when a redirected recipient was first tried; of others zero
}

// addOutcome takes in the line of an outcome.
func (r *messages) addOutcome(s *settings.Settings, l *Judged) {
	if l.By != s { // not judged yet, or the settings have changed since
		Judge(s, l)
	}
	o := Outcome{Judged: l}
	if l.Redirected {
		o.Tried = r.redirects.observe(l)
	}
	if !l.Counts {
		return
	}
	o.Of = r.of(l.ID)
	if o.Of != nil {
		r.complete(o.Of)
		o.Payer = o.Of.payerOf(s, &o)
	} else if !l.Postfix {
		r.wait(l.Entry)
	}
	r.batch.Add(s, o)
}

// Add adds an outcome, whose Of and Payer are set if they are known.
func (b *Batch) Add(s *settings.Settings, o Outcome) {
	report := ratelimit.Report{Outcome: o.Outcome}
	if o.Of != nil {
		o.number, o.when = o.Of.numberOf(&o), o.Of.At
		if !o.Tried.IsZero() {
			o.when = o.Tried
		}
		if !o.Doubtful {
			report.Subjects = o.Payer.Subjects
		}
	} else if when, ok := envelope.IDTime(o.ID); ok { // near enough
		o.when = when
	} else {
		o.when = o.At
	}
	if o.Outcome != ratelimit.Delivered && o.Payer != nil && (o.arrears() || o.toStranger() || slices.Contains(o.Payer.ignores, o.cause)) {
		report.Outcome |= ratelimit.Excused
	}
	report.Token = o.token(s, o.number)
	b.Outcomes, b.reports = append(b.Outcomes, o), append(b.reports, report)
}

// token returns the token of the n-th send of the message to its recipient's address.
func (o *Outcome) token(s *settings.Settings, n int) ratelimit.Token {
	if n == 0 {
		return o.First
	}
	return s.Token(o.ID, o.To, n)
}

// Settle has the store count a batch. The store charges the sends about which Sluice was
// not asked, because Sluice was down or Exim delivered the message while it received it.
func (d *Recorder) Settle(ctx context.Context, now time.Time, s *settings.Settings, b *Batch) {
	at := d.clock.Store(now)
	for i := range b.reports {
		b.reports[i].Age = max(0, now.Sub(b.Outcomes[i].when))
	}
	if err := d.store.Settle(ctx, at, b.reports); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
		return
	}
	b.more = b.more[:0]
	for i := range b.reports {
		r, o := &b.reports[i], &b.Outcomes[i]
		switch {
		case r.Known && o.Outcome == ratelimit.Delivered && (o.Of == nil || !o.Of.Distinct):
			b.more = append(b.more, i)
		case r.Charged && o.Payer.Who.Class == sidecar.Charged && !o.arrears():
			d.late.Add(1)
		}
	}
	if err := d.settleDuplicates(ctx, at, s, b); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
	d.notify(now, b)
}

// notify tells the observers what is new in a batch.
func (d *Recorder) notify(now time.Time, b *Batch) {
	b.n++
	b.news, b.domains = b.news[:0], b.domains[:0]
	for i := range b.reports {
		r, o := &b.reports[i], &b.Outcomes[i]
		if !r.Moved && !r.Charged || o.Payer == nil || o.Payer.Who.Class != sidecar.Charged {
			continue
		}
		b.news = append(b.news, logline.Outcome{Entry: o.Entry, Payer: &o.Payer.Who, Author: &o.Payer.Author, Token: r.Token, When: o.when, To: o.To.Domain,
			Result: o.Outcome, Cause: o.cause, Excused: r.Outcome&ratelimit.Excused != 0, Charged: r.Charged})
		if (r.Charged || o.Outcome != ratelimit.Delivered) && o.Payer.batch != b.n {
			o.Payer.batch = b.n
			b.domains = append(b.domains, o.Payer.Who.Subject())
		}
	}
	for _, o := range d.observers {
		o.Recorded(now, b.news)
	}
	d.reconcileSoon(b.domains...)
}

// settleDuplicates reports a delivery for every further send to the same address that was
// charged and is not in the log: Exim delivers once to recipients that are written alike,
// and each of them was charged.
func (d *Recorder) settleDuplicates(ctx context.Context, at time.Time, s *settings.Settings, b *Batch) error {
	var reports []ratelimit.Report
	for ahead := 1; len(b.more) > 0; ahead++ {
		reports = reports[:0]
		for _, i := range b.more {
			o := &b.Outcomes[i]
			n := o.number + ahead
			if o.Of != nil {
				n = max(n, o.Of.spellingsOf(o.First)+ahead-1)
			}
			reports = append(reports, ratelimit.Report{Token: o.token(s, n), Outcome: o.Outcome})
		}
		if err := d.store.Settle(ctx, at, reports); err != nil {
			return err
		}
		more := b.more[:0]
		for j, i := range b.more {
			if reports[j].Known {
				more = append(more, i)
			}
		}
		b.more = more
	}
	return nil
}
