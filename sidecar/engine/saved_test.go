package engine_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/notes"
)

// saved is what is exported of a site, as lines of a file.
func (s *site) saved(left bool) []history.Saved {
	s.t.Helper()
	all, err := s.Export(s.now, "", left)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := range all {
		all[i].Place = fmt.Sprintf("file:%d", i+1)
	}
	return all
}

// inForce is what is set live for a.example and all, by explain.
func (s *site) inForce() (all []string) {
	s.t.Helper()
	for _, scope := range []string{"a.example", "default"} {
		e, err := s.Explain(s.now, scope)
		if err != nil {
			s.t.Fatal(err)
		}
		for _, v := range e.Values {
			if v.Layer == limit.LayerLive {
				all = append(all, fmt.Sprintf("%s %s=%v until %v", v.Set, v.Key, v.Value, v.Until))
			}
		}
	}
	return all
}

// What is exported and imported elsewhere has the same in force, now and when what was
// set for a time has ended; what has no effect any more is not among it.
func TestWhatIsSavedIsTheSameElsewhere(t *testing.T) {
	a := newSite(t, limit20)
	a.set("a.example", "hourly=25", "mode=watch")
	a.order(history.Edit{Scope: "a.example", Set: []string{"hourly=unlimited"}, Why: "contract"})
	a.order(history.Edit{Scope: "a.example", Set: []string{"hourly=40"}, For: time.Hour})
	a.order(history.Edit{Scope: "a.example", Set: []string{"hourly=50"}, For: time.Minute})
	a.set("default", "deferfail_ignore=greylist,dns", "exempt=false")
	a.set("default", "deferfail_ignore=")
	a.set("b.example", "hourly=9")
	a.order(history.Edit{Scope: "b.example"})
	a.set("a.example", "daily=1000")
	a.order(history.Edit{Rollback: 9})
	lines := a.saved(false)

	b := newSite(t, limit20)
	r, err := b.Import(context.Background(), b.now, lines, "bob", false)
	if err != nil || len(r.Changes) != 6 || len(r.Expired)+len(r.Warnings) != 1 { // a.example is not known there
		t.Errorf("%+v, %v", r, err)
	}
	for _, later := range []time.Duration{0, time.Minute, time.Hour} {
		for _, s := range []*site{a, b} {
			s.now = s.now.Add(later)
			s.Engine.Tend(s.now)
		}
		if diff := cmp.Diff(a.inForce(), b.inForce()); diff != "" || len(a.inForce()) == 0 {
			t.Errorf("after %v -there +here:\n%s", later, diff)
		}
	}
	changes, err := b.History(b.now, "a.example")
	if err != nil || changes[len(changes)-2].Why != "contract; set before by root at 2026-03-01 12:00:00 +0000" || changes[0].Who != "bob" ||
		changes[0].Describe() != "hourly 40 -> 50" {
		t.Errorf("%+v, %v", changes, err)
	}
	if _, err := b.Change(context.Background(), b.now, history.Edit{Rollback: changes[len(changes)-2].Number, Who: "root"}); err != nil {
		t.Error(err)
	}
	b.limit(20)
	b.restart()
	b.limit(20)
}

// One bad line, and nothing is changed; all that is wrong is told.
func TestAnImportIsAllOrNothing(t *testing.T) {
	s := newSite(t, limit20)
	lines := []history.Saved{
		{Place: "f:1", Scope: "a.example", Set: []string{"hourly=5"}},
		{Place: "f:2", Scope: "a..example", Set: []string{"hourly=5"}},
		{Place: "f:3", Scope: "a.example", Set: []string{"hourley=5"}},
		{Place: "f:4", Scope: "exmaple", Set: []string{"hourly=5"}},
		{Place: "f:5", Scope: "a.example"},
		{Place: "f:6", Scope: "a.example", Set: []string{"hourly=5"}, Why: strings.Repeat("x", 501)},
		{Place: "f:7", Scope: "a.example", Set: []string{"hourly=5"}, Until: s.now.Add(100 * 365 * 24 * time.Hour)},
	}
	for _, preview := range []bool{true, false} {
		_, err := s.Import(context.Background(), s.now, lines, "root", preview)
		for _, want := range []string{`f:2: scope "a..example" must be`, `f:3: unknown key "hourley"; did you mean "hourly"?`, "f:4: exmaple is no domain",
			"f:5: nothing to set", "f:6: why must be at most", "f:7: until must be within"} {
			if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "f:1") {
				t.Errorf("%v, want %q", err, want)
			}
		}
	}
	old := []history.Saved{{Place: "f:1", Scope: "a.example", Set: []string{"hourly=5"}, Until: s.now}}
	if _, err := s.Import(context.Background(), s.now, old, "root", false); !errors.Is(err, history.ErrNoEffect) {
		t.Errorf("of what has ended by now: %v", err)
	}
	if r, err := s.Import(context.Background(), s.now, append(old, lines[0]), "root", true); err != nil || !slices.Equal(r.Expired, []string{"f:1"}) ||
		len(r.Changes) != 1 || r.Changes[0].Number != 1 {
		t.Errorf("a preview: %+v, %v", r, err)
	}
	if changes, err := s.History(s.now, ""); err != nil || len(changes) != 0 {
		t.Errorf("changed all the same: %+v, %v", changes, err)
	}
	s.limit(20)
}

// An import is one write for all nodes: a Redis that goes away within it cannot leave
// half of it. Whoever changes something at the same time comes before or after it.
func TestAnImportIsOneWrite(t *testing.T) {
	b := &awayBoard{values: map[string][]byte{}}
	s := sharing(t, b)
	s.set("b.example", "hourly=9")
	lines := []history.Saved{{Scope: "a.example", Set: []string{"hourly=30"}}, {Scope: "default", Set: []string{"hourly=7", "mode=watch"}}}
	if _, err := s.Import(context.Background(), s.now, lines, "root", false); err != nil || len(b.values) != 2 {
		t.Errorf("%d values, %v", len(b.values), err)
	}
	if r := s.set("a.example", "hourly=31"); r.Change.Number != 4 || r.Change.Describe() != "hourly 30 -> 31" {
		t.Errorf("%+v", r.Change)
	}
	s.order(history.Edit{Rollback: 3}) // of the import's, the second
	s.limit(31)
	changes, err := s.History(s.now, "")
	if err != nil || len(changes) != 5 || changes[2].State != history.RolledBack || changes[3].State != history.Replaced {
		t.Errorf("%+v, %v", changes, err)
	}
}

// sharing is a site that shares a board.
func sharing(t *testing.T, b notes.Board) *site {
	t.Helper()
	s := &site{t: t, board: b, config: parsed(t, limit20), ledger: t.TempDir(), dir: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	s.open()
	t.Cleanup(func() { s.store.Close() })
	return s
}

// When store.url comes to name a Redis, the start tells of what was set before and how
// to bring it, until it was brought or somebody has set something else.
func TestWhatStayedBehindIsToldUntilItIsBrought(t *testing.T) {
	const told = "has changed there is not in force here"
	s := newSite(t, limit20)
	s.set("a.example", "hourly=30")
	s.set("b.example", "hourly=40")
	s.set("c.example", "hourly=50")
	s.order(history.Edit{Scope: "c.example"})
	s.now = s.now.Add(time.Minute)
	s.board = &awayBoard{values: map[string][]byte{}}
	s.restart()
	if !strings.Contains(s.log.String(), told) || !strings.Contains(s.log.String(), "changes=2") {
		t.Errorf("the start has told %q", s.log.String())
	}
	s.limit(20)
	if all := s.saved(false); len(all) != 0 {
		t.Errorf("set here: %+v", all)
	}
	s.set("b.example", "hourly=41")
	lines := s.saved(true)
	if len(lines) != 1 || lines[0].Scope != "a.example" || !slices.Equal(lines[0].Set, []string{"hourly=30"}) {
		t.Errorf("left behind are %+v", lines)
	}
	if _, err := s.Import(context.Background(), s.now, lines, "root", false); err != nil {
		t.Error(err)
	}
	s.limit(30)
	if all := s.saved(true); len(all) != 0 {
		t.Errorf("brought, and left behind are %+v", all)
	}
	before := len(s.log.String())
	s.restart()
	if strings.Contains(s.log.String()[before:], told) {
		t.Error("the next start tells of it again")
	}
	s.limit(30)
}
