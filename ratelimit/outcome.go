package ratelimit

// An Outcome is what became of a send so far. Its zero value is that nothing
// is known yet.
type Outcome uint8

// The outcomes. Deferred and Failed may have Excused added: they are counted,
// and not held against the subjects. Excused alone excuses what was counted.
const (
	Delivered Outcome = 1
	Deferred  Outcome = 2
	Failed    Outcome = 3
	Excused   Outcome = 4
)

// Kind is the outcome without Excused.
func (o Outcome) Kind() Outcome { return o &^ Excused }

// then is what an outcome becomes when another one is told. What was delivered
// or has failed stays so, and deferring again is nothing new: so the same
// news, told again in the same order, changes nothing.
func (o Outcome) then(told Outcome) Outcome {
	switch {
	case told == Excused && o.Kind() >= Deferred:
		return o | Excused
	case told == Excused, told == 0:
		return o
	case o.Kind() == 0, o.Kind() == Deferred && told.Kind() != Deferred:
		return told
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

// clamp lets no count be negative: after damage a send may be there whose count
// was lost.
func (c *Counts) clamp() {
	c.Sent = max(0, c.Sent)
	c.Delivered = max(0, c.Delivered)
	c.Deferred = max(0, c.Deferred)
	c.Failed = max(0, c.Failed)
	c.Excused = max(0, c.Excused)
}
