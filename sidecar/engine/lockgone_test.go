package engine_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
)

// A lock file that cannot be removed locks nothing where sluice answers, is told of once, and is made
// again if its cause comes back meanwhile.
func TestALockFileThatCannotBeRemoved(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.now = time.Now()
	ctx := context.Background()
	s.send(3)
	s.Reconcile(ctx, s.now)
	if s.content(aLock) != "3/3 (100%)" {
		t.Fatalf("locked is %q", s.content(aLock))
	}
	away := s.dir + ".away"
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	do(os.Rename(s.dir, away))
	do(os.WriteFile(s.dir, nil, 0o644)) // it cannot be opened
	s.set("a.example", "hourly=100")
	for range 5 {
		s.Reconcile(ctx, s.now)
	}
	if n := strings.Count(s.log.String(), "below the limit again"); n != 1 {
		t.Errorf("told %d times:\n%s", n, &s.log)
	}
	if d := s.outcomes("a.example"); len(d.Locks) > 0 {
		t.Errorf("locked by %v", d.Locks)
	}
	s.set("a.example", "hourly=3")
	s.Reconcile(ctx, s.now)
	do(os.Remove(s.dir))
	do(os.Rename(away, s.dir))
	s.run()
	s.eventually("at the limit again", func() bool { return s.content(aLock) == "3/3 (100%)" })
}

// A lock by hand is in force though its file cannot be made, and is over though it cannot be
// removed; both say so.
func TestALockByHandWithoutItsFile(t *testing.T) {
	s := newSite(t, limit20)
	s.now = time.Now()
	ctx := context.Background()
	s.send(1)
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	away := s.dir + ".away"
	do(os.Rename(s.dir, away))
	do(os.WriteFile(s.dir, nil, 0o644))
	_, err := s.Lock(ctx, s.now, "a.example", "root")
	if err == nil || !strings.HasPrefix(err.Error(), "a.example is refused from now on, but not while sluice is stopped: ") {
		t.Errorf("lock: %v", err)
	}
	s.want(s.send(1), sidecar.Defer, "Domain a.example is locked.")
	do(os.Remove(s.dir))
	do(os.Rename(away, s.dir))
	s.run()
	s.eventually("its file is made when it can be", func() bool { return s.content(aLock) != "" })
	do(os.Rename(s.dir, away))
	do(os.WriteFile(s.dir, nil, 0o644))
	if err = s.Unlock(ctx, s.now, "a.example", "root"); err == nil || !strings.HasPrefix(err.Error(), "a.example is released, but is refused while sluice is stopped") {
		t.Errorf("unlock: %v", err)
	}
	s.want(s.send(1), sidecar.Accept, "")
	do(os.Remove(s.dir))
	do(os.Rename(away, s.dir))
	s.eventually("its file is removed when it can be", func() bool { return s.content(aLock) == "" })
}
