package sidecar

import (
	"strconv"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
)

// A domain is counted in the hour from its first send on. All other counts begin
// when a limit is first there: those of mailboxes, of accounts, and of the day, which
// begins with the hour where that is counted. Notes
// of this node tell since when that is, over restarts, for explain.

// sinceNotes begin the key of such a note, which goes on with the key of the
// limit and its scope. Its value is a Unix time in milliseconds.
const sinceNotes = "since/"

// begun lists the limits whose counts have a beginning.
func (s *Settings) begun() map[string]bool {
	all := map[string]bool{}
	for name, scope := range s.scopes {
		if scope.Hourly != nil && *scope.Hourly > 0 && name != defaultScope && !isDomain(name) {
			all["hourly/"+name] = true
		}
		if scope.Daily != nil && *scope.Daily > 0 {
			all["daily/"+name] = true
		}
	}
	return all
}

// noteSince notes which limits are there since now, and forgets those that are
// gone. thresholds.mu is held.
func (p *Policy) noteSince(now time.Time, s *Settings) {
	since := p.thresholds.since
	start := since == nil
	if start {
		since = map[string]time.Time{}
		p.notes.Notes(sinceNotes, func(key string, value []byte) {
			ms, err := strconv.ParseInt(string(value), 10, 64)
			if err != nil {
				p.events.Emit(event.Event{Kind: event.NoteUnread, Attrs: event.Attrs("note", key), Err: err})
				return
			}
			since[strings.TrimPrefix(key, sinceNotes)] = time.UnixMilli(ms)
		})
		p.thresholds.since = since
	}
	begun := s.begun()
	for limit := range since {
		if !begun[limit] {
			delete(since, limit)
			p.logNote(p.notes.Forget(sinceNotes + limit))
		}
	}
	for limit := range begun {
		if _, known := since[limit]; known {
			continue
		}
		at := now.Round(0).Truncate(time.Millisecond)
		if name, daily := strings.CutPrefix(limit, "daily/"); daily && !start && ratelimit.Nests(s.window, day) {
			at = p.thresholds.hourBefore(at, name, s.window)
		}
		since[limit] = at
		p.logNote(p.notes.Note(sinceNotes+limit, strconv.AppendInt(nil, at.UnixMilli(), 10)))
	}
}

// hourBefore is since when a day is counted that is limited from now on: it begins
// with the hour.
func (t *thresholds) hourBefore(now time.Time, name string, window time.Duration) time.Time {
	counted, named := t.since["hourly/"+name]
	switch before := now.Add(-window); {
	case name == defaultScope, isDomain(name), named && counted.Before(before):
		return before
	case named:
		return counted
	}
	return now
}

func (p *Policy) logNote(err error) {
	if err != nil {
		p.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// countedSince is since when a subject is counted in the window of a limit; zero
// from its first send on. Of a domain both its own daily limit and that of all
// have it counted.
func (t *thresholds) countedSince(key, subject string) time.Time {
	since := t.since[key+"/"+subject]
	if all := t.since[key+"/"+defaultScope]; isDomain(subject) && !all.IsZero() && (since.IsZero() || all.Before(since)) {
		return all
	}
	return since
}

// heldSince is from when on a value is in force for certain: nobody has touched
// its key since, neither with sluice set, nor has that expired, nor was the file,
// or one of the panel's, read anew.
func (p *Policy) heldSince(now time.Time, v Value) time.Time {
	var since time.Time
	switch v.Layer {
	case LayerFile:
		since = p.config.Load().Read
	case LayerPanel:
		since = p.thresholds.from.read
	}
	states := p.thresholds.trail.judge(now).states
	for _, c := range p.thresholds.trail {
		for _, k := range c.Keys {
			if c.Scope != v.Set || k.Key != v.Key {
				continue
			}
			for _, at := range []time.Time{c.At, c.Until} {
				if at.After(since) && !at.After(now) && (at.Equal(c.At) || states[c.Number] == Expired) {
					since = at
				}
			}
		}
	}
	return since
}
