package sidecar

import (
	"context"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// Prepare does what of Record can be done ahead, while other lines are recorded.
func (p *Policy) Prepare(entries []LogEntry) {
	s := p.settings.Load()
	for i := range entries {
		e := &entries[i]
		s.judge(e)
		if e.Kind == LogArrived {
			e.from = p.record.senders.get(originOf(e))
		}
	}
}

// Record takes in lines of the log, in their order. They may be told again:
// nothing is counted twice.
func (p *Policy) Record(ctx context.Context, now time.Time, entries []LogEntry) {
	r, s := p.record, p.settings.Load()
	r.mu.Lock()
	defer r.mu.Unlock()
	b := &r.batch
	b.clear()
	for i := range entries {
		e := &entries[i]
		if e.Postfix && p.recordPostfix(s, now, e) {
			continue
		}
		switch e.Kind {
		case LogArrived:
			r.arrive(e)
			if early := r.early[e.ID]; early != nil {
				delete(r.early, e.ID)
				for j := range early {
					r.hear(s, &early[j])
				}
			}
		case LogCompleted:
			r.leave(e.ID)
		case LogRefused, LogRan: // for simulations: who asked knows
		default:
			r.hear(s, e)
		}
	}
	p.settle(ctx, now, s, b)
	p.loop.Look(p.changed(b)...)
}

// A batch is the outcomes of some lines of the log, and what the store is told of
// them.
type batch struct {
	outcomes []outcome
	reports  []ratelimit.Report // one for each of outcomes
	more     []int              // which of outcomes are deliveries of what had been asked about
	n        uint64             // number of the batch
	domains  []string           // for changed
}

func (b *batch) clear() {
	clear(b.outcomes) // they hold on to the block of the log
	clear(b.reports)
	b.outcomes, b.reports = b.outcomes[:0], b.reports[:0]
}

// An outcome is one of a send that counts.
type outcome struct {
	*LogEntry
	when  time.Time // when its send was made
	entry int       // which of its tokens is that of the send
	of    *arrived  // nil unless the message's arrival is known
	payer *payer    // nil likewise
}

// hear takes in the line of an outcome.
func (r *record) hear(s *Settings, e *LogEntry) {
	if e.by != s {
		s.judge(e) // nobody has, or the settings have changed since
	}
	if !e.counts {
		return
	}
	o := outcome{LogEntry: e, of: r.of(e.ID)}
	if o.of != nil {
		o.payer = o.of.sender.payerOf(s, &o)
	} else if !e.Postfix {
		r.wait(e)
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
func (p *Policy) settle(ctx context.Context, now time.Time, s *Settings, b *batch) {
	at := p.clock.Store(now)
	for i := range b.reports {
		b.reports[i].Age = max(0, now.Sub(b.outcomes[i].when))
	}
	if err := p.store.Settle(ctx, at, b.reports); err != nil {
		p.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
		return
	}
	b.more = b.more[:0]
	for i := range b.reports {
		r, o := &b.reports[i], &b.outcomes[i]
		switch {
		case r.Known && o.kind == ratelimit.Delivered && (o.of == nil || !o.of.distinct):
			b.more = append(b.more, i)
		case r.Charged && o.payer.who.class == charged:
			p.late.Add(1)
			p.holds.Drop(o.payer.who.domain, o.ID, r.Token)
		}
	}
	if err := p.settleDuplicates(ctx, at, s, b); err != nil {
		p.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
	p.deferfail.noteOutcomes(now, b)
}

// settleDuplicates tells of a delivery for all entries of a message that fold to
// its recipient and are not in the log: Exim delivers once to several that are
// written in the same way, and all of them were charged.
func (p *Policy) settleDuplicates(ctx context.Context, at time.Time, s *Settings, b *batch) error {
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
		if err := p.store.Settle(ctx, at, reports); err != nil {
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
