package action

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Dir is where actions are kept. The unit of `sluice serve` may not write there: whoever
// takes over serve must not be able to order or forge what root does.
const Dir = "/var/lib/sluice-actions"

// A Verb is what was done, such as "quarantine" or "suspend-login". What takes it back is
// chosen by it.
type Verb string

// An Action is something that root did for an operator, or was about to do.
type Action struct {
	Number   int             `json:"number"` // of this node, from 1
	At       time.Time       `json:"at"`     // when it began
	By       string          `json:"by"`     // who typed it: the login, before sudo
	Verb     Verb            `json:"verb"`
	Whom     string          `json:"whom"`               // the author, domain or file that it is about
	Incident string          `json:"incident,omitempty"` // of which it is a remedy
	Part     int             `json:"part,omitempty"`     // number of the action that this is a step of
	Undoes   int             `json:"undoes,omitempty"`   // number of the action that this takes back
	Why      string          `json:"why,omitempty"`
	Values   json.RawMessage `json:"values,omitempty"` // what the verb needs to do it, in its own form
	Did      *Did            `json:"did,omitempty"`    // nil: it was begun, and nobody knows how it ended
}

// Cases are what an action and others are about: whom, and the incident if it is of one. Who has
// typed an incident and who has typed its culprit are about the same.
func (a *Action) Cases() []string {
	return slices.DeleteFunc([]string{a.Whom, a.Incident}, func(name string) bool { return name == "" })
}

// Did is how an action ended.
type Did struct {
	At     time.Time       `json:"at"`
	Values json.RawMessage `json:"values,omitempty"` // what the verb needs to take it back, in its own form
	Failed string          `json:"failed,omitempty"` // why it failed, or failed in part; empty: it did not
}

// Errors of Find, and of whoever takes actions back.
var (
	ErrNotFound = errors.New("there is no such action")
	// ErrChanged: what the action has changed is no longer as the action left it.
	ErrChanged = errors.New("changed since")
)

// Read puts what the action needed into values, a pointer to the verb's own type.
func (a *Action) Read(values any) error {
	if err := json.Unmarshal(a.Values, values); err != nil {
		return fmt.Errorf("read action %d (%s): %w", a.Number, a.Verb, err)
	}
	return nil
}

// ReadDid puts what is needed to take the action back into values, a pointer to the verb's
// own type. An action that did not end has none: values stay as they are.
func (a *Action) ReadDid(values any) error {
	if a.Did == nil || len(a.Did.Values) == 0 {
		return nil
	}
	if err := json.Unmarshal(a.Did.Values, values); err != nil {
		return fmt.Errorf("read what action %d (%s) did: %w", a.Number, a.Verb, err)
	}
	return nil
}
