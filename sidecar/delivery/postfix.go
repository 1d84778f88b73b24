package delivery

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/settings"
)

// queued is what is known of a message in Postfix's queue beside its arrival.
type postfixMessage struct {
	Charged string              `json:"charged,omitempty"` // under what RCPT has charged it, if not its queue id
	Numbers map[string]int      `json:"numbers,omitempty"` // of recipients whose sends were charged without a name
	Waiting map[string]deferral `json:"waiting,omitempty"` // by recipient
}

// A deferral is why a recipient was deferred at first.
type deferral struct {
	Original string `json:"original,omitempty"` // what it was before an alias
	Text     string `json:"text,omitempty"`
}

// maxDeferral bounds the text that is kept of one, in bytes.
const maxDeferral = 300

// recordPostfix is Record for a line of Postfix's log. It reports false for one
// that means the same as of Exim.
func (d *Recorder) recordPostfix(s *settings.Settings, now time.Time, l *Judged) bool {
	r := d.record
	switch l.Kind {
	case sidecar.LogArrived:
		r.arrive(l)
		if id := d.charged(l.ID, l.Process, l.At); id != "" && id != l.ID {
			r.arrivals[l.ID].queue().Charged = id
		}
	case sidecar.LogSender:
		r.sentBy(l.LogEntry)
	case sidecar.LogExpired:
		d.expireInPostfix(s, now, l.LogEntry)
	case sidecar.LogDelivered, sidecar.LogDeferred, sidecar.LogFailed:
		d.outcomeOfPostfix(s, now, l)
	default:
		return false
	}
	return true
}

// sentBy notes the sender of a message.
func (r *record) sentBy(e *sidecar.LogEntry) {
	a := r.arrivals[e.ID]
	if a == nil || a.Sender.Sender == e.Sender {
		return
	}
	from := a.Sender.origin
	from.Sender = e.Sender
	a.Sender = r.senders.Get(from)
	r.changed(a)
}

// expireInPostfix fails what is still deferred of a message: its log names no
// recipient then.
func (d *Recorder) expireInPostfix(s *settings.Settings, now time.Time, e *sidecar.LogEntry) {
	a := d.record.arrivals[e.ID]
	if a == nil || a.queued == nil {
		return
	}
	for _, to := range slices.Sorted(maps.Keys(a.queued.Waiting)) {
		failed, why := *e, a.queued.Waiting[to]
		failed.Kind, failed.Recipient, failed.Original, failed.Transport, failed.Text = sidecar.LogFailed, to, why.Original, smtpTransport, why.Text
		d.outcomeOfPostfix(s, now, &Judged{LogEntry: &failed})
	}
}

// The daemons of Postfix that deliver to elsewhere, and that stand for them while
// they are suspended.
const (
	smtpTransport  = "smtp"
	errorTransport = "error"
)

// outcomeOfPostfix hears of an outcome, and finds under which token the send was
// charged.
func (d *Recorder) outcomeOfPostfix(s *settings.Settings, now time.Time, l *Judged) {
	r, e := d.record, l.LogEntry
	if a := r.arrivals[e.ID]; a != nil && (e.Transport == errorTransport || s.RemoteTransport(e.Transport)) {
		r.noteDeferred(a, e)
	}
	before := len(r.batch.Outcomes)
	asked := envelope.Fold(e.Recipient) // at RCPT
	if e.Original != "" {
		asked = envelope.Fold(e.Original)
		if !s.Locals.Get().Has(asked.Domain) {
			e.Original = "" // rewritten, and no mail of ours that is forwarded
		}
	}
	r.hear(s, l)
	if len(r.batch.Outcomes) > before {
		d.tokenOfPostfix(s, d.clock.Store(now), asked, &r.batch.Outcomes[before], &r.batch.reports[before])
	}
}

// noteDeferred notes which recipients are still deferred, for expireInPostfix.
func (r *record) noteDeferred(a *Arrived, e *sidecar.LogEntry) {
	q := a.queue()
	_, waits := q.Waiting[e.Recipient]
	if waits == (e.Kind == sidecar.LogDeferred) {
		return
	}
	if waits {
		delete(q.Waiting, e.Recipient)
	} else {
		if q.Waiting == nil {
			q.Waiting = map[string]deferral{}
		}
		text := e.Text[:min(len(e.Text), maxDeferral)]
		q.Waiting[strings.Clone(e.Recipient)] = deferral{strings.Clone(e.Original), strings.Clone(text)}
	}
	r.changed(a)
}

// tokenOfPostfix finds the send of an outcome: under the address that RCPT had,
// which an alias has replaced since, or the final one; under the queue id, or
// what RCPT knew before there was one; and where sends were charged without a
// name, under the next number that is free.
func (d *Recorder) tokenOfPostfix(s *settings.Settings, at time.Time, asked envelope.Address, o *Outcome, r *ratelimit.Report) {
	ids := []string{o.ID}
	if o.Of != nil && o.Of.queued != nil && o.Of.queued.Charged != "" {
		ids = append(ids, o.Of.queued.Charged)
	}
	for _, id := range ids {
		for _, name := range [...]envelope.Address{asked, o.To} {
			if t := s.Token(id, name, 0); d.store.Known(at, t) {
				r.Token = t
				return
			}
		}
	}
	for _, id := range ids {
		if t, ok := d.numbered(s, at, id, asked, o.Of); ok {
			r.Token = t
			return
		}
	}
	if !s.ChargeAtEnd {
		r.Subjects = nil // only RCPT charges
	}
}

// numbered is the token of a send that was charged without its recipient: which
// of them is a recipient's is settled when the log first names it.
func (d *Recorder) numbered(s *settings.Settings, at time.Time, id string, asked envelope.Address, a *Arrived) (t ratelimit.Token, ok bool) {
	if a == nil {
		return 0, false
	}
	q, name := a.queue(), asked.String()
	n, known := q.Numbers[name]
	if !known {
		n = len(q.Numbers)
	}
	if t = s.Token(id, envelope.Address{}, n); !d.store.Known(at, t) {
		return 0, false
	}
	if !known {
		q.number(name)
		d.record.changed(a)
	}
	return t, true
}

func (q *postfixMessage) number(name string) {
	if q.Numbers == nil {
		q.Numbers = map[string]int{}
	}
	q.Numbers[name] = len(q.Numbers)
}

func (a *Arrived) queue() *postfixMessage {
	if a.queued == nil {
		a.queued = &postfixMessage{}
	}
	return a.queued
}

// changed has the next Checkpoint note an arrival again.
func (r *record) changed(a *Arrived) {
	if a.noted && !a.stale {
		a.stale = true
		r.unnoted = append(r.unnoted, a)
	}
}

// A PostfixLog is who reads Postfix's log: what it says is recorded like Exim's,
// and how far it is read is kept beside that.
type PostfixLog struct{ *Recorder }

const postfixPosition = "log/postfix"

// Position is what Checkpoint was last given; nil at the first start.
func (l PostfixLog) Position() []byte { return l.position(postfixPosition) }

// Checkpoint is Policy.Checkpoint.
func (l PostfixLog) Checkpoint(now time.Time, position []byte) error {
	return l.checkpoint(now, postfixPosition, position)
}
