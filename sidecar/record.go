package sidecar

import (
	"context"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// A Recorder records what the logs say became of messages.
type Recorder struct {
	settings  func() *Settings
	store     RecordStore
	clock     Clock
	events    event.Sink
	notes     Notes
	charged   func(id, process string, at time.Time) string
	look      func(domains ...string)
	observers []RecordObserver
	record    *record
	late      atomic.Int64
}

// A RecordStore is a store as far as a Recorder needs it.
type RecordStore interface {
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
	Known(now time.Time, token ratelimit.Token) bool
}

// A RecordObserver hears of new outcomes, in the order of the log. It must keep
// nothing of them.
type RecordObserver interface {
	Recorded(now time.Time, news []Outcome)
}

// RecorderOptions are what a Recorder is made with; all are needed.
type RecorderOptions struct {
	Settings func() *Settings
	Store    RecordStore
	Clock    Clock
	Events   event.Sink
	Notes    Notes
	// Charged is under which id a message was charged that an smtpd of Postfix gave a
	// queue id in the second of at; empty where that is not known.
	Charged func(id, process string, at time.Time) string
	// Look has domains looked at of which it may have changed whether they are over a limit.
	Look      func(domains ...string)
	Observers []RecordObserver
}

// NewRecorder returns a Recorder that knows what was noted of messages on their way.
func NewRecorder(o RecorderOptions) *Recorder {
	return &Recorder{settings: o.Settings, store: o.Store, clock: o.Clock, events: o.Events, notes: o.Notes, charged: o.Charged,
		look: o.Look, observers: o.Observers, record: newRecord(o.Notes, o.Events)}
}

// Late is how many sends were charged from the log, about which nobody had asked.
func (d *Recorder) Late() int64 { return d.late.Load() }

// Prepare does what can be done ahead, while other entries are recorded. What it
// returns records them: blocks of the log in their order, and what was recorded
// before may come again, for nothing is counted twice.
func (d *Recorder) Prepare(entries []LogEntry) (record func(ctx context.Context, now time.Time)) {
	s, lines := d.settings(), d.record.takeLines(len(entries))
	for i := range entries {
		l := Judged{LogEntry: &entries[i]}
		judge(s, &l)
		if l.Kind == LogArrived {
			l.from = d.record.senders.get(originOf(l.LogEntry))
		}
		lines = append(lines, l)
	}
	return func(ctx context.Context, now time.Time) {
		d.recordLines(ctx, now, lines)
		d.record.returnLines(lines)
	}
}

// Record records entries that nobody has prepared.
func (d *Recorder) Record(ctx context.Context, now time.Time, entries []LogEntry) {
	d.Prepare(entries)(ctx, now)
}

// takeLines is room for n lines, and returnLines has it used again: what is
// recorded would be half as much garbage as there is log.
func (r *record) takeLines(n int) []Judged {
	if lines, _ := r.lines.Get().(*[]Judged); lines != nil && cap(*lines) >= n {
		return *lines
	}
	return make([]Judged, 0, n)
}

func (r *record) returnLines(lines []Judged) {
	clear(lines) // they hold on to the block of the log
	lines = lines[:0]
	r.lines.Put(&lines)
}

// recordLines takes in lines of the log, in their order.
func (d *Recorder) recordLines(ctx context.Context, now time.Time, lines []Judged) {
	r, s := d.record, d.settings()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.batch
	b.clear()
	for i := range lines {
		l := &lines[i]
		if l.Postfix && d.recordPostfix(s, now, l) {
			continue
		}
		switch l.Kind {
		case LogArrived:
			r.arrive(l)
			if early := r.early[l.ID]; early != nil {
				delete(r.early, l.ID)
				for j := range early {
					r.hear(s, &Judged{LogEntry: &early[j]})
				}
			}
		case LogCompleted:
			r.leave(l.ID)
		case LogRefused, LogRan: // for simulations: who asked knows
		default:
			r.hear(s, l)
		}
	}
	d.settle(ctx, now, s, b)
}

// A batch is the outcomes of some lines of the log, and what the store is told of
// them.
type batch struct {
	outcomes []outcome
	reports  []ratelimit.Report // one for each of outcomes
	more     []int              // which of outcomes are deliveries of what had been asked about
	n        uint64             // number of the batch
	news     []Outcome          // of observe, as the next
	domains  []string           // of which it may have changed whether they are over a limit
}

func (b *batch) clear() {
	clear(b.outcomes) // they hold on to the block of the log
	clear(b.reports)
	clear(b.news)
	b.outcomes, b.reports = b.outcomes[:0], b.reports[:0]
}

// An outcome is one of a send that counts.
type outcome struct {
	*Judged
	when  time.Time // when its send was made
	entry int       // which of its tokens is that of the send
	of    *arrived  // nil unless the message's arrival is known
	payer *payer    // nil likewise
}

// hear takes in the line of an outcome.
func (r *record) hear(s *Settings, l *Judged) {
	if l.by != s {
		judge(s, l) // nobody has, or the settings have changed since
	}
	if !l.counts {
		return
	}
	o := outcome{Judged: l, of: r.of(l.ID)}
	if o.of != nil {
		o.payer = o.of.sender.payerOf(s, &o)
	} else if !l.Postfix {
		r.wait(l.LogEntry)
	}
	r.batch.add(s, o)
}

// add takes in an outcome of which it is known what can be known.
func (b *batch) add(s *Settings, o outcome) {
	report := ratelimit.Report{Told: o.kind}
	if o.of != nil {
		o.entry, o.when = o.of.entry(&o), o.of.at
		if !o.Doubtful {
			report.Subjects = o.payer.subjects
		}
	} else if when, ok := IDTime(o.ID); ok { // near enough
		o.when = when
	} else {
		o.when = o.At
	}
	if o.kind != ratelimit.Delivered && o.payer != nil && o.payer.ignore(o.cause) {
		report.Told |= ratelimit.Excused
	}
	report.Token = o.token(s, o.entry)
	b.outcomes, b.reports = append(b.outcomes, o), append(b.reports, report)
}

// token is that of the n-th entry of the message that folds to its recipient.
func (o *outcome) token(s *Settings, n int) ratelimit.Token {
	if n == 0 {
		return o.first
	}
	return s.token(o.ID, o.to, n)
}

// settle has the store count a batch. What nobody had asked about is charged: sluice
// was down, or the message went through while it arrived.
func (d *Recorder) settle(ctx context.Context, now time.Time, s *Settings, b *batch) {
	at := d.clock.Store(now)
	for i := range b.reports {
		b.reports[i].Age = max(0, now.Sub(b.outcomes[i].when))
	}
	if err := d.store.Settle(ctx, at, b.reports); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
		return
	}
	b.more = b.more[:0]
	for i := range b.reports {
		r, o := &b.reports[i], &b.outcomes[i]
		switch {
		case r.Known && o.kind == ratelimit.Delivered:
			b.more = append(b.more, i)
		case r.Charged && o.payer.who.class == charged:
			d.late.Add(1)
		}
	}
	if err := d.settleDuplicates(ctx, at, s, b); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
	d.observe(now, b)
}

// observe tells those who observe what is new in a batch.
func (d *Recorder) observe(now time.Time, b *batch) {
	b.n++
	b.news, b.domains = b.news[:0], b.domains[:0]
	for i := range b.reports {
		r, o := &b.reports[i], &b.outcomes[i]
		if !r.Moved && !r.Charged || o.payer == nil || o.payer.who.class != charged {
			continue
		}
		b.news = append(b.news, Outcome{Entry: o.LogEntry, Payer: &o.payer.who, Token: r.Token, When: o.when, To: o.to.domain,
			Kind: o.kind, Cause: o.cause, Excused: r.Told&ratelimit.Excused != 0, Charged: r.Charged})
		if (r.Charged || o.kind != ratelimit.Delivered) && o.payer.batch != b.n {
			o.payer.batch = b.n
			b.domains = append(b.domains, o.payer.who.domain)
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
func (d *Recorder) settleDuplicates(ctx context.Context, at time.Time, s *Settings, b *batch) error {
	var reports []ratelimit.Report
	for ahead := 1; len(b.more) > 0; ahead++ {
		reports = reports[:0]
		for _, i := range b.more {
			o := &b.outcomes[i]
			n := o.entry + ahead
			if o.of != nil {
				n = max(n, o.of.spellings(o.first)+ahead-1)
			}
			reports = append(reports, ratelimit.Report{Token: o.token(s, n), Told: o.kind})
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
