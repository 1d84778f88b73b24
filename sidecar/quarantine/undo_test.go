package quarantine

import (
	"os"
	"slices"
	"testing"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/logline"
)

// Of a message whose header cannot be read it is not said that it has left, and it comes back.
func TestAHeaderThatCannotBeRead(t *testing.T) {
	s := newSpool(t)
	s.put(first, logline.QuarantineQueue)
	s.put(second, "")
	for _, path := range []string{s.path(logline.QuarantineQueue, first+"-H"), s.path("", second+"-H")} {
		if err := os.WriteFile(path, []byte("cut"), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	if r, err := s.queues().Freeze(t.Context(), []Place{{second, ""}}); err != nil || !slices.Equal(r.Left, []string{second}) {
		t.Errorf("freeze: %+v, %v", r, err)
	}
	for _, c := range []struct {
		verb action.Verb
		id   string
	}{{Quarantine, first}, {Restore, second}} {
		a := quarantined(t, 1, c.id)
		a.Verb = c.verb
		if b, err := s.queues().Undo(&a, []action.Action{a}); err != nil || !slices.Equal(b.Messages, []Place{{c.id, ""}}) {
			t.Errorf("undo of %s: %+v, %v", c.verb, b, err)
		}
	}
}

// What was taken out of the quarantine is not in it by the record, however it was: it may have been
// put there by hand since. What comes back by undo is, from then on.
func TestWhatTheRecordHasInTheQuarantine(t *testing.T) {
	day := func(n int) time.Time { return time.Date(2026, 11, n, 12, 0, 0, 0, time.UTC) }
	at := func(n int, a action.Action) action.Action {
		a.At = day(n)
		return a
	}
	put := func(n int) action.Action { return at(n, quarantined(t, n, first)) }
	restored := func(n int) action.Action {
		a := put(n)
		a.Verb = Restore
		return a
	}
	undone := func(n, of int, did *action.Did) action.Action {
		return at(n, action.Action{Number: n, Verb: "undo", Undoes: of, Did: did})
	}
	for name, c := range map[string]struct {
		actions []action.Action
		since   int // day of the month from which on it is there; 0: it is not
	}{
		"put":                           {[]action.Action{put(1)}, 1},
		"put again":                     {[]action.Action{put(1), put(3)}, 3},
		"restored":                      {[]action.Action{put(1), restored(2)}, 0},
		"undone":                        {[]action.Action{put(1), undone(2, 1, &action.Did{})}, 0},
		"undone in part":                {[]action.Action{put(1), undone(2, 1, &action.Did{Failed: "Exim delivers it"})}, 0},
		"undone, and nobody knows":      {[]action.Action{put(1), undone(2, 1, nil)}, 0},
		"undone, and put again":         {[]action.Action{put(1), undone(2, 1, &action.Did{}), put(3)}, 3},
		"a restore undone":              {[]action.Action{put(1), restored(2), undone(3, 2, &action.Did{})}, 3},
		"a restore undone in part":      {[]action.Action{put(1), restored(2), undone(3, 2, &action.Did{Failed: "x"})}, 0},
		"something else undone":         {[]action.Action{put(1), at(2, action.Action{Number: 2, Verb: Freeze}), undone(3, 2, &action.Did{})}, 1},
		"what is not on record, undone": {[]action.Action{put(1), undone(3, 99, &action.Did{})}, 1},
	} {
		for d := 1; d < 10; d++ {
			all, err := PutBefore(c.actions, day(d))
			if is := len(all) == 1 && all[0] == (Place{first, logline.QuarantineQueue}); err != nil || is != (c.since > 0 && d > c.since) || !is && len(all) > 0 {
				t.Errorf("%s, before day %d: %v, %v", name, d, all, err)
			}
		}
	}
}
