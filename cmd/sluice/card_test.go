package main

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/config"
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
		{At: later(-30 * time.Minute), By: "alice", Verb: verbStop, Whom: "hacked@example.com", Incident: "mx1-42"},
		{At: later(-25 * time.Minute), By: "bob", Verb: verbStop, Whom: "hacked@example.com"},
		{At: later(-25 * time.Minute), By: "carol", Verb: verbStop, Whom: "hacked@example.com", Incident: "mx1-17"},
		{At: later(-25 * time.Minute), By: "carol", Verb: verbStop, Whom: "other@example.com"},
		{At: later(30 * 24 * time.Hour), By: "carol", Verb: verbStop, Whom: "hacked@example.com"},
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

// The printed command finds what was posted to a site in the first three minutes, in the log that
// the web server of this host writes.
func TestWhoCalledTheScript(t *testing.T) {
	root := t.TempDir() + "/"
	if got := accessLog(root, "example.com"); got != "" {
		t.Errorf("without a log it is %s", got)
	}
	if err := os.MkdirAll(root+"usr/local/apache/domlogs", 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, root+"usr/local/apache/domlogs/example.com", `192.0.2.1 - - [01/Mar/2026:11:59:59 +0000] "POST /early.php HTTP/1.1" 200 1
192.0.2.1 - - [01/Mar/2026:12:00:00 +0000] "POST /wp/x.php HTTP/1.1" 200 1
192.0.2.1 - - [01/Mar/2026:12:01:00 +0000] "GET /wp/y.php HTTP/1.1" 200 1
192.0.2.1 - - [01/Mar/2026:12:02:59 +0000] "POST /wp/z.php HTTP/1.1" 200 1
192.0.2.1 - - [01/Mar/2026:12:03:00 +0000] "POST /late.php HTTP/1.1" 200 1
`)
	if got := accessLog(root, "../../etc/passwd"); got != "" {
		t.Errorf("a name that is no domain leads to %s", got)
	}
	out, err := exec.Command("sh", "-c", sidecar.Command(grepPosts(noon), accessLog(root, "example.com"))).Output()
	if found := regexp.MustCompile(`/\w+\.php`).FindAllString(string(out), -1); err != nil || strings.Join(found, " ") != "/x.php /z.php" {
		t.Errorf("found %q, %v", found, err)
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
