package live

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit/ordered"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/event"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/notes"
)

// counted keeps notes in memory, and counts how many are read and written.
type counted struct {
	values        ordered.Map[[]byte]
	reads, writes int
}

func (c *counted) Note(key string, value []byte) error {
	c.writes++
	c.values.Set(key, bytes.Clone(value))
	return nil
}

func (c *counted) Forget(key string) error {
	c.writes++
	c.values.Delete(key)
	return nil
}

func (c *counted) Notes(prefix string, f func(key string, value []byte)) {
	for key, value := range c.values.Prefix(prefix) {
		c.reads++
		f(key, value)
	}
}

// emitted is what was emitted.
type emitted []event.Event

func (e *emitted) Emit(one event.Event)    { *e = append(*e, one) }
func (e *emitted) Enabled(event.Kind) bool { return true }

// newLive is a Live whose board has so many changes, each of a domain of its own.
func newLive(t testing.TB, store *counted, events *emitted, changes int) *Live {
	t.Helper()
	c, err := config.Parse("test.toml", "")
	if err != nil {
		t.Fatal(err)
	}
	board := &notes.LocalBoard{Notes: store}
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for n := range changes {
		value := fmt.Appendf(nil, `{"number":%d,"at":"2026-03-01T12:00:00Z","who":"root","scope":"d%d.example","keys":[{"key":"hourly","to":%d}]}`, n+1, n, n+5)
		if _, err := board.Post(t.Context(), history.Key(int64(n+1)), value); err != nil {
			t.Fatal(err)
		}
	}
	return New(Options{Config: c, Board: board, Notes: store, Events: events, Now: now})
}

func hourlyOf(l *Live, scope string) any {
	s := l.Load()
	return valueOf(s, "hourly", scope)
}

func set(t testing.TB, l *Live, scope string, assignments ...string) history.Change {
	t.Helper()
	c, err := l.Change(context.Background(), time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), history.Edit{Scope: scope, Set: assignments, Who: "root"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// A change costs the same after ten others and after ten thousand: one value is written,
// none of the others is read again, and no scope but its own is compiled.
func TestWhatAChangeCosts(t *testing.T) {
	for _, before := range []int{10, 1000, 10_000} {
		store := &counted{}
		l := newLive(t, store, &emitted{}, before)
		if got := hourlyOf(l, "d9.example"); got != int64(14) {
			t.Fatalf("d9.example has %v", got)
		}
		set(t, l, "d3.example", "hourly=76") // the first one may remove old ones
		scope := l.Load().Scope("d9.example")
		store.reads, store.writes = 0, 0
		set(t, l, "d3.example", "hourly=77")
		l.Reload(time.Now())
		if store.reads != 0 || store.writes != 1 {
			t.Errorf("after %d changes: %d values read, %d written", before, store.reads, store.writes)
		}
		if got := hourlyOf(l, "d3.example"); got != int64(77) || l.Load().Scope("d9.example") != scope {
			t.Errorf("after %d changes: d3.example has %v, and d9.example was compiled: %v", before, got, l.Load().Scope("d9.example") != scope)
		}
	}
}

// What is compiled change by change is what all of them come to.
func TestChangesOneByOne(t *testing.T) {
	store := &counted{}
	l := newLive(t, store, &emitted{}, 0)
	step := func(scope string, edit history.Edit) {
		t.Helper()
		edit.Scope, edit.Who = scope, "root"
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		if _, err := l.Change(context.Background(), now, edit); err != nil {
			t.Fatal(err)
		}
		got := l.now.Load()
		l.swap(now, func(*liveValue) {}) // all anew
		want := l.now.Load()
		if describe(got.settings.Table) != describe(want.settings.Table) || got.version != want.version {
			t.Errorf("%s %+v:\n%s\nnot\n%s", scope, edit, describe(got.settings.Table), describe(want.settings.Table))
		}
		if !maps.Equal(got.began, want.began) {
			t.Errorf("%s %+v: counted since %v, not %v", scope, edit, got.began, want.began)
		}
	}
	step("a.example", history.Edit{Set: []string{"hourly=7"}})
	step("a.example", history.Edit{Set: []string{"hourly=8", "mode=watch"}, For: time.Hour})
	step("account:bob", history.Edit{Set: []string{"daily=70", "exempt=true"}})
	step("default", history.Edit{Set: []string{"hourly=9", "daily=50"}})
	step("u@a.example", history.Edit{Set: []string{"hourly=3"}})
	step("a.example", history.Edit{Rollback: 2})
	step("a.example", history.Edit{Unset: []string{"hourly"}})
	step("account:bob", history.Edit{})
	step("default", history.Edit{Unset: []string{"hourly"}})
}

func describe(t *limit.Table) string {
	var lines []string
	for name, scope := range t.Scopes() {
		line := fmt.Sprint(name, " ", t.OwnLimits(name))
		for _, key := range limit.Keys() {
			if s := scope.Set(key); s != nil {
				line += fmt.Sprintf(" %s=%v of %s", key, s.Value, s.Layer)
			}
		}
		lines = append(lines, line)
	}
	slices.Sort(lines)
	unknown := t.LimitsOf(sidecar.Payer{Domain: "unknown.example"})
	return fmt.Sprint(strings.Join(lines, "\n"), unknown, t.HasAccounts, t.HasWatched, t.ExemptScope(sidecar.Payer{Account: "bob"}))
}

// A value on the board that cannot be read is passed over, named once, and in nobody's
// way: also where the next change would have had its number.
func TestAChangeThatCannotBeRead(t *testing.T) {
	store, events := &counted{}, &emitted{}
	for number, value := range map[int64]string{1: `{"number":1,"scope":"a.example","keys":[{"key":"hourly","to":7}]}`, 2: "garbage", 3: `{"number":7,"scope":"b.example"}`} {
		store.values.Set("board/"+history.Key(number), []byte(value))
	}
	l := newLive(t, store, events, 0)
	if c := set(t, l, "b.example", "hourly=8"); c.Number != 4 {
		t.Errorf("it has the number %d", c.Number)
	}
	set(t, l, "b.example", "hourly=9")
	if a, b := hourlyOf(l, "a.example"), hourlyOf(l, "b.example"); a != int64(7) || b != int64(9) {
		t.Errorf("in force are %v and %v", a, b)
	}
	named := map[string]int{}
	for _, e := range *events {
		if e.Kind == event.NoteUnread {
			named[fmt.Sprint(e.Attrs)]++
		}
	}
	if len(named) != 2 || named["[note="+history.Key(2)+"]"] != 1 || named["[note="+history.Key(3)+"]"] != 1 {
		t.Errorf("named: %v", named)
	}
}

// Where there are many changes, those without an effect are removed, many at once.
func TestOldChangesGo(t *testing.T) {
	store := &counted{}
	l := newLive(t, store, &emitted{}, 0)
	for n := range history.KeepChanges + history.KeepChanges/10 + 1 {
		set(t, l, "a.example", fmt.Sprintf("hourly=%d", n+5))
	}
	left := 0
	store.Notes("board/", func(string, []byte) { left++ })
	if left != history.KeepChanges || hourlyOf(l, "a.example") != int64(history.KeepChanges+history.KeepChanges/10+5) {
		t.Errorf("%d are left, and %v is in force", left, hourlyOf(l, "a.example"))
	}
	if all, err := l.History(time.Now(), ""); err != nil || len(all) != left {
		t.Errorf("the history has %d, %v", len(all), err)
	}
}
