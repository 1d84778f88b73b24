package ratelimit

// An Outcome is what became of a send so far. 0: not known yet.
type Outcome uint8

// The outcomes. Excused is a flag of Deferred and Failed: the send is counted, but
// not held against the subjects. Reported alone, it excuses a send that was deferred
// or has failed already.
const (
	Delivered Outcome = 1
	Deferred  Outcome = 2
	Failed    Outcome = 3
	Excused   Outcome = 4
)

// Kind is the outcome without Excused.
func (o Outcome) Kind() Outcome { return o &^ Excused }

// then is the outcome of a send after another one is reported. Delivered and failed
// are final, and a second deferral changes nothing: so reports that are repeated in
// the same order change nothing.
func (o Outcome) then(next Outcome) Outcome {
	switch {
	case next == Excused && o.Kind() >= Deferred:
		return o | Excused
	case next == Excused, next == 0:
		return o
	case o.Kind() == 0, o.Kind() == Deferred && next.Kind() != Deferred:
		return next
	}
	return o
}

// add counts n more sends with an outcome.
func (c *Counts) add(o Outcome, n int64) {
	switch o.Kind() {
	case Delivered:
		c.Delivered += n
	case Deferred:
		c.Deferred += n
	case Failed:
		c.Failed += n
	}
	if o&Excused != 0 {
		c.Excused += n
	}
}

// clamp makes negative counts 0: after a file was damaged, a send may be there whose
// count was lost.
func (c *Counts) clamp() {
	c.Sent = max(0, c.Sent)
	c.Delivered = max(0, c.Delivered)
	c.Deferred = max(0, c.Deferred)
	c.Failed = max(0, c.Failed)
	c.Excused = max(0, c.Excused)
}
