package main

import (
	"encoding/json"
	"strings"
	"testing"

	"sluice/sidecar"
)

// wantRun runs a command, and compares its exit code and a part of what it prints.
func (n *servedNode) wantRun(t *testing.T, code int, part string, args ...string) string {
	t.Helper()
	out, got := n.sluice(t, args...)
	if got != code || !strings.Contains(out, part) {
		t.Errorf("sluice %s: exit %d, want %d and %q:\n%s", strings.Join(args, " "), got, code, part, out)
	}
	return out
}

// As the README has it: a limit is raised for a day, somebody sees who did it,
// and takes it back.
func TestRaiseALimitForADay(t *testing.T) {
	t.Setenv("SUDO_USER", "alice")
	n := startServe(t, t.TempDir())
	if got := n.sendAll(t, 0, 12); got != 10 {
		t.Fatalf("%d accepted, want 10", got)
	}
	n.wantRun(t, exitDone, "example.com would be released at once: 10/10 (100%)", "set", "example.com", "hourly=20", "--preview")
	if n.send(t, 30) {
		t.Error("the preview has changed the limit")
	}
	n.wantRun(t, exitDone, "to take it back: sluice rollback 1", "set", "example.com", "hourly=20", "--for", "1d", "--why", "sale")
	if got := n.sendAll(t, 12, 30); got != 10 {
		t.Errorf("%d accepted beyond the 10, want 10", got)
	}
	n.wantRun(t, exitDone, "alice (as root)", "explain", "example.com")
	n.wantRun(t, exitDone, ": sale", "explain", "example.com")
	n.wantRun(t, exitDone, "sluice.toml:14", "explain", "other.example")
	n.wantRun(t, exitDone, "hourly 10 -> 20", "history")

	var e sidecar.Explanation
	if err := json.Unmarshal([]byte(n.wantRun(t, exitDone, "", "explain", "news@example.com", "--json")), &e); err != nil || len(e.Values) == 0 ||
		e.Values[0].Value != 20.0 || e.Values[0].Layer != sidecar.LayerLive || e.Values[0].Why != "sale" || e.Values[0].Of != "example.com" {
		t.Errorf("%+v, %v", e, err)
	}
	n.wantRun(t, exitDone, "hourly 20 -> 10", "rollback", "1")
	if n.send(t, 40) {
		t.Error("accepted after the rollback, at 20 of 10")
	}
	var all changes
	err := json.Unmarshal([]byte(n.wantRun(t, exitDone, "", "history", "--json")), &all)
	if history := all.Changes; err != nil || len(history) != 2 ||
		history[0].Undoes != 1 || history[1].State != sidecar.RolledBack || history[1].Who != "alice (as root)" {
		t.Errorf("%+v, %v", all, err)
	}
	n.wantRun(t, exitDone, "", "set", "example.com", "mode=watch", "--json")
	n.wantRun(t, exitDone, "mode watch -> (not set here)", "unset", "example.com", "mode")

	for _, c := range []struct {
		code int
		want string
		args []string
	}{
		{exitNo, "change 1 is rolled back, by change 2 already", []string{"rollback", "1"}},
		{exitNo, "the history has no change 99", []string{"rollback", "99"}},
		{exitNo, "nothing of example.com is set by `sluice set`", []string{"unset", "example.com"}},
		{exitError, "did you mean \"hourly\"?", []string{"set", "example.com", "hourley=5"}},
		{exitError, "--for is \"soon\", it must be a time", []string{"set", "example.com", "hourly=5", "--for", "soon"}},
		{exitError, "--for is \"400000d\", it must be a time from 1s to 3660d", []string{"set", "example.com", "hourly=5", "--for", "400000d"}},
		{exitError, "it must be a whole number from 0 to 1000000000", []string{"set", "example.com", "hourly=many"}},
		{exitError, "scope \"../x\" must be", []string{"set", "../x", "hourly=5"}},
		{exitError, "scope \"../x\" must be", []string{"explain", "../x"}},
	} {
		n.wantRun(t, c.code, c.want, c.args...)
	}
}
