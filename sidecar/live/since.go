package live

import (
	"maps"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
)

// The hourly limit of a domain counts from its first send on. All other limits (those of
// mailboxes and accounts, and daily ones) count from when they are first set. A new daily
// limit starts with the sends of the last hour, if the hourly window has counted them.
// Notes keep when each limit began to count, for `sluice explain`.

// A countedLimit is a limit that counts from when it is set.
type countedLimit struct{ key, scope string }

// countsBegan returns since when each limit counts. A limit that is in before keeps its
// time, a new one begins now; a new daily limit an hour ago, except at the start of the
// service: nobody knows then whether the last hour was counted.
func countsBegan(s *settings.Settings, before map[countedLimit]time.Time, now time.Time, start bool) map[countedLimit]time.Time {
	all := map[countedLimit]time.Time{}
	for name := range s.Scopes() {
		addBegan(s, all, name, before, now, start)
	}
	return all
}

// countsBeganIn is countsBegan where only these scopes have changed.
func countsBeganIn(s *settings.Settings, scopes []string, before map[countedLimit]time.Time, now time.Time) map[countedLimit]time.Time {
	all := maps.Clone(before)
	for _, name := range scopes {
		delete(all, countedLimit{"hourly", name})
		delete(all, countedLimit{"daily", name})
		addBegan(s, all, name, before, now, false)
	}
	return all
}

// addBegan adds to all since when the limits of a scope count.
func addBegan(s *settings.Settings, all map[countedLimit]time.Time, name string, before map[countedLimit]time.Time, now time.Time, start bool) {
	add := func(one countedLimit) {
		began, existed := before[one]
		if !existed {
			began = now.Round(0).Truncate(time.Millisecond)
			if one.key == "daily" && !start && ratelimit.Nests(s.Window, limit.Day) {
				began = hourBefore(before, began, one.scope, s.Window)
			}
		}
		all[one] = began
	}
	scope := s.Scope(name)
	if scope == nil {
		return
	}
	if scope.Hourly != nil && *scope.Hourly > 0 && !sidecar.AlwaysCounted(name) {
		add(countedLimit{"hourly", name})
	}
	if scope.Daily != nil && *scope.Daily > 0 {
		add(countedLimit{"daily", name})
	}
}

// hourBefore is since when a new daily limit counts: it starts with the sends that the
// hourly window of the same scope has counted, if it has any.
func hourBefore(began map[countedLimit]time.Time, now time.Time, scope string, window time.Duration) time.Time {
	hourly, counted := began[countedLimit{"hourly", scope}]
	switch before := now.Add(-window); {
	case scope == sidecar.DefaultScope, sidecar.AlwaysCounted(scope), counted && hourly.Before(before):
		return before
	case counted:
		return hourly
	}
	return now
}

// noteBegan updates the notes to what is in force.
func (l *Live) noteBegan() {
	l.noting.Lock()
	defer l.noting.Unlock()
	began := l.now.Load().began
	for limit := range l.noted {
		if _, there := began[limit]; !there {
			delete(l.noted, limit)
			event.EmitError(l.events, event.StoreFailed, l.notes.Drop(limit.key, limit.scope))
		}
	}
	for limit, at := range began {
		if !l.noted[limit].Equal(at) {
			l.noted[limit] = at
			event.EmitError(l.events, event.StoreFailed, l.notes.Put(at.UnixMilli(), limit.key, limit.scope))
		}
	}
}

// CountedSince is since when a limit counts the sends of a subject; zero since the
// first. A domain is counted for its own daily limit and for that of the default scope.
func (l *Live) CountedSince(key, subject string) time.Time {
	began := l.now.Load().began
	since := began[countedLimit{key, subject}]
	if all := began[countedLimit{key, sidecar.DefaultScope}]; sidecar.AlwaysCounted(subject) && !sidecar.Unlimited(subject) && !all.IsZero() && (since.IsZero() || all.Before(since)) {
		return all
	}
	return since
}
