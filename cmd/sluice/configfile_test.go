package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/limit"
	"sluice/sidecar/live"
	"sluice/sidecar/operator"
)

// configStatus is what status says of the configuration file.
func (n *servedNode) configStatus(t *testing.T) live.ConfigStatus {
	t.Helper()
	var s operator.Status
	out, code := n.sluice(t, "status", "--json", "--admin", n.dir+"/run/admin.sock")
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != exitDone {
		t.Fatalf("status: exit %d, %v:\n%s", code, err, out)
	}
	return s.Config
}

// hourly is the limit of example.com that is in force, and where it comes from.
func (n *servedNode) hourly(t *testing.T) (limit int64, by limit.Origin) {
	t.Helper()
	var e operator.Explanation
	out, code := n.sluice(t, "explain", "example.com", "--json", "--admin", n.dir+"/run/admin.sock")
	if err := json.Unmarshal([]byte(out), &e); err != nil || code != exitDone {
		t.Fatalf("explain: exit %d, %v:\n%s", code, err, out)
	}
	return int64(e.Values[0].Value.(float64)), e.Values[0].Origin
}

func (n *servedNode) wantHourly(t *testing.T, want int64) {
	t.Helper()
	hosttest.Eventually(t, fmt.Sprintf("hourly = %d", want), func() bool { got, _ := n.hourly(t); return got == want })
}

// withHourly is the configuration of a node with another limit.
func withHourly(dir string, hourly int) string {
	return strings.Replace(serveConfig(dir), "hourly = 10", fmt.Sprintf("hourly = %d", hourly), 1)
}

// A file edited in any of the ways that editors have is in force soon, and what
// was counted stays.
func TestTheFileIsReadAgainWhenItIsEdited(t *testing.T) {
	n := startServe(t, t.TempDir())
	file := n.dir + "/sluice.toml"
	if got := n.sendAll(t, 0, 4); got != 4 {
		t.Fatalf("%d accepted", got)
	}
	t.Run("rename", func(t *testing.T) {
		writeFile(t, file+"~new", withHourly(n.dir, 11))
		if err := os.Rename(file+"~new", file); err != nil {
			t.Fatal(err)
		}
		n.wantHourly(t, 11)
	})
	t.Run("truncate and write", func(t *testing.T) {
		writeFile(t, file, withHourly(n.dir, 12))
		n.wantHourly(t, 12)
		if _, by := n.hourly(t); by.Layer != limit.LayerFile || by.Place != file+":15" {
			t.Errorf("it comes from %+v", by)
		}
	})
	t.Run("half-written", func(t *testing.T) { n.writeSlowly(t, file, 12, 13) })
	t.Run("SIGHUP", func(t *testing.T) {
		writeFile(t, file, withHourly(n.dir, 14))
		if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		n.wantHourly(t, 14)
	})
	t.Run("emptied or removed", func(t *testing.T) {
		writeFile(t, file, "")
		hosttest.Eventually(t, "trouble", func() bool { return strings.Contains(n.configStatus(t).Trouble, "it is empty or gone") })
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		hosttest.Eventually(t, "trouble", func() bool { return strings.Contains(n.configStatus(t).Trouble, "no such file") })
		n.wantHourly(t, 14)
		writeFile(t, file, withHourly(n.dir, 14))
		hosttest.Eventually(t, "no trouble", func() bool { return n.configStatus(t).Trouble == "" })
	})
	if got := n.sendAll(t, 4, 20); got != 10 {
		t.Errorf("%d accepted beyond the 4, want 10", got)
	}
}

// writeSlowly writes a file in pieces, of which each is valid, and wants it to be read once, when it
// is whole.
func (n *servedNode) writeSlowly(t *testing.T, file string, before, after int64) {
	for range 20 {
		was := n.configReads()
		longest := writeInPieces(t, file, withHourly(n.dir, int(after)))
		n.wantHourly(t, after)
		if longest < configSettles {
			if reads := n.configReads() - was; reads != 1 {
				t.Errorf("a file of which no piece came later than %v after the one before it was read %d times", longest, reads)
			}
			return
		}
		writeFile(t, file, withHourly(n.dir, int(before))) // again
		n.wantHourly(t, before)
	}
	t.Fatal("this machine does not write a file in pieces that follow each other within half a second")
}

// configReads is how often the node has put the file in force.
func (n *servedNode) configReads() int {
	return strings.Count(n.log.String(), "configuration read, in force now")
}

// writeInPieces writes a file in pieces, and returns the longest time from one to the next. A
// pause that is longer than configSettles ends the file rightly.
func writeInPieces(t *testing.T, file, text string) (longest time.Duration) {
	wrote := time.Now()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for line := range strings.Lines(text) {
		time.Sleep(100 * time.Millisecond)
		began := time.Now()
		if _, err := f.WriteString(line); err != nil {
			t.Fatal(err)
		}
		longest = max(longest, time.Since(wrote))
		wrote = began
	}
	return longest
}

// With each bad file the running configuration stays, and the reason is in the
// log, in status, and told by config --check; serve does not start with it.
func TestBadFilesLeaveTheRunningConfiguration(t *testing.T) {
	n := startServe(t, t.TempDir())
	file := n.dir + "/sluice.toml"
	cases, err := filepath.Glob("../../testdata/config/bad/*.toml")
	if err != nil || len(cases) == 0 {
		t.Fatal(err)
	}
	for _, bad := range cases {
		name := filepath.Base(bad)
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(bad)
			if err != nil {
				t.Fatal(err)
			}
			reason, err := os.ReadFile(strings.TrimSuffix(bad, ".toml") + ".error")
			if err != nil {
				t.Fatal(err)
			}
			want := strings.TrimSpace(strings.ReplaceAll(string(reason), name+":", file+":"))
			writeFile(t, file, string(text))
			if err := syscall.Kill(os.Getpid(), syscall.SIGHUP); err != nil {
				t.Fatal(err)
			}
			hosttest.Eventually(t, want, func() bool { return n.configStatus(t).Trouble == want })
			if got, _ := n.hourly(t); got != 10 {
				t.Errorf("hourly is %d", got)
			}
			first, _, _ := strings.Cut(want, "\n")
			if !strings.Contains(strings.ReplaceAll(n.log.String(), `\"`, `"`), first) {
				t.Errorf("the log does not say %q", first)
			}
			n.wantRun(t, exitNo, want, "config", "--check")
			n.wantRun(t, exitError, want, "serve")
			n.wantRun(t, exitDone, first, "status", "--admin", n.dir+"/run/admin.sock")
		})
	}
	writeFile(t, file, withHourly(n.dir, 11))
	n.wantHourly(t, 11)
	if trouble := n.configStatus(t).Trouble; trouble != "" {
		t.Errorf("trouble: %s", trouble)
	}
}

func TestWhatNeedsARestartSaysSo(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	hash := n.configStatus(t).Hash
	writeFile(t, n.dir+"/sluice.toml", strings.NewReplacer("hourly = 10", "hourly = 12\nwindow = \"2h\"",
		"policy.sock\"]", "policy.sock\", \"unix:"+n.dir+"/run/other.sock\"]").Replace(serveConfig(n.dir)))
	n.wantHourly(t, 12)
	s := n.configStatus(t)
	if fmt.Sprint(s.Restart) != "[listen.policy limits.window]" || s.Trouble != "" || s.Hash == hash {
		t.Errorf("%+v", s)
	}
	n.wantRun(t, exitDone, "says of listen.policy, limits.window comes into force with a restart", "status")
	n.wantRun(t, exitDone, "window = \"1h\"", "config", "--running")
	if !strings.Contains(n.log.String(), "keys=\"[listen.policy limits.window]\"") {
		t.Errorf("the log does not say so:\n%s", n.log)
	}
	writeFile(t, n.dir+"/sluice.toml", serveConfig(n.dir))
	hosttest.Eventually(t, "as it was", func() bool { s := n.configStatus(t); return len(s.Restart) == 0 && s.Hash == hash })
}
