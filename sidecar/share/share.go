package share

import (
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
	"sluice/sidecar/printable"
)

// An Announcer tells of authors that are refused for what they leave to others.
type Announcer struct {
	events event.Sink

	mu        sync.Mutex
	announced map[[2]string]time.Time // when it was, of an author, by domain and key
}

// maxAnnounced bounds them; beyond it some are announced again within a window.
const maxAnnounced = 10_000

// NewAnnouncer returns an Announcer that has told of nobody.
func NewAnnouncer(events event.Sink) *Announcer {
	return &Announcer{events: events, announced: map[[2]string]time.Time{}}
}

// Refused tells, once in a window, that an author of a domain is refused by a limit from which
// room is withheld. attempted is how much of the limit it would have had with this message.
func (a *Announcer) Refused(now time.Time, domain, author string, attempted int64, limit ratelimit.Limit) {
	if a.isNew(now, [2]string{domain, author}, limit.Window) {
		a.events.Emit(event.Event{Kind: event.Share, Domain: domain, Attrs: event.Attrs("scope", author,
			"sent", printable.Ratio(attempted, max(0, limit.Max-limit.Withheld)), "left_to_others", limit.Withheld)})
	}
}

// isNew reports whether an author was not announced in the last window, and notes that it is now.
func (a *Announcer) isNew(now time.Time, of [2]string, window time.Duration) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if at, again := a.announced[of]; again && now.Sub(at).Abs() < window {
		return false
	}
	if len(a.announced) >= maxAnnounced {
		clear(a.announced)
	}
	a.announced[[2]string{strings.Clone(of[0]), strings.Clone(of[1])}] = now
	return true
}
