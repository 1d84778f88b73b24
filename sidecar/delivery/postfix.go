package delivery

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
	"sluice/sidecar/settings"
)

// A postfixMessage is what is known of a message in Postfix's queue beside its arrival.
type postfixMessage struct {
	Charged string              `json:"charged,omitempty"` // the id under which RCPT charged it, if not its queue id
	Numbers map[string]int      `json:"numbers,omitempty"` // by recipient: see numberedToken
	Waiting map[string]deferral `json:"waiting,omitempty"` // deferred recipients
}

// A deferral is why a recipient was first deferred.
type deferral struct {
	Original string `json:"original,omitempty"` // what it was before an alias
	Text     string `json:"text,omitempty"`
}

// maxDeferral bounds deferral.Text, in bytes.
const maxDeferral = 300

// recordPostfix takes in a line of Postfix's log. It does nothing and reports false for a
// line that is to be treated like one of Exim's log.
func (d *Recorder) recordPostfix(s *settings.Settings, now time.Time, l *Judged) bool {
	r := d.messages
	switch l.Kind {
	case logline.Arrived:
		r.arrive(s, l)
		if id := d.charged(l.ID, l.Process, l.At); id != "" && id != l.ID {
			r.arrivals[l.ID].postfixMessage().Charged = id
		}
	case logline.Sender:
		r.setSender(l.Entry)
	case logline.Expired:
		d.failDeferred(s, now, l.Entry)
	case logline.Delivered, logline.Deferred, logline.Failed:
		d.addPostfixOutcome(s, now, l)
	default:
		return false
	}
	return true
}

// setSender takes in the envelope sender of a message.
func (r *messages) setSender(e *logline.Entry) {
	a := r.arrivals[e.ID]
	if a == nil || a.Sender.Sender == e.Sender {
		return
	}
	from := a.Sender.origin
	from.Sender = e.Sender
	a.Sender = r.sources.Get(from)
	r.changed(a)
}

// failDeferred records as failed all deferred recipients of a message that Postfix has
// given up on: the line of the log that says so does not name them.
func (d *Recorder) failDeferred(s *settings.Settings, now time.Time, e *logline.Entry) {
	a := d.messages.arrivals[e.ID]
	if a == nil || a.postfix == nil {
		return
	}
	for _, to := range slices.Sorted(maps.Keys(a.postfix.Waiting)) {
		failed, why := *e, a.postfix.Waiting[to]
		failed.Kind, failed.Recipient, failed.Original, failed.Transport, failed.Text = logline.Failed, to, why.Original, smtpTransport, why.Text
		d.addPostfixOutcome(s, now, &Judged{Entry: &failed})
	}
}

// Postfix's daemon that delivers to elsewhere, and the one that defers in its place while
// deliveries are suspended.
const (
	smtpTransport  = "smtp"
	errorTransport = "error"
)

// addPostfixOutcome takes in an outcome, and finds under which token the send was charged.
func (d *Recorder) addPostfixOutcome(s *settings.Settings, now time.Time, l *Judged) {
	r, e := d.messages, l.Entry
	if a := r.arrivals[e.ID]; a != nil && (e.Transport == errorTransport || s.Config.RemoteTransport(e.Transport)) {
		r.noteDeferred(a, e)
	}
	before := len(r.batch.Outcomes)
	asked := envelope.Fold(e.Recipient) // the recipient about whom RCPT asked
	if e.Original != "" {
		asked = envelope.Fold(e.Original)
		if !s.Locals.Get().Has(asked.Domain) {
			e.Original = "" // the address was only rewritten: no domain of ours forwards it
		}
	}
	r.addOutcome(s, l)
	if len(r.batch.Outcomes) > before {
		d.tokenOfPostfix(s, d.clock.Store(now), asked, &r.batch.Outcomes[before], &r.batch.reports[before])
	}
}

// noteDeferred keeps which recipients are deferred, for failDeferred.
func (r *messages) noteDeferred(a *Arrived, e *logline.Entry) {
	q := a.postfixMessage()
	_, waits := q.Waiting[e.Recipient]
	if waits == (e.Kind == logline.Deferred) {
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

// tokenOfPostfix finds under which token an outcome's send was charged, by trying all that
// are possible. The id is the queue id, or the one that RCPT knew before there was a queue
// id. The address is the one that RCPT asked about, or the final one behind aliases, or
// none but a number.
func (d *Recorder) tokenOfPostfix(s *settings.Settings, at time.Time, asked envelope.Address, o *Outcome, r *ratelimit.Report) {
	ids := []string{o.ID}
	if o.Of != nil && o.Of.postfix != nil && o.Of.postfix.Charged != "" {
		ids = append(ids, o.Of.postfix.Charged)
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
		if t, ok := d.numberedToken(s, at, id, asked, o.Of); ok {
			r.Token = t
			return
		}
	}
	if !s.ChargeAtEnd {
		r.Subjects = nil // what RCPT has not charged is not charged later
	}
}

// numberedToken returns the token of a send that was charged under a number instead of its
// recipient. A recipient gets the next number when the log first names it.
func (d *Recorder) numberedToken(s *settings.Settings, at time.Time, id string, asked envelope.Address, a *Arrived) (t ratelimit.Token, ok bool) {
	if a == nil {
		return 0, false
	}
	q, name := a.postfixMessage(), asked.String()
	n, known := q.Numbers[name]
	if !known {
		n = len(q.Numbers)
	}
	if t = s.Token(id, envelope.Address{}, n); !d.store.Known(at, t) {
		return 0, false
	}
	if !known {
		q.addNumber(name)
		d.messages.changed(a)
	}
	return t, true
}

func (q *postfixMessage) addNumber(name string) {
	if q.Numbers == nil {
		q.Numbers = map[string]int{}
	}
	q.Numbers[name] = len(q.Numbers)
}

func (a *Arrived) postfixMessage() *postfixMessage {
	if a.postfix == nil {
		a.postfix = &postfixMessage{}
	}
	return a.postfix
}

// changed has the next Checkpoint note an arrival again.
func (r *messages) changed(a *Arrived) {
	if a.noted && !a.stale {
		a.stale = true
		r.unnoted = append(r.unnoted, a)
	}
}

// A PostfixLog is a Recorder for the reader of Postfix's log, whose position is kept beside
// that of Exim's.
type PostfixLog struct{ *Recorder }

const postfixPosition = "log/postfix"

// Position returns what Checkpoint was last given; nil at the first start.
func (l PostfixLog) Position() []byte { return l.position(postfixPosition) }

// Checkpoint is Recorder.Checkpoint for Postfix's log.
func (l PostfixLog) Checkpoint(now time.Time, position []byte) error {
	return l.checkpoint(now, postfixPosition, position)
}
