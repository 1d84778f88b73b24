package exim

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"sync/atomic"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/follow"
)

const (
	// listsCheckEvery is how often the files of the configuration are checked for changes.
	listsCheckEvery = time.Second
	// listsRetryAfter is how soon Exim is asked again if it has not answered.
	listsRetryAfter = 10 * time.Second
	// listsAskEvery is how often Exim is asked though no file has changed: one that is included if
	// it exists may have come.
	listsAskEvery = 10 * time.Minute
	// listsReportEvery is how often the event that Exim does not answer is emitted.
	listsReportEvery = time.Hour
)

// LastLists is what Exim has said last of its lists. It is kept in a file: a start need not wait for Exim,
// and goes on with that while Exim cannot say.
type LastLists struct {
	exim     Exim
	file     string
	last     atomic.Pointer[Lists]
	asked    bool      // since the start
	reported time.Time // when the event was last emitted; zero: Exim answers
}

// OpenLastLists reads the lists that Exim gave last from a file. If there is none, Exim is asked now.
func OpenLastLists(ctx context.Context, e Exim, file string) *LastLists {
	l := &LastLists{exim: e, file: file}
	var before Lists
	if text, err := os.ReadFile(l.file); err == nil && json.Unmarshal(text, &before) == nil {
		l.last.Store(&before)
		return l
	}
	if !IsAbsent(e.Binary) {
		if lists, err := l.exim.askLists(ctx); err == nil {
			l.asked = true
			l.last.Store(&lists) // the file is written when its directory has been made
		}
	}
	return l
}

// Last returns the lists that Exim gave last; nil if it never has.
func (l *LastLists) Last() *Lists { return l.last.Load() }

// Run asks Exim again when its configuration has changed and then stood still, until ctx is done.
// It calls changed when the answer differs from the last one.
func (l *LastLists) Run(ctx context.Context, events event.Sink, changed func()) error {
	if l.asked {
		l.save(events)
	}
	var known, seen []follow.Stamp
	due := time.Now() // when Exim is asked though nothing has changed
	if l.asked {
		known, due = l.stamps(), due.Add(listsAskEvery)
	}
	tick := time.NewTicker(listsCheckEvery)
	defer tick.Stop()
	for {
		now, stamps := time.Now(), l.stamps()
		settled := slices.Equal(stamps, seen)
		seen = stamps
		if !now.Before(due) || settled && !slices.Equal(stamps, known) {
			known, due = stamps, now.Add(listsAskEvery)
			err := l.ask(ctx, events, changed)
			if err != nil {
				due = now.Add(listsRetryAfter)
			}
			if ctx.Err() == nil {
				l.report(now, events, err)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// report emits an event when Exim does not answer: at once, and then every listsReportEvery. err is
// nil if Exim has answered.
func (l *LastLists) report(now time.Time, events event.Sink, err error) {
	switch {
	case err == nil:
		l.reported = time.Time{}
	case l.reported.IsZero() || now.Sub(l.reported) >= listsReportEvery:
		l.reported = now
		events.Emit(event.Event{Kind: event.EximListsUnread, Err: err})
	}
}

// stamps returns those of the files of Exim's configuration.
func (l *LastLists) stamps() (all []follow.Stamp) {
	lists := l.last.Load()
	if lists == nil {
		return nil
	}
	for _, file := range lists.Files {
		var s follow.Stamp
		if info, err := os.Stat(file); err == nil {
			s = follow.StampOf(info)
		}
		all = append(all, s)
	}
	return all
}

// ask asks Exim. Without an Exim it does nothing.
func (l *LastLists) ask(ctx context.Context, events event.Sink, changed func()) error {
	if IsAbsent(l.exim.Binary) {
		return nil
	}
	lists, err := l.exim.askLists(ctx)
	if err != nil {
		return err
	}
	if before := l.last.Swap(&lists); before == nil || !reflect.DeepEqual(*before, lists) {
		l.save(events)
		changed()
	}
	return nil
}

// save writes the lists to the file, and emits an event with them.
func (l *LastLists) save(events event.Sink) {
	lists := l.last.Load()
	text, err := json.Marshal(lists)
	if err == nil {
		err = os.WriteFile(l.file, text, 0o600) // half of it is no JSON, and Exim is asked
	}
	unknown := slices.Concat(lists.LocalDomains.Unknown, lists.RelayHosts.Unknown, lists.RelayDomains.Unknown)
	events.Emit(event.Event{Kind: event.EximListsRead, Err: err, Attrs: event.Attrs("local_domains", lists.LocalDomains.Items,
		"relay", lists.RelayHosts.Items, "relay_domains", lists.RelayDomains.Items, "unknown", unknown)})
}

// IsAbsent reports whether there is no such file.
func IsAbsent(file string) bool {
	_, err := os.Stat(file)
	return errors.Is(err, fs.ErrNotExist)
}
