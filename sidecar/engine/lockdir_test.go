package engine_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
)

// A lock directory that cannot be used costs no answer. It is shown, and told
// once, and what was due is there as soon as it can be used.
func TestAnswersGoOnWithoutALockDirectory(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.now = time.Now()
	s.run()
	if err := os.RemoveAll(s.dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.dir, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	trouble := "open lock directory " + s.dir + ": not a directory: move away what stands in the place of a directory"
	s.eventually("shown", func() bool { return s.locksTotal() == trouble })
	s.want(s.send(2), sidecar.Accept, "")
	s.want(s.send(1), sidecar.Accept, "")
	s.want(s.send(1), sidecar.Defer, "Domain a.example has exceeded the max emails per hour (4/3 (133%)) allowed.")
	s.eventually("told", func() bool {
		return strings.Contains(s.log.String(), "lock directory in trouble: domains are counted and refused all the same")
	})

	if err := os.Remove(s.dir); err != nil {
		t.Fatal(err)
	}
	s.eventually("lock", func() bool { return s.content(aLock) == "3/3 (100%)" })
	s.eventually("mended", func() bool {
		return s.locksTotal() == "ok" && strings.Contains(s.log.String(), "lock directory mended")
	})
	if told := s.log.String(); strings.Count(told, "lock directory mended") != 1 || !strings.Contains(told, " dir="+s.dir+"\n") {
		t.Errorf("one mend is told as %s", told)
	}
}

// locksTotal is what status says of the lock directory.
func (s *site) locksTotal() string {
	s.t.Helper()
	st, err := s.Status(context.Background(), time.Now(), "")
	if err != nil {
		s.t.Fatal(err)
	}
	return st.Totals.Locks
}

// A full disk is told once, and not for each of thousands of domains.
func TestLockTroubleOfManyDomainsIsToldOnce(t *testing.T) {
	var log hosttest.Log
	events := event.NewStream(event.NewLog(slog.New(slog.NewTextHandler(&log, nil))))
	for _, domain := range []string{"a.example", "b.example", "c.example"} {
		events.Emit(event.Event{Kind: event.LockTrouble, Domain: domain, Err: fmt.Errorf("make lock file /locks/max_hourly_%s: no space left on device", domain)})
	}
	events.Emit(event.Event{Kind: event.LockTrouble, Domain: "a.example", Err: errors.New("make lock file /locks/max_hourly_a.example: read-only file system")})
	for text, want := range map[string]int{"no space left": 1, "read-only": 1} {
		if got := strings.Count(log.String(), text); got != want {
			t.Errorf("%q is told %d times:\n%s", text, got, &log)
		}
	}
}
