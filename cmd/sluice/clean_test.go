package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/clean"
	"sluice/sidecar/incident"
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

// An incident comes from a program that talks with everybody, which may be in somebody's hands,
// and from other nodes. Root acts on nothing of it that does not look as it should.
func TestAHostileIncidentIsNotActedOn(t *testing.T) {
	if c, err := caseOf(noon, good()); err != nil || c.Author.Proof != sidecar.Proven || !c.Since.Equal(noon.Add(-2*time.Hour)) {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, spoil := range map[string]func(*incident.Incident){
		"a number that is a path":         func(i *incident.Incident) { i.Node = "../../etc" },
		"a number with a command":         func(i *incident.Incident) { i.Node = "mx1;reboot" },
		"a domain with a path":            func(i *incident.Incident) { i.Domain = "../../../etc/passwd" },
		"a domain that is an option":      func(i *incident.Incident) { i.Domain = "--all" },
		"of no domain":                    func(i *incident.Incident) { i.Domain = "" },
		"of a relay":                      func(i *incident.Incident) { i.Domain = "relay:203.0.113.9" },
		"an author with a command":        func(i *incident.Incident) { i.Culprit.Author = "$(reboot)\n@example.com" },
		"an author with a terminal's":     func(i *incident.Incident) { i.Culprit.Author = "\x1b[2J@example.com" },
		"an author from right to left":    func(i *incident.Incident) { i.Culprit.Author = "x\u202e@example.com" },
		"an author that is an option":     func(i *incident.Incident) { i.Culprit.Author = "--config=/tmp/x" },
		"a script with a path upwards":    func(i *incident.Incident) { i.Culprit.Author = "script:/home/bob/../../etc" },
		"a script of a long name":         func(i *incident.Incident) { i.Culprit.Author = "script:/" + strings.Repeat("a", 4000) },
		"an account, with all who send":   func(i *incident.Incident) { i.Culprit.Author = "account:bob" },
		"a web server, which everybody":   func(i *incident.Incident) { i.Culprit.Author = "service:www-data" },
		"the loopback":                    func(i *incident.Incident) { i.Culprit.Author = "loopback" },
		"a forwarder":                     func(i *incident.Incident) { i.Culprit.Author = "forward:info@example.com" },
		"nobody":                          func(i *incident.Incident) { i.Culprit.Author = "" },
		"who has sent the smaller part":   func(i *incident.Incident) { i.Culprit.Count = 200 },
		"opened in the future":            func(i *incident.Incident) { i.Opened = noon.Add(time.Hour) },
		"opened before all that there is": func(i *incident.Incident) { i.Opened = time.Time{} },
	} {
		i := good()
		spoil(i)
		if c, err := caseOf(noon, i); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// What it says of a proof is not believed.
	i := good()
	i.Culprit.Author = "script:/home/bob/public_html"
	if c, err := caseOf(noon, i); err != nil || c.Author.Proof == sidecar.Proven {
		t.Errorf("a script is proven: %+v, %v", c, err)
	}
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
	if _, err := (cleanCmd{Since: "36d"}).since(noon, noon); err == nil {
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
	forward := good()
	forward.Domain = "forward:example.com"
	for which, want := range map[string]bool{"EXAMPLE.com": true, hacked: true, "boss@example.com": false, "com": false, "mx1-42": false, "": false} {
		if isOf(*forward, which) != want {
			t.Errorf("isOf %q: %v", which, !want)
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

// A name that a tenant has chosen is no command of another node either, whose shell reads it again.
func TestTheCommandForAnotherNode(t *testing.T) {
	const which = "script:/home/bob/x;echo $(id) 'y"
	out, err := exec.Command("sh", "-c", `ssh() { shift; sh -c "$*"; }; sluice() { printf '%s|' "$@"; }; `+
		strings.Replace(cleanOn("mx2.example", which), "'sluice clean", `'sluice() { printf "%s|" "$@"; }; sluice clean`, 1)).CombinedOutput()
	if want := "clean|" + which + "|"; err != nil || string(out) != want {
		t.Errorf("%s: %q, want %q: %v", cleanOn("mx2.example", which), out, want, err)
	}
	if got := cleanOn("mx2", hacked); got != "ssh mx2 'sluice clean hacked@example.com'" {
		t.Error(got)
	}
	for _, node := range []string{"-oProxyCommand=reboot", "mx2;reboot", "mx2 reboot", ""} {
		if got := cleanOn(node, hacked); got != "" {
			t.Errorf("%q: %s", node, got)
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
	for _, made := range []stopped{
		{Scope: "../../victim", File: dir + "/victim", Since: info.ModTime(), Inode: inode(info)},
		{Scope: hacked, File: dir + "/victim"},
		{Scope: "-rf", Mark: "1"},
		{},
	} {
		number, err := record.Will(action.Action{At: noon, Verb: verbStop, Whom: made.Scope}, made)
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
