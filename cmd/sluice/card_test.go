package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"sluice/sidecar/action"
	"sluice/sidecar/config"
	"sluice/sidecar/remedy"
)

// The card has what operators did about its incident on this node, by whom, and what takes it
// back; and nothing that they did about others, or long after it.
func TestTheCardHasWhatWasDone(t *testing.T) {
	dir := t.TempDir()
	serveStage(t, dir, pastStage)
	writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n[store]\nnode = \"mx1\"\n", "unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))
	record, err := action.Open(dir + "/actions")
	if err != nil {
		t.Fatal(err)
	}
	for n, a := range []action.Action{
		{At: later(-30 * time.Minute), By: "alice", Verb: remedy.VerbStop, Whom: "hacked@example.com", Incident: "mx1-42"},
		{At: later(-25 * time.Minute), By: "bob", Verb: remedy.VerbStop, Whom: "hacked@example.com"},
		{At: later(-25 * time.Minute), By: "carol", Verb: remedy.VerbStop, Whom: "hacked@example.com", Incident: "mx1-17"},
		{At: later(-25 * time.Minute), By: "carol", Verb: remedy.VerbStop, Whom: "other@example.com"},
		{At: later(30 * 24 * time.Hour), By: "carol", Verb: remedy.VerbStop, Whom: "hacked@example.com"},
	} {
		if _, err := record.Will(a, nil); err != nil {
			t.Fatal(err)
		}
		if err := record.Did(a.At, n+1, nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	out := play(t, dir, "incident mx1-42 --actions $DIR/actions")
	for _, part := range []string{"  11:30:00 stop (alice)  11:35:00 stop (bob)", "11:30:00  stop           alice", "done; to take it back: sluice undo mx1:1\n", "sluice undo mx1:2\n"} {
		if !strings.Contains(out, part) {
			t.Errorf("%q is not in\n%s", part, out)
		}
	}
	if strings.Contains(out, "carol") {
		t.Errorf("it has what was done about others:\n%s", out)
	}
	var l incidentList
	if err := json.Unmarshal([]byte(play(t, dir, "incident mx1-42 --json --actions $DIR/actions")), &l); err != nil || len(l.Actions) != 2 || l.Actions[1].By != "bob" {
		t.Errorf("in JSON there is %+v, %v", l.Actions, err)
	}
}

// What docs/operate.md tells to type is understood.
func TestCommandsToOperate(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "operate.md"))
	if err != nil {
		t.Fatal(err)
	}
	found := regexp.MustCompile("`sluice ([^`]*)`").FindAllStringSubmatch(string(text), -1)
	for _, m := range found {
		var cmd commands
		parser, err := kong.New(&cmd, kong.Name("sluice"), kong.Vars{"config": config.DefaultPath, "actions": action.Dir})
		if err == nil {
			_, err = parser.Parse(strings.Fields(m[1]))
		}
		if err != nil {
			t.Errorf("sluice %s: %v", m[1], err)
		}
	}
	if len(found) < 25 {
		t.Errorf("it has only %d commands", len(found))
	}
}
