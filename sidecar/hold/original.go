package hold

import (
	"slices"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// Original returns the address of which an alias or list has made a recipient that is held; empty
// if none has. Where a redirect router of Exim has the option one_time, Exim writes what it has made
// into the message after the first attempt, and does not say from then on that it was made.
func (h *Holds) Original(id string, token ratelimit.Token) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.messages[id] > 0 { // hardly ever
		for _, messages := range h.subjects {
			if m := messages[id]; m != nil && m.recipients[token].original != "" {
				return m.recipients[token].original
			}
		}
	}
	if i := slices.IndexFunc(h.aside[id], func(x sidecar.Held) bool { return x.Token == token }); i >= 0 {
		return h.aside[id][i].Original
	}
	return ""
}
