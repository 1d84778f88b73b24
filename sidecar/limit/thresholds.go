package limit

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/field"
)

// Thresholds are the values that one scope sets. A key that is nil is not set here: a
// less specific scope decides.
type Thresholds struct {
	Hourly           *int64           // sends in Table.Window, by default an hour; 0 is unlimited
	Daily            *int64           // sends in 24 hours; 0 is unlimited
	DeferfailPercent *int64           // percent of bad sends (deferred or failed) that blocks the domain; 0: never
	DeferfailMin     *int64           // with fewer bad sends the domain is not blocked, whatever their percentage
	DeferfailIgnore  *[]sidecar.Cause // defers and failures by these causes are not bad
	DeferCutoff      *int64           // percent of the limit from which 450 becomes 550
	Mode             *Mode            // whether limits refuse
	OverLimit        *OverLimit       // what becomes of a send over a limit
	Culprit          *Culprit         // what becomes of who alone sends too much
	OthersShare      *int64           // percent of an hourly limit that such a one leaves, at most, to the others of the domain
	Spike            *Spike           // whether operators are told of spikes
	Expected         *int64           // sends of an author in an hour that are fine: no spike, and no reason for a warning
	Exempt           *bool            // nobody is charged, and nothing limited
}

// A Mode is whether limits refuse.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Watch   Mode = "watch"  // they count what they would refuse, and let it pass
	Exempt  Mode = "exempt" // nothing is charged; set by the key exempt, and only shown as a mode
)

// An OverLimit is what becomes of a send over a limit.
type OverLimit string

// What becomes of it.
const (
	OverCutoff  OverLimit = "cutoff"  // 450, and 550 from DeferCutoff on
	OverDefer   OverLimit = "defer"   // 450
	OverReject  OverLimit = "reject"  // 550
	OverDiscard OverLimit = "discard" // accepted and dropped
)

// A Culprit is what becomes of who sends more than its own usual hour, while it does: the
// others of its domain are not to be refused for that.
type Culprit string

// What becomes of it.
const (
	CulpritStop Culprit = "stop" // it leaves room for the others, see OthersShare
	CulpritName Culprit = "name" // it is named
	CulpritOff  Culprit = "off"  // nothing
)

// A Spike is whether operators are told of who sends much more than in any hour before.
type Spike string

// Whether they are.
const (
	SpikeWatch Spike = "watch"
	SpikeOff   Spike = "off"
)

// Day is the window of a daily limit.
const Day = 24 * time.Hour

// MaxSends bounds numbers of sends so that percentages of them never overflow.
const MaxSends = 1_000_000_000

// Keys lists the keys of Thresholds, in the order in which they are shown.
func Keys() []string {
	return []string{"hourly", "daily", "deferfail_percent", "deferfail_min", "deferfail_ignore", "defer_cutoff", "mode", "over_limit", "culprit", "others_share", "spike", "expected", "exempt"}
}

// IsDeferfail reports whether a key says when a domain is blocked for bad sends: always as
// a whole, never one mailbox.
func IsDeferfail(key string) bool { return key == "deferfail_percent" || key == "deferfail_min" }

// Field is the field of a key; nil if there is no such key.
func (t *Thresholds) Field(key string) field.Value {
	switch key {
	case "hourly":
		return number(&t.Hourly, 0, MaxSends)
	case "daily":
		return number(&t.Daily, 0, MaxSends)
	case "deferfail_percent":
		return number(&t.DeferfailPercent, 0, 100)
	case "deferfail_min": // at 0 a domain that sent nothing would be over it: 0 bad of 0 sent
		return number(&t.DeferfailMin, 1, MaxSends)
	case "deferfail_ignore":
		return causes(&t.DeferfailIgnore)
	case "defer_cutoff":
		return number(&t.DeferCutoff, 100, 10000)
	case "mode":
		return word(&t.Mode, Enforce, Watch)
	case "over_limit":
		return word(&t.OverLimit, OverCutoff, OverDefer, OverReject, OverDiscard)
	case "culprit":
		return word(&t.Culprit, CulpritStop, CulpritName, CulpritOff)
	case "others_share":
		return number(&t.OthersShare, 0, 100)
	case "spike":
		return word(&t.Spike, SpikeWatch, SpikeOff)
	case "expected":
		return number(&t.Expected, 0, MaxSends)
	case "exempt":
		return field.Optional(&t.Exempt, field.Bool)
	}
	return nil
}

// number is a whole number, or unset.
func number(n **int64, min, max int64) field.Value {
	return field.Optional(n, func(n *int64) field.Value { return field.Whole(n, min, max) })
}

// word is one of some words, or unset.
func word[S ~string](s **S, words ...S) field.Value {
	return field.Optional(s, func(s *S) field.Value { return field.Word(s, words...) })
}

// causes is a list of causes, or unset.
func causes(c **[]sidecar.Cause) field.Value {
	var names []string
	for _, cause := range sidecar.Causes() {
		names = append(names, string(cause))
	}
	return field.Optional(c, func(c *[]sidecar.Cause) field.Value { return field.List(c, field.OneOf(names...)) })
}

// Action is the verdict on a send over a limit; cutoff is true from DeferCutoff on.
func (o OverLimit) Action(cutoff bool) sidecar.Action {
	switch {
	case o == OverDiscard:
		return sidecar.Discard
	case o == OverReject, o == OverCutoff && cutoff:
		return sidecar.Reject
	}
	return sidecar.Defer
}
