package journal

import (
	"os"
	"path/filepath"
	"testing"

	"sluice/ratelimit"
	"sluice/sidecar/hosttest"
)

// TestDirectoryGone takes the files away under a running store: answers go
// on, the failure is reported, and everything is in the new files.
func TestDirectoryGone(t *testing.T) {
	dir, h := filepath.Join(t.TempDir(), "ledger"), &heard{}
	s := open(t, dir, h)
	mustTake(t, s, start, take("a.example", 0, 1))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	mustTake(t, s, start, take("a.example", 0, 2))
	s.tick()
	h.want(t, "failed", "mended")
	mustTake(t, s, start, take("a.example", 0, 3))
	s.abandon()
	s = open(t, dir, h)
	wantSent(t, s, "a.example", 3)
	s.abandon()
	h.want(t)
}

// TestStartOnAFullDisk: what was counted is there, answers go on, and when there
// is space again they are on the disk.
func TestStartOnAFullDisk(t *testing.T) {
	dir, h := hosttest.SmallDisk(t), &heard{}
	s := open(t, dir, h)
	mustTake(t, s, start, take("a.example", 0, 1))
	s.abandon()
	filler := hosttest.Fill(t, dir)
	s = open(t, dir, h)
	h.want(t, "failed")
	wantSent(t, s, "a.example", 1)
	mustTake(t, s, start, take("a.example", 0, 2))
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	s.tick()
	h.want(t, "mended")
	s.abandon()
	s = open(t, dir, h)
	wantSent(t, s, "a.example", 2)
	s.abandon()
}

// TestFullDisk fills the disk under a running store: answers go on, the
// failure is reported once, and when there is space again everything is there.
func TestFullDisk(t *testing.T) {
	dir, h := hosttest.SmallDisk(t), &heard{}
	s := open(t, dir, h)
	defer func() { s.abandon() }()
	filler := hosttest.Fill(t, dir)
	sends := 0
	charge := func(n int) {
		for range n {
			sends++
			mustTake(t, s, start, take("a.example", 0, ratelimit.Token(sends)))
		}
	}
	charge(30_000) // more than a segmentStep
	s.tick()
	h.want(t, "failed")
	if s.Failure() == nil {
		t.Fatal("no failure to be shown")
	}
	for range 5 {
		s.tick()
		charge(1)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for range 61 {
		s.tick()
	}
	h.want(t, "mended")
	charge(10)
	s.abandon()
	s = open(t, dir, h)
	wantSent(t, s, "a.example", int64(sends))
	h.want(t)
}

// TestFaultUnderTheMapping takes away the file that is mapped, as a disk that
// fails does: a failure, and no crash.
func TestFaultUnderTheMapping(t *testing.T) {
	h := &heard{}
	s := open(t, t.TempDir(), h)
	defer s.abandon()
	if err := s.segment.file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	mustTake(t, s, start, take("a.example", 0, 1))
	h.want(t, "failed")
	s.tick()
	h.want(t, "mended")
}
