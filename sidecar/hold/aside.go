package hold

import (
	"errors"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// A recipient that was held when its message was moved into the quarantine is set aside: the router
// does not ask about it there, and nothing releases it. It is kept because it is held again when
// the message comes back: without that, one that was never charged would pass as old.

// setAside keeps what is held of a message that is in the quarantine now. mu is held.
func (h *Holds) setAside(id string) error {
	if h.messages[id] == 0 {
		return nil
	}
	var errs []error
	for subject, messages := range h.subjects {
		m := messages[id]
		if m == nil {
			continue
		}
		for token, r := range m.recipients {
			x := sidecar.Held{Payer: m.who, ID: m.id, Token: token, Charged: r.charged, Last: r.last, Author: m.author, Stop: r.stop, Original: r.original}
			h.aside[m.id] = append(h.aside[m.id], x)
			errs = append(errs, h.asides.Put(noteOf(x, r.since), subject, m.id, tokenName(token)), h.drop(subject, m.id, token))
		}
	}
	return errors.Join(errs...)
}

// takeBack holds again what was held of a message that has come back. mu is held.
func (h *Holds) takeBack(id string, now time.Time) error {
	var errs []error
	for _, x := range h.aside[id] {
		_, err := h.addLocked(x, now)
		errs = append(errs, err)
	}
	return errors.Join(append(errs, h.dropAside(id))...)
}

// dropAside forgets what was held of a message that was in the quarantine. mu is held.
func (h *Holds) dropAside(id string) error {
	var errs []error
	for _, x := range h.aside[id] {
		errs = append(errs, h.asides.Drop(x.Payer.Subject(), strings.Clone(id), tokenName(x.Token)))
	}
	delete(h.aside, id)
	return errors.Join(errs...)
}

// unchargedAside reports whether a recipient was held when its message went into the quarantine,
// and never charged. mu is held. The router may ask before the log has told that it is back.
func (h *Holds) unchargedAside(subject, id string, token ratelimit.Token) bool {
	return slices.ContainsFunc(h.aside[id], func(x sidecar.Held) bool {
		return x.Token == token && !x.Charged && x.Payer.Subject() == subject
	})
}
