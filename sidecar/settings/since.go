package settings

import (
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
)

// A domain is counted in the hour from its first send on. All other counts begin
// when a limit is first there: those of mailboxes, of accounts, and of the day, which
// begins with the hour where that is counted. Notes of this node keep when that was,
// over restarts, for explain.

// A countedLimit is a limit whose counts have a beginning.
type countedLimit struct{ key, scope string }

// countedLimits are all of them.
func (s *Settings) countedLimits() (all []countedLimit) {
	for name, scope := range s.Scopes {
		if scope.Hourly != nil && *scope.Hourly > 0 && name != sidecar.DefaultScope && !sidecar.IsDomain(name) {
			all = append(all, countedLimit{"hourly", name})
		}
		if scope.Daily != nil && *scope.Daily > 0 {
			all = append(all, countedLimit{"daily", name})
		}
	}
	return all
}

// countsBegan is when the counts of each limit began, given when those did that were
// there before. At the start nothing is counted yet of the hour before.
func (s *Settings) countsBegan(before map[countedLimit]time.Time, now time.Time, start bool) map[countedLimit]time.Time {
	all := map[countedLimit]time.Time{}
	for _, limit := range s.countedLimits() {
		began, known := before[limit]
		if !known {
			began = now.Round(0).Truncate(time.Millisecond)
			if limit.key == "daily" && !start && ratelimit.Nests(s.Window, sidecar.Day) {
				began = hourBefore(before, began, limit.scope, s.Window)
			}
		}
		all[limit] = began
	}
	return all
}

// hourBefore is since when a day is counted that is limited from now on: it begins
// with the hour.
func hourBefore(began map[countedLimit]time.Time, now time.Time, scope string, window time.Duration) time.Time {
	hourly, counted := began[countedLimit{"hourly", scope}]
	switch before := now.Add(-window); {
	case scope == sidecar.DefaultScope, sidecar.IsDomain(scope), counted && hourly.Before(before):
		return before
	case counted:
		return hourly
	}
	return now
}

// noteBegan brings the notes up to date.
func (l *Live) noteBegan() {
	l.noting.Lock()
	defer l.noting.Unlock()
	began := l.now.Load().began
	for limit := range l.noted {
		if _, there := began[limit]; !there {
			delete(l.noted, limit)
			l.logNote(l.notes.Drop(limit.key, limit.scope))
		}
	}
	for limit, at := range began {
		if !l.noted[limit].Equal(at) {
			l.noted[limit] = at
			l.logNote(l.notes.Put(at.UnixMilli(), limit.key, limit.scope))
		}
	}
}

func (l *Live) logNote(err error) {
	if err != nil {
		l.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// CountedSince is since when a subject is counted in the window of a limit; zero
// from its first send on. Of a domain both its own daily limit and that of all
// have it counted.
func (l *Live) CountedSince(key, subject string) time.Time {
	began := l.now.Load().began
	since := began[countedLimit{key, subject}]
	if all := began[countedLimit{key, sidecar.DefaultScope}]; sidecar.IsDomain(subject) && !all.IsZero() && (since.IsZero() || all.Before(since)) {
		return all
	}
	return since
}
