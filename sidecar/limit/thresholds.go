package limit

import (
	"fmt"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/field"
)

// Thresholds are what one scope sets; nil leaves it to the scopes above.
type Thresholds struct {
	Hourly           *int64           // sends in Limits.Window; 0 is unlimited
	Daily            *int64           // sends in 24 hours; 0 is unlimited
	DeferfailPercent *int64           // percent of the sends that may be bad; 0 never trips
	DeferfailMin     *int64           // bad outcomes below which nothing trips
	DeferfailIgnore  *[]sidecar.Cause // causes that are not held against the domain
	DeferCutoff      *int64           // percent of the limit from which 450 becomes 550
	Mode             *Mode            // whether limits refuse
	OverLimit        *OverLimit       // how they do
	Exempt           *bool            // nobody is charged, and nothing limited
}

// A Mode is whether limits refuse.
type Mode string

// The modes.
const (
	Enforce Mode = "enforce"
	Watch   Mode = "watch"  // they pass what they would refuse, and count it
	Exempt  Mode = "exempt" // nothing is charged: shown only, for the key exempt sets it
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

// maxSends bounds numbers of sends so that percentages of them never overflow.
const MaxSends = 1_000_000_000

// thresholdKeys are the keys of a scope, in the order in which they are shown.
func Keys() []string {
	return []string{"hourly", "daily", "deferfail_percent", "deferfail_min", "deferfail_ignore", "defer_cutoff", "mode", "over_limit", "exempt"}
}

// isTrip tells a key of what trips a domain, as all of it does or nothing.
func IsTrip(key string) bool { return key == "deferfail_percent" || key == "deferfail_min" }

// misplaced says why a key would have no effect in a scope; nil where it has one.
func Misplaced(scope, key string) error {
	if domain := envelope.DomainOf(scope); domain != "" && !sidecar.IsAccount(scope) && IsTrip(key) {
		return fmt.Errorf("%s is not for a mailbox: a domain is locked as a whole for what becomes of its mail; set it for %s", key, domain)
	}
	return nil
}

// field is that of a key; nil if there is no such key.
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
	case "exempt":
		return field.Optional(&t.Exempt, field.Bool)
	}
	return nil
}

// number is a whole number that a scope may leave unset.
func number(n **int64, min, max int64) field.Value {
	return field.Optional(n, func(n *int64) field.Value { return field.Whole(n, min, max) })
}

// word is one of some words, or unset.
func word[S ~string](s **S, words ...S) field.Value {
	return field.Optional(s, func(s *S) field.Value { return field.Word(s, words...) })
}

// causes is a list of causes that a scope may leave unset.
func causes(c **[]sidecar.Cause) field.Value {
	var names []string
	for _, cause := range sidecar.Causes() {
		names = append(names, string(cause))
	}
	return field.Optional(c, func(c *[]sidecar.Cause) field.Value { return causeList{field.List(c, field.OneOf(names...)), c} })
}

// causeList is a list that is set to none when it is empty, and not unset.
type causeList struct {
	field.Value
	causes *[]sidecar.Cause
}

func (l causeList) Set(v any) error {
	err := l.Value.Set(v)
	if err == nil && *l.causes == nil {
		*l.causes = []sidecar.Cause{}
	}
	return err
}

// action is what the client is told of a send over the limit, or from the
// cutoff on.
func (o OverLimit) Action(cutoff bool) sidecar.Action {
	switch {
	case o == OverDiscard:
		return sidecar.Discard
	case o == OverReject, o == OverCutoff && cutoff:
		return sidecar.Reject
	}
	return sidecar.Defer
}
