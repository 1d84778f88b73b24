package lockdir

import (
	"fmt"
	"testing"
)

// TestCrash crashes every operation before and after each of its notes,
// starts again, and looks whether it either never began or is complete; and
// that no crash looks like an operator's doing.
func TestCrash(t *testing.T) {
	type ending struct{ before, complete string }
	for name, c := range map[string]struct {
		prepare func(r *rig)
		do      func(r *rig)
		end     ending
		notes   int // that do writes
		events  []string
	}{
		"make": {
			func(r *rig) {}, func(r *rig) { r.make(hourly) },
			ending{"", "sluice"}, 2, nil,
		},
		"make operator": {
			func(r *rig) {}, func(r *rig) { r.must(r.d.MakeOperator(hourly, "locked by root")) },
			ending{"", "operator"}, 2, nil,
		},
		"unmake": {
			func(r *rig) { r.make(hourly) }, func(r *rig) { r.must(r.d.Unmake(hourly)) },
			ending{"sluice", ""}, 2, nil,
		},
		"remove": {
			func(r *rig) { r.create(hourly); r.settle() }, func(r *rig) { r.must(r.d.Remove(hourly)) },
			ending{"operator", ""}, 2, nil,
		},
		"directory lost": {
			func(r *rig) { r.make(hourly); r.rmRf() }, func(r *rig) { r.settle() },
			ending{"sluice", "sluice"}, 2, []string{"lost"},
		},
		"taken": {
			func(r *rig) { r.make(hourly); r.edit(hourly) }, func(r *rig) { r.settle() },
			ending{"operator", "operator"}, 1, []string{"taken max_hourly_example.com operator"},
		},
		"released": {
			func(r *rig) { r.make(hourly); r.rm(hourly) }, func(r *rig) { r.settle() },
			ending{"", ""}, 1, []string{"released max_hourly_example.com"},
		},
	} {
		for at := range 2 * c.notes {
			t.Run(fmt.Sprintf("%s, note %d of %d, after=%v", name, at/2+1, c.notes, at%2 == 1), func(t *testing.T) {
				r := newRig(t)
				c.prepare(r)
				r.notes.writes, r.notes.crash, r.notes.after = 0, at/2+1, at%2 == 1
				if !crashing(func() { c.do(r) }) {
					t.Fatal("did not crash: the operation writes fewer notes")
				}
				r.notes.crash = 0
				r.open()
				events := r.settle()
				if at == 0 {
					r.wantState(hourly, c.end.before)
				} else {
					r.wantState(hourly, c.end.complete)
				}
				// What was done before the crash is reported before it or after.
				if len(events) > 0 {
					r.wantEvents(events, c.events...)
				}
				if at == 0 && len(events) != len(c.events) {
					t.Errorf("events %v, want %q", short(events), c.events)
				}
				r.wantEvents(r.settle())
			})
		}
		t.Run(name+" writes no more notes", func(t *testing.T) {
			r := newRig(t)
			c.prepare(r)
			r.notes.writes = 0
			c.do(r)
			if r.notes.writes != c.notes {
				t.Errorf("%d notes, want %d", r.notes.writes, c.notes)
			}
		})
	}
}

// An operator may come between a crash and the next start.
func TestHandAfterCrash(t *testing.T) {
	nothing := func(*rig) {}
	makeIt := func(r *rig) { r.make(hourly) }
	unmake := func(r *rig) { r.must(r.d.Unmake(hourly)) }
	for name, c := range map[string]struct {
		prepare, do func(r *rig)
		note        int
		after       bool
		hand        func(r *rig)
		want        string
		events      []string
	}{
		"file not there yet, hand makes one": {nothing, makeIt, 1, true,
			func(r *rig) { r.create(hourly) }, "operator", []string{"made max_hourly_example.com operator"}},
		"file placed, hand touches it": {nothing, makeIt, 2, false,
			func(r *rig) { r.touch(hourly, noon) }, "operator", []string{"made max_hourly_example.com operator"}},
		"file made, hand removes it": {nothing, makeIt, 2, true,
			func(r *rig) { r.rm(hourly) }, "", []string{"released max_hourly_example.com"}},
		"file to be removed, hand removes it": {makeIt, unmake, 1, true,
			func(r *rig) { r.rm(hourly) }, "", nil},
		"file to be removed, hand edits it": {makeIt, unmake, 1, true,
			func(r *rig) { r.edit(hourly) }, "operator", []string{"made max_hourly_example.com operator"}},
		"file removed, hand makes one": {makeIt, unmake, 2, false,
			func(r *rig) { r.create(hourly) }, "operator", []string{"made max_hourly_example.com operator"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			c.prepare(r)
			r.notes.writes, r.notes.crash, r.notes.after = 0, c.note, c.after
			if !crashing(func() { c.do(r) }) {
				t.Fatal("did not crash")
			}
			r.notes.crash = 0
			c.hand(r)
			r.open()
			r.wantEvents(r.settle(), c.events...)
			r.wantState(hourly, c.want)
		})
	}
}
