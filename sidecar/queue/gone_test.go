package queue

import (
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"
)

// What is held of a message whose files somebody has removed is held no more: after two sweeps that
// have read all of the spool, and not while it cannot be read, is another one, or has moved it.
func TestHeldMessagesAreGoneWithTheirFiles(t *testing.T) {
	s := newSpool(t, 1) // more than Max are looked for too
	var gone []string
	s.options.Gone = func(id string, recipients []string) { gone = append(gone, id) }
	sweep := func(what string, want ...string) {
		t.Helper()
		gone = nil
		s.Sweep(t.Context(), s.now, false)
		if slices.Sort(gone); !slices.Equal(gone, want) {
			t.Errorf("%s: %q are gone, want %q", what, gone, want)
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ids := []string{s.id(0, time.Hour), s.id(1, time.Hour), s.id(2, time.Hour), s.id(3, time.Hour)}
	write := func(dir, id string) string {
		return s.write(dir, id, header(id, "x@y.example", auth, "XX", "r@far.example"))
	}
	removed, moved, aside := write("input", ids[0]), write("input/"+ids[1][5:6], ids[1]), write("sluice-quarantine/input", ids[2])
	for _, id := range ids { // the last one is in no spool that it can see
		s.held[id] = 1
	}
	s.held[ids[2]] = 0 // it is set aside
	sweep("all are there")

	input, away := filepath.Join(s.dir, "input"), filepath.Join(s.dir, "away")
	do(os.Rename(input, away))
	sweep("the spool is not mounted")
	sweep("the spool is not mounted")
	sweep("the spool is not mounted")
	do(os.Mkdir(input, 0o755))
	sweep("another spool is there")
	sweep("another spool is there")
	sweep("another spool is there")
	do(os.Remove(input))
	do(os.Rename(away, input))
	sweep("it is back")
	do(os.Rename(input, away))
	do(os.Mkdir(input, 0o755))
	sweep("another one is there at once")
	sweep("another one is there at once")
	do(os.Remove(input))
	do(os.Rename(away, input))
	sweep("it is back again")

	do(os.Remove(removed))
	do(os.Remove(aside))
	do(os.MkdirAll(filepath.Join(s.dir, "other", "input"), 0o755))
	do(os.Rename(moved, filepath.Join(s.dir, "other", "input", filepath.Base(moved))))
	sweep("one sweep does not find two")
	unread := filepath.Join(input, "x")
	do(os.Symlink("x", unread)) // so that it cannot be opened
	sweep("not all can be read")
	sweep("not all can be read")
	if s.Trouble() == nil {
		t.Error("all could be read")
	}
	do(os.Remove(unread))
	do(os.Mkdir(filepath.Join(s.dir, "named"), 0o755))
	named := filepath.Join(s.dir, "named", "input") // of a queue that they may be in
	do(os.Symlink("input", named))
	sweep("a queue cannot be looked at")
	sweep("a queue cannot be looked at")
	do(os.Remove(named))
	sweep("two sweeps have not found them", ids[0], ids[2])
	delete(s.held, ids[0])
	delete(s.held, ids[2])
	sweep("it is told once")
	sweep("it is told once")
}

// Recipients that were marked as delivered are held no more, unless another spelling of them is left.
func TestHeldRecipientsAreGoneOnceMarked(t *testing.T) {
	s := newSpool(t, 100)
	gone := map[string][]string{}
	var mu sync.Mutex
	s.options.Gone = func(id string, recipients []string) {
		mu.Lock()
		defer mu.Unlock()
		gone[id] = recipients
	}
	some, all, free := s.id(0, time.Hour), s.id(1, time.Hour), s.id(2, time.Hour)
	to := []string{"a@far.example", "B@far.example", "b@far.example", "c@far.example"}
	write := func(tree string) {
		s.write("input", some, header(some, "x@y.example", auth, tree, to...))
		s.write("input", all, header(all, "x@y.example", auth, tree, "a@far.example"))
	}
	s.held[some], s.held[all] = 4, 1
	write("XX")
	s.write("input", free, header(free, "x@y.example", auth, "NN a@far.example", to...))
	s.Sweep(t.Context(), s.now, false)
	if len(gone) > 0 {
		t.Errorf("none is marked, but %v are gone", gone)
	}
	write("YN b@far.example\nNN a@far.example")
	s.Sweep(t.Context(), s.now, false)
	recipients, whole := gone[all]
	if len(gone) != 2 || !slices.Equal(gone[some], to[:1]) || !whole || recipients != nil {
		t.Errorf("gone are %v", gone)
	}
}
