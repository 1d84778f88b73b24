package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/clean"
	"sluice/sidecar/incident"
	"sluice/sidecar/remedy"
	"sluice/sidecar/senders"
)

// typed runs a command as root with what is typed into it.
func (n *servedNode) typed(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	var out strings.Builder
	code := run(t.Context(), append(args, "--config", n.dir+"/sluice.toml", "--actions", n.dir+"/actions"), strings.NewReader(stdin), &out, &out)
	return out.String(), code
}

func (n *servedNode) wantTyped(t *testing.T, stdin string, code int, text string, args ...string) {
	t.Helper()
	if out, got := n.typed(t, stdin, args...); got != code || !strings.Contains(out, text) {
		t.Errorf("%s with %q: exit %d, want %d and %q:\n%s", args, stdin, got, code, text, out)
	}
}

func TestCleanAsksOnceAndIsTakenBack(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	const plan = "stop     hacked@example.com, on all nodes   [sluice stop hacked@example.com]"
	n.wantTyped(t, "", exitDone, plan, "clean", hacked, "--only", "stop", "--dry-run")
	n.wantTyped(t, "n\n", exitError, "do? [Y/n/steps] sluice: clean hacked@example.com: nothing was done", "clean", hacked, "--only", "stop")
	n.wantTyped(t, "", exitError, "nobody has answered", "clean", hacked, "--only", "stop")
	n.wantTyped(t, "s\nn\n", exitError, "stop: left out\nsluice: clean hacked@example.com: nothing was done", "clean", hacked, "--only", "stop")
	n.wantTyped(t, "s\n", exitError, "nothing was done", "clean", hacked, "--only", "stop") // nobody answers
	if all := n.inForce(t); len(all) != 0 {
		t.Fatalf("stopped without a yes: %+v", all)
	}
	n.wantTyped(t, "\n", exitDone, "done. Undo: sluice undo mx1.example:3 (all), mx1.example:4 (stop)", "clean", hacked, "--only", "stop")
	if len(n.inForce(t)) != 1 {
		t.Fatal("not stopped")
	}
	n.wantTyped(t, "", exitDone, "is stopped by root", "clean", hacked, "--only", "stop") // already
	n.wantTyped(t, "", exitDone, "4 stop hacked@example.com: taken back", "undo", "mx1.example:3")
	if all := n.inForce(t); len(all) != 0 {
		t.Errorf("still stopped: %+v", all)
	}
}

func TestCleanOfAScriptIsNotDoneByEnter(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	n.wantTyped(t, "\n", exitError, "(script: claimed)", "clean", "script:/home/bob/public_html", "--only", "stop")
	n.wantTyped(t, "\n", exitError, "do? [y/N/steps]", "clean", "script:/home/bob/public_html", "--only", "stop")
}

func TestCleanPrintsJSONAlone(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	var out, stderr strings.Builder
	args := []string{"clean", hacked, "--only", "stop,release", "--yes", "--json", "--config", n.dir + "/sluice.toml", "--actions", n.dir + "/actions"}
	if code := run(t.Context(), args, strings.NewReader(""), &out, &stderr); code != exitDone {
		t.Fatalf("exit %d: %s", code, &stderr)
	}
	var got cleaned
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatalf("%v:\n%s", err, &out)
	}
	if got.Action != 1 || len(got.Steps) != 2 || got.Steps[0].Actions[0] != 2 || got.Undo != "sluice undo mx1.example:1" {
		t.Errorf("%+v", got)
	}
	var v any
	if err := json.Unmarshal([]byte(out.String()), &v); err != nil {
		t.Fatal(err)
	}
	jsonDocs(t, "clean")[0].holds(t, "clean", v)
}

func TestOneCleanAtATime(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	end, err := hostRecord(t, n.dir).Begin(hacked)
	if err != nil {
		t.Fatal(err)
	}
	n.wantTyped(t, "", exitError, "somebody else is doing it", "clean", hacked, "--only", "stop", "--yes")
	end()
	n.wantTyped(t, "", exitDone, "done", "clean", hacked, "--only", "stop", "--yes")
	if end, err = hostRecord(t, n.dir).Begin(hacked); err != nil { // it goes on, or is done again
		t.Fatal(err)
	}
	n.wantTyped(t, "", exitError, "another clean of it, or the undo of one, is under way", "undo", "1")
	end()
	n.wantTyped(t, "", exitDone, "taken back", "undo", "1")
}

func TestCleanWithoutARunningSluice(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startServe(t, dir)
	n.stop()
	n.wantTyped(t, "", exitDone, "by its file on this node", "clean", hacked, "--only", "stop,release", "--yes")
	n.wantTyped(t, "", exitDone, "is stopped already, by ", "clean", hacked, "--only", "stop,release", "--yes")
	n.wantTyped(t, "", exitDone, "its file is removed", "undo", "1")
	n.wantTyped(t, "", exitError, "nobody answers", "clean", "example.com", "--yes")
}

func TestCleanByLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startServe(t, dir)
	n.stop()
	writeFile(t, dir+"/mainlog", "2026-03-01 12:00:00 1xUzSN-0005dd-0q <= hacked@example.com H=x [192.0.2.1] P=esmtpa A=plain:hacked@example.com S=1\n"+
		"2026-03-01 12:00:00 1xUzSN-0005dd-0q => a@far.example R=r T=remote_smtp H=f [192.0.2.2]\n")
	args := []string{"--only", "stop,queue", "--yes", "--log", dir + "/mainlog"}
	n.wantTyped(t, "", exitDone, "example.com: 1 sent", append([]string{"clean", hacked}, args...)...)
	n.wantTyped(t, "", exitNo, "has sent nothing in these logs", append([]string{"clean", "other@example.com"}, args...)...)
	if out, code := n.act(t, "actions"); code != exitDone || strings.Count(out, "sluice undo mx1.example:") != 2 {
		t.Errorf("actions: exit %d\n%s", code, out)
	}
}

// good is an incident of which it is known who it was.
func good() *incident.Incident {
	return &incident.Incident{ID: incident.ID{Node: "mx1", Number: 42}, Domain: "example.com", Opened: noon.Add(-time.Hour), Severity: incident.Warning,
		Culprit: incident.Culprit{Author: hacked, Kind: "mailbox", Proof: "proven", Count: 461, Of: 487}}
}

// Without a culprit clean shows who sends, and does nothing.
func TestCleanWithoutACulprit(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	n.sendAll(t, 0, 3)
	n.wantTyped(t, "y\n", exitNo, "if it was news@example.com:  sluice clean news@example.com", "clean", "example.com")
	if actions, err := hostRecord(t, n.dir).Actions(); err != nil || len(actions) > 0 {
		t.Errorf("actions %v, %v", actions, err)
	}
	n.wantTyped(t, "", exitNo, "is everybody who sends by it", "clean", "service:www-data", "--yes")
	for _, since := range []string{"400d", "yesterday"} {
		n.wantTyped(t, "", exitError, "--since", "clean", hacked, "--since", since)
	}
	if _, err := (cleanCmd{Since: "36d"}).asked(nil); err == nil {
		t.Error("longer ago than Exim keeps anything")
	}
}

// Whoever is in the place of the running sluice can have root act on what an operator has typed, and
// on nothing else.
func TestATakenOverServeOrdersNothing(t *testing.T) {
	for _, author := range []string{"--config=/tmp/x", "../../etc/passwd", "$(reboot)", "service:root", "a@b.example\nc@d.example"} {
		i := good()
		i.Culprit.Author, i.Opened = author, time.Now().Add(-time.Hour)
		dir := t.TempDir()
		serveStage(t, dir, stage{incidents: []incident.Incident{*i}})
		writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n", "unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))
		n := &servedNode{dir: dir}
		if out, code := n.typed(t, "", "clean", "mx1-42", "--yes"); code == exitDone || strings.Contains(out, "done.") || !strings.Contains(out, "nobody who sends") && !strings.Contains(out, "everybody who sends") {
			t.Errorf("%q: exit %d\n%s", author, code, out)
		}
		if actions, err := hostRecord(t, dir).Actions(); err != nil || len(actions) > 0 {
			t.Errorf("%q: actions %v, %v", author, actions, err)
		}
	}
}

// What it answers of somebody else than was typed is not taken for what was meant.
func TestATakenOverServeChoosesNobody(t *testing.T) {
	i := good()
	i.Domain, i.Culprit.Author, i.Opened = "other.example", "ceo@other.example", time.Now().Add(-time.Hour)
	dir := t.TempDir()
	serveStage(t, dir, stage{incidents: []incident.Incident{*i}, lies: true})
	writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n", "unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))
	n := &servedNode{dir: dir}
	n.wantTyped(t, "", exitDone, "sluice stop "+hacked, "clean", hacked, "--dry-run", "--only", "stop")
	n.wantTyped(t, "", exitNo, "no open incident", "clean", "example.com", "--dry-run", "--only", "stop")
	for _, which := range []string{"mx1-42", "other.example", "ceo@other.example"} { // who is meant
		n.wantTyped(t, "", exitDone, "sluice stop ceo@other.example", "clean", which, "--dry-run", "--only", "stop")
	}
}

// Who has typed the number of an incident, the other one its culprit, do the same, and not at once:
// of an incident that is over clean finds the number only if it is typed.
func TestOneCleanOfAnIncidentAndItsCulpritAtATime(t *testing.T) {
	i := good()
	i.Opened, i.Closed = time.Now().Add(-time.Hour), time.Now().Add(-time.Minute)
	dir := t.TempDir()
	serveStage(t, dir, stage{incidents: []incident.Incident{*i}})
	writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n", "unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))
	n := &servedNode{dir: dir}
	for _, c := range []struct {
		underWay action.Action
		typed    string
	}{
		{action.Action{Whom: hacked}, "mx1-42"},
		{action.Action{Whom: hacked, Incident: "mx1-42"}, hacked},
		{action.Action{Whom: "ceo@example.com", Incident: "mx1-42"}, "mx1-42"},
	} {
		end, err := remedy.BeginClean(hostRecord(t, dir), &c.underWay)
		if err != nil {
			t.Fatal(err)
		}
		n.wantTyped(t, "", exitError, "another clean of it, or the undo of one, is under way", "clean", c.typed, "--only", "stop", "--yes")
		end()
		n.wantTyped(t, "", exitDone, "sluice stop "+hacked, "clean", c.typed, "--only", "stop", "--dry-run")
	}
	end, err := remedy.BeginClean(hostRecord(t, dir), &action.Action{Whom: "ceo@example.com"})
	if err != nil {
		t.Fatal(err)
	}
	defer end()
	n.wantTyped(t, "", exitDone, "sluice stop "+hacked, "clean", "mx1-42", "--only", "stop", "--dry-run")
}

// The plan names the other nodes that have sent, and those of which nothing is heard: they may have.
func TestCleanNamesTheOtherNodes(t *testing.T) {
	i := good()
	i.Opened = time.Now().Add(-time.Hour)
	dir := t.TempDir()
	serveStage(t, dir, stage{incidents: []incident.Incident{*i}, who: senders.Who{Node: "mx1", Missing: []string{"mx3", "mx2", "$(reboot)"},
		Domains: []senders.Report{{Domain: "example.com", Nodes: []string{"mx1", "mx2"}}}}})
	writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n", "unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))
	n := &servedNode{dir: dir}
	for _, args := range [][]string{{"--dry-run"}, {"--yes"}} {
		out, _ := n.typed(t, "", append([]string{"clean", "mx1-42", "--only", "scan"}, args...)...)
		for _, want := range []string{"files of mx2, which has sent too: ssh mx2 'sluice clean mx1-42'", "files of mx3, which may have sent too, for nothing is heard of it: ssh mx3 'sluice clean mx1-42'"} {
			if strings.Count(out, "left: ") != 2 || !strings.Contains(out, want) {
				t.Errorf("%s: want %q in\n%s", args, want, out)
			}
		}
	}
}

// A stepped is a step that a test plans.
type stepped struct {
	name string
	does func() error
}

func (s stepped) Name() string { return s.name }
func (s stepped) Plan(context.Context, clean.Case) (clean.Plan, error) {
	return clean.Plan{Lines: []clean.Line{{Text: "something"}}}, nil
}
func (s stepped) Do(context.Context, clean.Case, clean.Plan) (clean.Done, error) {
	return clean.Done{}, s.does()
}

// Each step is asked for, and ^C or nobody to answer is no yes: what was not answered is not done.
func TestCleanAskedForEachStep(t *testing.T) {
	for name, c := range map[string]struct {
		typed       string
		interrupted bool // while the first step is done
		full        bool // the record of actions cannot be written any more after that
		want        int
	}{
		"no to all":               {"n\nn\n", false, false, exitError},
		"yes and no":              {"y\nn\n", false, false, exitDone},
		"nobody answers":          {"", false, false, exitError},
		"nobody answers any more": {"y\n", false, false, exitNo},
		"^C":                      {"y\ny\n", true, false, exitNo},
		"no end on record":        {"y\ny\n", false, true, exitNo},
	} {
		n := &servedNode{dir: t.TempDir()}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		root, out := n.root(t), &strings.Builder{}
		root.ctx = ctx
		w := &cleaning{t: root, out: out, in: bufio.NewReader(strings.NewReader(c.typed)), node: "mx1", each: true, c: clean.Case{Author: sidecar.Author{Key: hacked}}}
		first := stepped{clean.Stop, func() error {
			if c.full {
				writeFile(t, root.actions+"/actions", "?\n")
			}
			if c.interrupted {
				cancel()
			}
			return nil
		}}
		var err error
		if w.plans, err = clean.Make(ctx, w.c, []clean.Step{first, stepped{clean.Queue, func() error { return nil }}}, nil); err != nil {
			t.Fatal(err)
		}
		w.begin()
		w.do()
		code := exitDone
		if err = w.end(); err != nil {
			code = exitCode(err)
		}
		if begun := strings.HasPrefix(c.typed, "y"); code != c.want || strings.Contains(out.String(), "done. Undo") != begun || (w.result.Action > 0) != begun {
			t.Errorf("%s: exit %d, want %d: %v\n%s", name, code, c.want, err, out)
		}
	}
}

// A record with values that no command would have written is not acted on either.
func TestHostileActionsAreNotTakenBack(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startServe(t, dir)
	n.stop()
	writeFile(t, dir+"/victim", "precious")
	info, err := os.Stat(dir + "/victim")
	if err != nil {
		t.Fatal(err)
	}
	record := hostRecord(t, dir)
	for _, made := range []remedy.Stopped{
		{Scope: "../../victim", File: dir + "/victim", Since: info.ModTime(), Inode: info.Sys().(*syscall.Stat_t).Ino},
		{Scope: hacked, File: dir + "/victim"},
		{Scope: "-rf", Mark: "1"},
		{},
	} {
		number, err := record.Will(action.Action{At: noon, Verb: remedy.VerbStop, Whom: made.Scope}, made)
		if err = errors.Join(err, record.Did(noon, number, made, nil)); err != nil {
			t.Fatal(err)
		}
		if out, code := n.act(t, "undo", fmt.Sprintf("mx1.example:%d", number)); code == exitDone {
			t.Errorf("%+v is taken back:\n%s", made, out)
		}
	}
	for _, verb := range []action.Verb{"rm -rf /", "../clean", ""} {
		number, err := record.Will(action.Action{At: noon, Verb: verb}, nil)
		if err != nil {
			t.Fatal(err)
		}
		n.wantUndo(t, exitError, "cannot be taken back", fmt.Sprintf("mx1.example:%d", number))
	}
	if text, err := os.ReadFile(dir + "/victim"); err != nil || string(text) != "precious" {
		t.Errorf("the file of somebody else is %q, %v", text, err)
	}
}
