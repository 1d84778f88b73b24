package delivery

import (
	"context"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/settings"
)

// A Recorder records what the logs say became of messages.
type Recorder struct {
	settings  func() *settings.Settings
	store     Store
	clock     sidecar.Clock
	events    event.Sink
	notes     sidecar.Notes
	charged   func(id, process string, at time.Time) string
	look      func(domains ...string)
	observers []Observer
	record    *record
	late      atomic.Int64
}

// A RecordStore is a store as far as a Recorder needs it.
type Store interface {
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
	Known(now time.Time, token ratelimit.Token) bool
}

// A RecordObserver hears of new outcomes, in the order of the log. It must keep
// nothing of them.
type Observer interface {
	Recorded(now time.Time, news []sidecar.Outcome)
}

// RecorderOptions are what a Recorder is made with; all are needed.
type Options struct {
	Settings func() *settings.Settings
	Store    Store
	Clock    sidecar.Clock
	Events   event.Sink
	Notes    sidecar.Notes
	// Charged is under which id a message was charged that an smtpd of Postfix gave a
	// queue id in the second of at; empty where that is not known.
	Charged func(id, process string, at time.Time) string
	// Look has domains looked at of which it may have changed whether they are over a limit.
	Look      func(domains ...string)
	Observers []Observer
}

// NewRecorder returns a Recorder that knows what was noted of messages on their way.
func New(o Options) *Recorder {
	return &Recorder{settings: o.Settings, store: o.Store, clock: o.Clock, events: o.Events, notes: o.Notes, charged: o.Charged,
		look: o.Look, observers: o.Observers, record: newRecord(o.Notes, o.Events)}
}

// Late is how many sends were charged from the log, about which nobody had asked.
func (d *Recorder) Late() int64 { return d.late.Load() }

// Prepare does what can be done ahead, while other entries are recorded. What it
// returns records them: blocks of the log in their order, and what was recorded
// before may come again, for nothing is counted twice.
func (d *Recorder) Prepare(entries []sidecar.LogEntry) (record func(ctx context.Context, now time.Time)) {
	s, lines := d.settings(), make([]Judged, 0, len(entries))
	for i := range entries {
		l := Judged{LogEntry: &entries[i]}
		Judge(s, &l)
		if l.Kind == sidecar.LogArrived {
			l.From = d.record.senders.Get(OriginOf(l.LogEntry))
		}
		lines = append(lines, l)
	}
	return func(ctx context.Context, now time.Time) { d.RecordLines(ctx, now, lines) }
}

// Record records entries that nobody has prepared.
func (d *Recorder) Record(ctx context.Context, now time.Time, entries []sidecar.LogEntry) {
	d.Prepare(entries)(ctx, now)
}

// recordLines takes in lines of the log, in their order.
func (d *Recorder) RecordLines(ctx context.Context, now time.Time, lines []Judged) {
	r, s := d.record, d.settings()
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
		case sidecar.LogArrived:
			r.arrive(l)
			if early := r.early[l.ID]; early != nil {
				delete(r.early, l.ID)
				for j := range early {
					r.hear(s, &Judged{LogEntry: &early[j]})
				}
			}
		case sidecar.LogCompleted:
			r.leave(l.ID)
		case sidecar.LogRefused, sidecar.LogRan: // for simulations: who asked knows
		default:
			r.hear(s, l)
		}
	}
	d.Settle(ctx, now, s, b)
}

// A batch is the outcomes of some lines of the log, and what the store is told of
// them.
type Batch struct {
	Outcomes []Outcome
	reports  []ratelimit.Report // one for each of outcomes
	more     []int              // which of outcomes are deliveries of what had been asked about
	n        uint64             // number of the batch
	news     []sidecar.Outcome  // of observe, as the next
	domains  []string           // of which it may have changed whether they are over a limit
}

func (b *Batch) Clear() {
	clear(b.Outcomes) // they hold on to the block of the log
	clear(b.reports)
	clear(b.news)
	b.Outcomes, b.reports = b.Outcomes[:0], b.reports[:0]
}

// An outcome is one of a send that counts.
type Outcome struct {
	*Judged
	when  time.Time    // when its send was made
	entry int          // which of its tokens is that of the send
	Of    *Arrived     // nil unless the message's arrival is known
	Payer *PayerLimits // nil likewise
}

// hear takes in the line of an outcome.
func (r *record) hear(s *settings.Settings, l *Judged) {
	if l.By != s {
		Judge(s, l) // nobody has, or the settings have changed since
	}
	if !l.Counts {
		return
	}
	o := Outcome{Judged: l, Of: r.of(l.ID)}
	if o.Of != nil {
		o.Payer = o.Of.Sender.payerOf(s, &o)
	} else if !l.Postfix {
		r.wait(l.LogEntry)
	}
	r.batch.Add(s, o)
}

// add takes in an outcome of which it is known what can be known.
func (b *Batch) Add(s *settings.Settings, o Outcome) {
	report := ratelimit.Report{Told: o.Outcome}
	if o.Of != nil {
		o.entry, o.when = o.Of.entry(&o), o.Of.At
		if !o.Doubtful {
			report.Subjects = o.Payer.Subjects
		}
	} else if when, ok := envelope.IDTime(o.ID); ok { // near enough
		o.when = when
	} else {
		o.when = o.At
	}
	if o.Outcome != ratelimit.Delivered && o.Payer != nil && o.Payer.ignore(o.cause) {
		report.Told |= ratelimit.Excused
	}
	report.Token = o.token(s, o.entry)
	b.Outcomes, b.reports = append(b.Outcomes, o), append(b.reports, report)
}

// token is that of the n-th entry of the message that folds to its recipient.
func (o *Outcome) token(s *settings.Settings, n int) ratelimit.Token {
	if n == 0 {
		return o.First
	}
	return s.Token(o.ID, o.To, n)
}

// settle has the store count a batch. What nobody had asked about is charged: sluice
// was down, or the message went through while it arrived.
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
		case r.Charged && o.Payer.Who.Class == sidecar.Charged:
			d.late.Add(1)
		}
	}
	if err := d.settleDuplicates(ctx, at, s, b); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
	d.observe(now, b)
}

// observe tells those who observe what is new in a batch.
func (d *Recorder) observe(now time.Time, b *Batch) {
	b.n++
	b.news, b.domains = b.news[:0], b.domains[:0]
	for i := range b.reports {
		r, o := &b.reports[i], &b.Outcomes[i]
		if !r.Moved && !r.Charged || o.Payer == nil || o.Payer.Who.Class != sidecar.Charged {
			continue
		}
		b.news = append(b.news, sidecar.Outcome{Entry: o.LogEntry, Payer: &o.Payer.Who, Token: r.Token, When: o.when, To: o.To.Domain,
			Kind: o.Outcome, Cause: o.cause, Excused: r.Told&ratelimit.Excused != 0, Charged: r.Charged})
		if (r.Charged || o.Outcome != ratelimit.Delivered) && o.Payer.batch != b.n {
			o.Payer.batch = b.n
			b.domains = append(b.domains, o.Payer.Who.Domain)
		}
	}
	for _, o := range d.observers {
		o.Recorded(now, b.news)
	}
	d.look(b.domains...)
}

// settleDuplicates tells of a delivery for all entries of a message that fold to
// its recipient and are not in the log: Exim delivers once to several that are
// written in the same way, and all of them were charged.
func (d *Recorder) settleDuplicates(ctx context.Context, at time.Time, s *settings.Settings, b *Batch) error {
	var reports []ratelimit.Report
	for ahead := 1; len(b.more) > 0; ahead++ {
		reports = reports[:0]
		for _, i := range b.more {
			o := &b.Outcomes[i]
			n := o.entry + ahead
			if o.Of != nil {
				n = max(n, o.Of.spellings(o.First)+ahead-1)
			}
			reports = append(reports, ratelimit.Report{Token: o.token(s, n), Told: o.Outcome})
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
