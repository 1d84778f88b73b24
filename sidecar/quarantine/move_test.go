package quarantine

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/action"
	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
)

const (
	first  = "1xUzSN-0005dd-01"
	second = "1xUzSN-0005dd-02"
	third  = "1xUzSN-0005dd-03"
)

// restOfFile is what follows the first line of a file of a message.
const restOfFile = "\nDebian-exim 100 101\n<a@b.example>\n1796014186 0\nXX\n1\nr@far.example\n\n010  Subject: x\n"

// A spool is Exim's spool_directory, and an Exim that does in it what it is told, except to move
// what is there already, as the real one.
type spool struct {
	t    *testing.T
	dir  string
	told [][]string // what it was told, without the options
}

func newSpool(t *testing.T) *spool { return &spool{t: t, dir: t.TempDir()} }

func (s *spool) queues() Queues {
	return Queues{Exim: s, Directory: s.dir, Again: func(context.Context) bool { return false }}
}

func (s *spool) path(queue, file string) string { return filepath.Join(s.dir, queue, "input", file) }

// put puts a message into some queues; in two of them, as if a move was interrupted.
func (s *spool) put(id string, queues ...string) {
	s.t.Helper()
	for i, queue := range queues {
		err := os.MkdirAll(s.path(queue, ""), 0o750)
		for _, end := range []string{"-D", "-H"} {
			if i > 0 {
				err = errors.Join(err, os.Link(s.path(queues[0], id+end), s.path(queue, id+end)))
			} else {
				err = errors.Join(err, os.WriteFile(s.path(queue, id+end), []byte(id+end+restOfFile), 0o640))
			}
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// in are the queues that a message is in.
func (s *spool) in(id string) (queues []string) {
	for _, queue := range []string{"", logline.QuarantineQueue} {
		if s.queues().has(id, queue) {
			queues = append(queues, queue)
		}
	}
	return queues
}

// Act implements Exim.
func (s *spool) Act(_ context.Context, queue string, ids []string, options ...string) (string, error) {
	s.told = append(s.told, ids)
	for _, id := range ids {
		for _, end := range []string{"-H", "-D"} {
			from := s.path(queue, id+end)
			if len(options) == 1 {
				if options[0] == "-Mrm" {
					os.Remove(from)
				}
			} else if to := s.path(options[1], id+end); os.MkdirAll(filepath.Dir(to), 0o750) == nil && os.Link(from, to) == nil {
				os.Remove(from)
			}
		}
	}
	return "", nil
}

// RetryEnd implements Exim.
func (s *spool) RetryEnd(context.Context, string) (time.Duration, bool) { return 0, false }

// What an interrupted move has left in two queues is left in one, each message by itself.
func TestMend(t *testing.T) {
	s := newSpool(t)
	s.put(first, "", logline.QuarantineQueue)
	s.put(second, "", logline.QuarantineQueue)
	s.put(third, logline.QuarantineQueue)
	halves, err := s.queues().Halves(t.Context())
	if want := []Place{{first, ""}, {second, ""}}; err != nil || !slices.Equal(halves, want) {
		t.Fatalf("%v, %v; want %v", halves, err, want)
	}
	r, err := s.queues().Mend(t.Context(), halves)
	if diff := cmp.Diff(Result{Done: halves, Twice: []string{first, second}}, r); diff != "" || err != nil {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	if got := [][]string{s.in(first), s.in(second), s.in(third)}; !cmp.Equal(got, [][]string{{""}, {""}, {logline.QuarantineQueue}}) {
		t.Errorf("they are in %q", got)
	}
	if want := [][]string{{first}, {second}}; !cmp.Equal(s.told, want) {
		t.Errorf("Exim was told %q, want %q", s.told, want)
	}
}

// The only copy of a message is never removed: not of what was moved on since it was seen in two
// queues, and not of what an Exim moves just then, which has its lock.
func TestTheOnlyCopyIsNotMended(t *testing.T) {
	s := newSpool(t)
	s.put(first, logline.QuarantineQueue)
	s.put(second, "", logline.QuarantineQueue)
	file, _ := exim.FindSpoolFile(s.dir, "", second)
	unlock, ok := file.Lock()
	if !ok {
		t.Fatal("it cannot be locked")
	}
	if halves, err := s.queues().Halves(t.Context()); err != nil || len(halves) > 0 {
		t.Errorf("%v, %v: what is being moved is taken for half moved", halves, err)
	}
	r, err := s.queues().Mend(t.Context(), []Place{{first, ""}, {second, ""}})
	if err != nil || len(s.told) > 0 || len(r.Done) > 0 || !slices.Equal(r.Left, []string{first, second}) {
		t.Errorf("%+v, %v; Exim was told to remove %q", r, err, s.told)
	}
	if r, err := s.queues().Quarantine(t.Context(), []Place{{second, ""}}); err != nil || len(s.in(second)) != 2 || !slices.Equal(r.Left, []string{second}) {
		t.Errorf("moved while another one moves it: %+v, %v; it is in %q", r, err, s.in(second))
	}
	unlock()
	if halves, err := s.queues().Halves(t.Context()); err != nil || len(halves) != 1 {
		t.Errorf("%v, %v, want one that nobody moves", halves, err)
	}
}

// What another command has moved since it was selected was not moved by this one.
func TestWhatOthersHaveMoved(t *testing.T) {
	s := newSpool(t)
	s.put(first, logline.QuarantineQueue)
	s.put(second, "")
	r, err := s.queues().Quarantine(t.Context(), []Place{{first, ""}, {second, ""}})
	if diff := cmp.Diff(Result{Done: []Place{{second, ""}}, Gone: []string{first}, Left: []string{}}, r); diff != "" || err != nil {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
}

// quarantined is an action that has moved messages into the quarantine.
func quarantined(t *testing.T, number int, ids ...string) action.Action {
	t.Helper()
	var r Result
	for _, id := range ids {
		r.Done = append(r.Done, Place{ID: id})
	}
	did, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	return action.Action{Number: number, Verb: Quarantine, Did: &action.Did{Values: did}}
}

// What a later action has set aside again stays when an earlier one is taken back, until the later
// one is taken back itself.
func TestUndoLeavesWhatWasDoneAgain(t *testing.T) {
	s := newSpool(t)
	s.put(first, logline.QuarantineQueue)
	s.put(second, logline.QuarantineQueue)
	s.put(third, "") // restored by 58
	restored := quarantined(t, 58, first, second, third)
	restored.Verb = Restore
	all := []action.Action{quarantined(t, 57, first, second, third), restored, quarantined(t, 60, first)}

	b, err := s.queues().Undo(&all[0], all)
	if want := (Back{Verb: Restore, Messages: []Place{{second, ""}}, Changed: 1, Kept: 1, By: []int{60}}); err != nil || !cmp.Equal(b, want) {
		t.Errorf("%+v, %v; want %+v", b, err, want)
	}
	if rest := b.Rest(); !strings.Contains(rest, "1 stay, for the same was done to them again, by action 60") {
		t.Error(rest)
	}
	all = append(all, quarantined(t, 61, second))
	b, err = s.queues().Undo(&all[0], all)
	if !errors.Is(err, action.ErrChanged) || !strings.Contains(err.Error(), "by action 60 61") || len(b.Messages) > 0 {
		t.Errorf("all was done again: %+v, %v", b, err)
	}
	removed := quarantined(t, 63, third)
	removed.Verb = Remove
	if b, err = s.queues().Undo(&all[0], append(slices.Clone(all), removed)); err == nil || !strings.Contains(err.Error(), "1 were removed for good, by action 63") || b.Changed != 0 {
		t.Errorf("one was removed: %+v, %v", b, err)
	}
	all = append(all, action.Action{Number: 62, Verb: "undo", Undoes: 60, Did: &action.Did{}})
	if b, err = s.queues().Undo(&all[0], all); err != nil || !slices.Equal(b.Messages, []Place{{first, ""}}) || !slices.Equal(b.By, []int{61}) {
		t.Errorf("once 60 is taken back: %+v, %v", b, err)
	}
}
