package exim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestTheIntervalOfAQueueRunner(t *testing.T) {
	for line, want := range map[string]time.Duration{
		"/usr/sbin/exim4 -bd -q30m":        30 * time.Minute,
		"/usr/sbin/exim -bd -q1h":          time.Hour,
		"exim -bd -q 1d2h3m4s":             26*time.Hour + 3*time.Minute + 4*time.Second,
		"exim -qqff15m":                    15 * time.Minute,
		"exim -bd -qGaside/1m -q20m":       20 * time.Minute, // the first is another queue's
		"exim -bd":                         0,
		"exim -q":                          0, // one run, now
		"exim -q 1vPabc-000000001aB-0001":  0, // one run, from that message on
		"exim -q99999999999999999999m":     0,
		"exim -qfx30m":                     0,
		"exim -Mc 1vPabc-000000001aB-0001": 0,
	} {
		if got := queueInterval(strings.Fields(line)); got != want {
			t.Errorf("%s: %v, want %v", line, got, want)
		}
	}
}

// Only a process counts that is Exim, and that no tenant has called.
func TestWhichQueueRunnerIsExims(t *testing.T) {
	dir := t.TempDir()
	binary, other := filepath.Join(dir, "exim4"), filepath.Join(dir, "other")
	proc := filepath.Join(dir, "proc")
	process := func(id int, exe string, uid int, args ...string) {
		at := filepath.Join(proc, fmt.Sprint(id))
		err := errors.Join(os.MkdirAll(at, 0o700), os.Symlink(exe, at+"/exe"), os.WriteFile(at+"/cmdline", []byte(strings.Join(args, "\x00")+"\x00"), 0o600),
			os.WriteFile(at+"/status", fmt.Appendf(nil, "Name:\texim4\nUid:\t%d\t0\t0\t0\n", uid), 0o600))
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.WriteFile(binary, nil, 0o755), os.WriteFile(other, nil, 0o755), os.MkdirAll(proc+"/99", 0o700)); err != nil {
		t.Fatal(err)
	}
	e := Exim{Binary: binary, User: "daemon"} // whose number is 1 on every Debian
	own, _ := UID(e.User)
	for _, step := range []struct {
		exe  string
		uid  int
		arg  string
		want time.Duration
	}{
		{other, 0, "-q1m", 0},
		{binary, 4711, "-q2m", 0},
		{binary, own, "-q30m", 30 * time.Minute},
		{binary, 0, "-q1h", 30 * time.Minute}, // the more frequent one
		{binary, 0, "-q10m", 10 * time.Minute},
	} {
		process(100+int(step.want.Minutes())+len(step.arg)+step.uid, step.exe, step.uid, "exim4", "-bd", step.arg)
		if got := e.QueueEvery(proc); got != step.want {
			t.Errorf("with %s of %d: %v, want %v", step.arg, step.uid, got, step.want)
		}
	}
	if got := (Exim{Binary: dir + "/none"}).QueueEvery(proc); got != 0 {
		t.Errorf("without Exim: %v", got)
	}
}
