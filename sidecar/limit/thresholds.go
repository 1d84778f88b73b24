package limit

import (
	"errors"
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
		return thresholdValue{&t.Hourly, 0, MaxSends}
	case "daily":
		return thresholdValue{&t.Daily, 0, MaxSends}
	case "deferfail_percent":
		return thresholdValue{&t.DeferfailPercent, 0, 100}
	case "deferfail_min": // at 0 a domain that sent nothing would be over it: 0 bad of 0 sent
		return thresholdValue{&t.DeferfailMin, 1, MaxSends}
	case "deferfail_ignore":
		return causesValue{&t.DeferfailIgnore}
	case "defer_cutoff":
		return thresholdValue{&t.DeferCutoff, 100, 10000}
	case "mode":
		return choiceValue[Mode]{&t.Mode, []Mode{Enforce, Watch}}
	case "over_limit":
		return choiceValue[OverLimit]{&t.OverLimit, []OverLimit{OverCutoff, OverDefer, OverReject, OverDiscard}}
	case "exempt":
		return switchValue{&t.Exempt}
	}
	return nil
}

// thresholdValue is a whole number that a scope may leave unset.
type thresholdValue struct {
	field    **int64
	min, max int64
}

func (t thresholdValue) Set(v any) error {
	var n int64
	if err := field.Whole(&n, t.min, t.max).Set(v); err != nil {
		return err
	}
	*t.field = &n
	return nil
}

func (t thresholdValue) Get() any {
	if *t.field == nil {
		return nil
	}
	return **t.field
}

// choiceValue is one of some words, or unset.
type choiceValue[S ~string] struct {
	field **S
	words []S
}

func (c choiceValue[S]) Set(v any) error {
	text, _ := v.(string)
	words := make([]string, len(c.words))
	for i, w := range c.words {
		words[i] = string(w)
	}
	if _, err := field.OneOf(words...)(text); err != nil {
		return err
	}
	*c.field = new(S(text))
	return nil
}

func (c choiceValue[S]) Get() any {
	if *c.field == nil {
		return nil
	}
	return string(**c.field)
}

// switchValue is true or false, or unset.
type switchValue struct{ field **bool }

func (s switchValue) Set(v any) error {
	b, ok := v.(bool)
	if !ok {
		return errors.New("true or false")
	}
	*s.field = &b
	return nil
}

func (s switchValue) Get() any {
	if *s.field == nil {
		return nil
	}
	return **s.field
}

// causesValue is a list of causes that a scope may leave unset.
type causesValue struct{ field **[]sidecar.Cause }

func (c causesValue) Set(v any) error {
	var causes []sidecar.Cause
	names := make([]string, 0, len(sidecar.Causes()))
	for _, cause := range sidecar.Causes() {
		names = append(names, string(cause))
	}
	if err := field.List(&causes, field.OneOf(names...)).Set(v); err != nil {
		return err
	}
	if causes == nil {
		causes = []sidecar.Cause{} // set, to none
	}
	*c.field = &causes
	return nil
}

func (c causesValue) Get() any {
	if *c.field == nil {
		return nil
	}
	return field.List(*c.field, field.NotEmpty).Get()
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
