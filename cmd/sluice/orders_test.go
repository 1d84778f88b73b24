package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// A crash within `sluice lock` or `unlock`, or while a node follows another, is
// completed by the next start:
//
//	lock ─→ mx1 ─ crash: a note, and a file or none ─→ mx1
//	unlock, lock ─→ mx2 ─┘
func TestACrashWithinALockForAllNodes(t *testing.T) {
	r := redistest.Start(t)
	b := startClustered(t, "mx2.example", r.URL())
	for i, c := range []struct {
		name  string
		note  string   // of mx1 about its own lock, after the crash
		file  bool     // the lock file was there, and the lock directory had noted it
		other []string // what mx2 does meanwhile
		want  bool     // the lock stands in the end, on both
		rm    bool     // an operator removes the file before the next start
	}{
		{"within lock, before the file", "stands", false, nil, true, false},
		{"within lock of an earlier version, before the file", "making", false, nil, true, false},
		{"within lock, after the file", "making", true, nil, true, false},
		{"within lock, and it was released meanwhile", "making", false, []string{"unlock"}, false, false},
		{"within unlock, before the file is gone", "removing", true, nil, false, false},
		{"within unlock, after it", "removing", false, nil, false, false},
		{"of a lock that was released and made again", "stands", false, []string{"unlock", "lock"}, true, false},
		{"of one that was removed here first", "removed", false, []string{"unlock", "lock"}, true, false},
		{"of none, but the file was removed by hand meanwhile", "stands", true, nil, false, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			dir, domain := t.TempDir(), fmt.Sprintf("d%d.example", i)
			config := clusterConfig(dir, "mx1.example", r.URL())
			a := startServeWith(t, dir, config)
			hosttest.Eventually(t, "Redis decides", func() bool { return a.whole(t).Totals.Shared.Mode == "shared" })
			a.sluice(t, "lock", domain)
			lock := "max_hourly_" + domain
			hosttest.Eventually(t, "the lock on both", func() bool { return exists(a.file(lock)) && exists(b.file(lock)) })
			a.stop()
			for _, command := range c.other {
				if out, code := b.sluice(t, command, domain); code != exitDone {
					t.Fatalf("%s: %s", command, out)
				}
			}
			a.crashed(t, domain, c.note, c.file)
			if c.rm {
				if err := os.Remove(a.file(lock)); err != nil {
					t.Fatal(err)
				}
			}
			a = startServeWith(t, dir, config)
			hosttest.Eventually(t, fmt.Sprintf("the lock: %v", c.want), func() bool {
				return exists(a.file(lock)) == c.want && exists(b.file(lock)) == c.want
			})
			// And that is all: a look later it is the same.
			looked := time.Now()
			hosttest.Eventually(t, "another look", func() bool { return time.Since(looked) > 1500*time.Millisecond })
			if exists(a.file(lock)) != c.want || exists(b.file(lock)) != c.want {
				t.Errorf("the lock does not stay as it was: %v and %v", exists(a.file(lock)), exists(b.file(lock)))
			}
			a.sluice(t, "unlock", domain)
			hosttest.Eventually(t, "no lock on both", func() bool { return !exists(a.file(lock)) && !exists(b.file(lock)) })
		})
	}
}

// crashed leaves what a crash would have left of a lock for all nodes.
func (n *servedNode) crashed(t *testing.T, domain, state string, file bool) {
	t.Helper()
	s, err := journal.Open(n.dir+"/ledger", journal.Options{Ledger: ratelimit.Options{Keep: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	var mark string
	s.Notes("order/"+domain, func(_ string, value []byte) {
		var noted struct{ Mark string }
		if err := json.Unmarshal(value, &noted); err != nil {
			t.Error(err)
		}
		mark = noted.Mark
	})
	err = s.Note("order/"+domain, fmt.Appendf(nil, `{"state":%q,"who":"root","mark":%q}`, state, mark))
	if !file {
		err = errors.Join(err, os.Remove(n.file("max_hourly_"+domain)), s.Forget("lock/max_hourly/"+domain))
	}
	if err := errors.Join(err, s.Close()); err != nil {
		t.Fatal(err)
	}
}
