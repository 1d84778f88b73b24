package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/clean"
	"sluice/sidecar/operator"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/remedy"
)

const hacked = "hacked@example.com"

// root is a terminal of an operator on a node, whose actions are on record in its directory.
func (n *servedNode) root(t *testing.T) *terminal {
	return &terminal{ctx: t.Context(), stdin: strings.NewReader(""), stdout: io.Discard, stderr: io.Discard, log: io.Discard,
		configFile: n.dir + "/sluice.toml", actions: n.dir + "/actions", audit: slog.New(slog.DiscardHandler)}
}

// act runs a command with the record of actions of the node.
func (n *servedNode) act(t *testing.T, args ...string) (string, int) {
	t.Helper()
	return n.sluice(t, append(args, "--actions", n.dir+"/actions")...)
}

// stopsOnRecord stops an author as a step of a clean.
func (n *servedNode) stopsOnRecord(t *testing.T, part int) int {
	t.Helper()
	c := clean.Case{Author: sidecar.Author{Key: hacked}, Number: part}
	done, err := clean.Steps(n.root(t).host(), clean.Options{})[0].Do(t.Context(), c, clean.Plan{})
	if err != nil || len(done.Actions) != 1 {
		t.Fatalf("stop: %+v, %v", done, err)
	}
	return done.Actions[0]
}

// inForce lists the stops of an author that are in force.
func (n *servedNode) inForce(t *testing.T) (all []operator.StopStatus) {
	t.Helper()
	stops, _, err := n.root(t).host().Stops(t.Context(), hacked)
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range stops {
		if st.State == "in force" {
			all = append(all, st)
		}
	}
	return all
}

func (n *servedNode) wantUndo(t *testing.T, code int, text string, args ...string) {
	t.Helper()
	out, got := n.act(t, append([]string{"undo"}, args...)...)
	if got != code || !strings.Contains(out, text) {
		t.Errorf("undo %s: exit %d, want %d and %q:\n%s", args, got, code, text, out)
	}
}

func TestAStopIsTakenBackOnlyIfItIsStillThatStop(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	first := n.stopsOnRecord(t, 0)
	if out, code := n.sluice(t, "stop", hacked, "--for", "5h"); code != exitDone { // another operator's
		t.Fatal(out)
	}
	n.wantUndo(t, exitDone, "taken back: this stop of hacked@example.com has ended", "mx1.example:1")
	if all := n.inForce(t); len(all) != 1 || all[0].Until.IsZero() {
		t.Errorf("the other stop is to be in force, and is not: %+v", all)
	}
	n.wantUndo(t, exitNo, "already, by action 2", "1")
	n.wantUndo(t, exitError, "not taken back itself", "2")
	n.wantUndo(t, exitNo, "there is no such action", "9")
	n.wantUndo(t, exitError, "another node", "mx2.example:1")

	if n.stopsOnRecord(t, 0); first != 1 {
		t.Fatalf("number %d", first)
	}
	n.sluice(t, "start", hacked)
	n.wantUndo(t, exitNo, "changed since: this stop of hacked@example.com is over already, by root", "mx1.example:3")
}

func TestANumberOfAnActionAndAChangeIsRefused(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	for _, limit := range []string{"5", "6"} {
		if out, code := n.sluice(t, "set", "example.com", "hourly="+limit); code != exitDone {
			t.Fatal(out)
		}
	}
	n.stopsOnRecord(t, 0)
	n.wantUndo(t, exitNo, "sluice undo mx1.example:1\nChange 1 (example.com: hourly 10 -> 5) is taken back by: sluice undo change:1", "1")
	n.wantUndo(t, exitNo, "sluice undo change:2", "2")
	n.wantUndo(t, exitDone, "to take it back: sluice rollback 3", "change:2")
	n.wantUndo(t, exitDone, "has ended", "mx1.example:1")
}

func TestACleanIsTakenBackFromItsLastStep(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	record := hostRecord(t, n.dir)
	whole, err := record.Will(action.Action{At: noon, By: "alice", Verb: remedy.VerbClean, Whom: hacked, Incident: "mx1-42"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	n.stopsOnRecord(t, whole)
	n.sluice(t, "start", hacked) // now the first stop has been ended by somebody
	second := n.stopsOnRecord(t, whole)
	out, code := n.act(t, "undo", "mx1.example:1", "--json")
	var u remedy.Undone
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&u); err != nil || code != exitNo {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if len(u.Undone) != 2 || u.Undone[0].Action != second || u.Undone[0].Failed != "" || !strings.Contains(u.Undone[1].Failed, "changed since") {
		t.Errorf("undone: %+v", u)
	}
	out, code = n.act(t, "actions", hacked)
	for _, want := range []string{"undo 3", "undone by 5", "sluice undo mx1.example:2", "begun"} {
		if code != exitDone || !strings.Contains(out, want) {
			t.Errorf("actions does not show %q:\n%s", want, out)
		}
	}
}

// What was removed from the quarantine for good is not offered to be taken back: of the clean only
// the rest is.
func TestActionsOfferNothingThatWasRemovedForGood(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	record := hostRecord(t, n.dir)
	whole, err := record.Will(action.Action{At: noon, By: "alice", Verb: remedy.VerbClean, Whom: hacked, Incident: "mx1-42"}, nil)
	mail := quarantine.Result{Done: []quarantine.Place{{ID: "1vPabc-000000001aB-0001"}}}
	part, err2 := record.Will(action.Action{At: noon, By: "alice", Verb: quarantine.Quarantine, Whom: hacked, Incident: "mx1-42", Part: whole}, quarantine.Values{Messages: mail.Done})
	if err = errors.Join(err, err2, record.Did(noon, part, mail, nil)); err != nil {
		t.Fatal(err)
	}
	n.stopsOnRecord(t, whole)
	if err = record.Did(noon, whole, nil, nil); err != nil {
		t.Fatal(err)
	}
	wants := func(wants ...string) {
		t.Helper()
		out, code := n.act(t, "actions", hacked)
		for _, want := range wants {
			if code != exitDone || !strings.Contains(out, want) {
				t.Errorf("actions: exit %d, want %q:\n%s", code, want, out)
			}
		}
		if strings.Contains(out, "sluice undo mx1.example:2") == (len(wants) > 2) {
			t.Errorf("actions of what the quarantine had:\n%s", out)
		}
	}
	wants("sluice undo mx1.example:1", "sluice undo mx1.example:3")
	purge, err := record.Will(action.Action{At: noon, By: "root", Verb: quarantine.Remove, Why: "queue.purge_days = 1"}, quarantine.Values{Messages: mail.Done})
	if err = errors.Join(err, record.Did(noon, purge, mail, nil)); err != nil {
		t.Fatal(err)
	}
	wants("sluice undo mx1.example:1", "sluice undo mx1.example:3", "done; of 1 message 1 were removed for good, by action 4: undo takes back only the rest",
		"done; of 1 message 1 were removed for good, by action 4: nothing takes that back")
}

// What cannot be taken back of a clean is named, and counts.
func TestAResetIsNotTakenBackWithItsClean(t *testing.T) {
	t.Parallel()
	n := &servedNode{dir: t.TempDir()}
	writeFile(t, n.dir+"/sluice.toml", clusterConfig(n.dir, "mx1.example", "redis://127.0.0.1:1"))
	record := hostRecord(t, n.dir)
	whole, err := record.Will(action.Action{At: noon, Verb: remedy.VerbClean, Whom: hacked}, nil)
	part, err2 := record.Will(action.Action{At: noon, Verb: remedy.VerbReset, Whom: "example.com", Part: whole}, remedy.Stopped{Scope: hacked})
	if err = errors.Join(err, err2, record.Did(noon, part, nil, nil), record.Did(noon, whole, nil, nil)); err != nil {
		t.Fatal(err)
	}
	n.wantTyped(t, "", exitNo, "2 reset example.com: stays as it is: that cannot be taken back", "undo", "mx1.example:1")
}

func hostRecord(t *testing.T, dir string) *action.Log {
	t.Helper()
	l, err := action.Open(dir + "/actions")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func TestAStopByItsFileIsTakenBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startServe(t, dir)
	n.stop() // the directories are there now
	file := filepath.Join(dir, "locks", "stopped", hacked)
	n.stopsOnRecord(t, 0)
	if _, err := os.Stat(file); err != nil {
		t.Fatal(err)
	}
	n.wantUndo(t, exitDone, "its file is removed", "1")
	if _, err := os.Stat(file); err == nil {
		t.Error("the file is there still")
	}
	n.stopsOnRecord(t, 0)
	if err := errors.Join(os.Remove(file), os.WriteFile(file, nil, 0o600)); err != nil { // somebody else's
		t.Fatal(err)
	}
	n.wantUndo(t, exitNo, "another file", "3")
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}

	n.stopsOnRecord(t, 0)
	n = startServe(t, dir) // and takes the file for an operator's stop
	if len(n.inForce(t)) != 1 {
		t.Fatal("the file stops nobody")
	}
	n.wantUndo(t, exitDone, "has ended", "mx1.example:5")
	if all := n.inForce(t); len(all) != 0 {
		t.Errorf("still stopped: %+v", all)
	}
}

// Nothing that others than root may have written is taken for an order.
func TestAnAlteredRecordIsNotTakenBack(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	n.stopsOnRecord(t, 0)
	path := n.dir + "/actions/actions"
	was, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, bytes.ReplaceAll(was, []byte(hacked), []byte("boss@example.com")), 0o600); err != nil {
		t.Fatal(err)
	}
	n.wantUndo(t, exitError, "was altered", "mx1.example:1")
	if err := errors.Join(os.WriteFile(path, was, 0o600), os.Chmod(n.dir+"/actions", 0o777)); err != nil {
		t.Fatal(err)
	}
	n.wantUndo(t, exitError, "others may write", "mx1.example:1")
	if len(n.inForce(t)) != 1 {
		t.Error("the stop was taken back")
	}
}
