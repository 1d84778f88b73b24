package remedy

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/action"
	"sluice/sidecar/exim"
	"sluice/sidecar/quarantine"
)

// quarantined is a host on whose record is that a message was quarantined, from the queue of the
// directory, where it is no more.
func quarantined(t *testing.T) *Host {
	t.Helper()
	h := quarantinedNothing(t)
	places := []quarantine.Place{{ID: "1vPabc-000000001aB-0001"}}
	_, err := h.Act(action.Action{Verb: quarantine.Quarantine, Whom: stolen}, quarantine.Values{Messages: places}, func(int) (any, error) {
		return quarantine.Result{Done: places}, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// quarantinedNothing is a host with an empty queue.
func quarantinedNothing(t *testing.T) *Host {
	t.Helper()
	h := host(t)
	spool := t.TempDir()
	if err := os.MkdirAll(filepath.Join(spool, "input"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.Queue = func(context.Context, func() map[string]int) (*Queue, error) {
		return &Queue{Host: h, Exim: exim.Exim{Binary: "/bin/false"}, Directory: spool}, nil
	}
	return h
}

// What has left the quarantine meanwhile is not moved, and that is said and on record.
func TestMessagesThatHaveLeftTheQuarantineStay(t *testing.T) {
	h := quarantined(t)
	if u, err := h.Undo(t.Context(), 1, ""); !errors.Is(err, action.ErrChanged) || len(u.Undone) > 0 {
		t.Errorf("%+v, %v", u, err)
	}
	all, err := h.Actions()
	if err != nil || len(all) != 2 || all[1].Did == nil || !strings.Contains(all[1].Did.Failed, "1 were delivered, removed or changed by others since") || action.UndoneBy(all, 1) > 0 {
		t.Errorf("on record is %+v, %v", all, err)
	}
}

// What was removed for good since is on record: undo of that is not offered, of a clean only for the
// rest, and who types it all the same is told by which action. What nobody knows is offered.
func TestNothingTakesBackWhatWasRemovedForGood(t *testing.T) {
	first, second := quarantine.Place{ID: "1vPabc-000000001aB-0001"}, quarantine.Place{ID: "1vPabc-000000001aC-0001"}
	type did struct {
		verb     action.Verb
		part     int
		messages []quarantine.Place
	}
	both, clean, stop := []quarantine.Place{first, second}, did{VerbClean, 0, nil}, did{VerbStop, 1, nil}
	quarantined := did{quarantine.Quarantine, 1, both}
	for name, c := range map[string]struct {
		of, begun int // numbers: of what it is asked, and which has not ended
		did       []did
		can       bool
		lost      string
	}{
		"nothing removed":      {1, 0, []did{{quarantine.Quarantine, 0, both}}, true, ""},
		"all removed":          {1, 0, []did{{quarantine.Quarantine, 0, both}, {quarantine.Remove, 0, both}}, false, "of 2 messages 2 were removed for good, by action 2"},
		"one after the other":  {1, 0, []did{{quarantine.Quarantine, 0, both}, {quarantine.Remove, 0, both[1:]}, {quarantine.Remove, 0, both[:1]}}, false, "of 2 messages 2 were removed for good, by action 2 3"},
		"one removed":          {1, 0, []did{{quarantine.Quarantine, 0, both}, {quarantine.Remove, 0, both[:1]}}, true, "of 2 messages 1 were removed for good, by action 2"},
		"nobody knows":         {1, 2, []did{{quarantine.Quarantine, 0, both}, {quarantine.Remove, 0, both}}, true, ""},
		"frozen, and removed":  {1, 0, []did{{quarantine.Freeze, 0, both}, {quarantine.Remove, 0, both}}, false, "of 2 messages 2 were removed for good, by action 2"},
		"the removal itself":   {1, 0, []did{{quarantine.Remove, 0, both}}, false, ""},
		"a clean":              {1, 0, []did{clean, stop, quarantined, {quarantine.Remove, 0, both}}, true, "of 2 messages 2 were removed for good, by action 4"},
		"a clean of mail":      {1, 0, []did{clean, quarantined, {quarantine.Remove, 0, both}}, false, "of 2 messages 2 were removed for good, by action 3"},
		"a clean's quarantine": {3, 0, []did{clean, stop, quarantined, {quarantine.Remove, 0, both}}, false, "of 2 messages 2 were removed for good, by action 4"},
	} {
		h := quarantinedNothing(t)
		for i, d := range c.did {
			a := action.Action{Verb: d.verb, Part: d.part, Whom: stolen}
			number, err := h.Act(a, quarantine.Values{Messages: d.messages}, func(int) (any, error) { return quarantine.Result{Done: d.messages}, nil })
			if err != nil || number != i+1 {
				t.Fatal(number, err)
			}
		}
		all, err := h.Actions()
		if err != nil {
			t.Fatal(err)
		}
		if c.begun > 0 {
			all[c.begun-1].Did = nil
		}
		standings, err := StandingsOf(all)
		if err != nil {
			t.Fatal(err)
		}
		if can, lost, err := standings.Of(&all[c.of-1]); can != c.can || lost != c.lost || err != nil {
			t.Errorf("%s: %v, %q, %v; want %v, %q", name, can, lost, err, c.can, c.lost)
		}
	}
}

// Without a queue, or while another command acts on it until nobody waits any more, nothing is taken
// back, and it can be tried again.
func TestAQueueThatCannotBeActedOnStaysAsItIs(t *testing.T) {
	h := quarantined(t)
	open := h.Queue
	h.Queue = func(context.Context, func() map[string]int) (*Queue, error) { return nil, ErrNotExim }
	if _, err := h.Undo(t.Context(), 1, ""); !errors.Is(err, ErrNotExim) {
		t.Errorf("without a queue: %v", err)
	}
	h.Queue = open
	end, err := h.AloneAtQueue(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	ctx, cancel := context.WithCancel(t.Context())
	h.Say = func(text string) {
		if !strings.Contains(text, "waiting until another command") {
			t.Errorf("it says %q", text)
		}
		cancel()
	}
	if _, err := h.Undo(ctx, 1, ""); !errors.Is(err, context.Canceled) {
		t.Errorf("while another acts: %v", err)
	}
	all, err := h.Actions()
	if err != nil || action.UndoneBy(all, 1) > 0 {
		t.Errorf("it counts as taken back: %+v, %v", all, err)
	}
}
