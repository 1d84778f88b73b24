package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"unicode/utf8"

	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/operator"
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
	n.wantRun(t, exitDone, "sluice.toml:15", "explain", "other.example")
	n.wantRun(t, exitDone, "hourly 10 -> 20", "history")

	var e operator.Explanation
	if err := json.Unmarshal([]byte(n.wantRun(t, exitDone, "", "explain", "news@example.com", "--json")), &e); err != nil || len(e.Values) == 0 ||
		e.Values[0].Value != 20.0 || e.Values[0].Layer != limit.LayerLive || e.Values[0].Why != "sale" || e.Values[0].Of != "example.com" {
		t.Errorf("%+v, %v", e, err)
	}
	n.wantRun(t, exitDone, "hourly 20 -> 10", "rollback", "1")
	if n.send(t, 40) {
		t.Error("accepted after the rollback, at 20 of 10")
	}
	var all changes
	err := json.Unmarshal([]byte(n.wantRun(t, exitDone, "", "history", "--json")), &all)
	if changes := all.Changes; err != nil || len(changes) != 2 ||
		changes[0].Undoes != 1 || changes[1].State != history.RolledBack || changes[1].Who != "alice (as root)" {
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
		{exitError, "set: name a scope and what to set", []string{"set"}},
		{exitError, "set: name a scope and what to set", []string{"set", "example.com"}},
		{exitError, "--left goes with --export", []string{"history", "--left"}},
	} {
		n.wantRun(t, c.code, c.want, c.args...)
	}
}

// What one sluice has set live is exported to a file, which another one imports. Of a
// file with mistakes each is reported with its line, and nothing is changed.
func TestExportAndImport(t *testing.T) {
	t.Parallel()
	a, b := startServe(t, t.TempDir()), startServe(t, t.TempDir())
	a.wantRun(t, exitDone, "", "set", "example.com", "hourly=30", "--why", "contract")
	a.wantRun(t, exitDone, "", "set", "example.com", "hourly=40", "--for", "1d")
	file := b.dir + "/values.jsonl"
	exported := a.wantRun(t, exitDone, `"set":["hourly=40"],"until":"`, "history", "example.com", "--export")
	writeFile(t, file, exported)
	b.wantRun(t, exitDone, "example.com: hourly 10 -> 30; nothing is changed yet", "set", "--import", file, "--preview")
	b.wantRun(t, exitDone, "to take it back: sluice rollback 2", "set", "--import", file)
	b.wantRun(t, exitDone, "contract; set before by ", "history")
	b.wantRun(t, exitDone, "40", "explain", "example.com")
	b.wantRun(t, exitDone, "hourly 40 -> 30", "rollback", "2")

	var want bytes.Buffer
	fmt.Fprintf(&want, "%s\n{\"scope\": \"example.com\", \"hourly\": 5}\nno JSON\n{} {}\n", exported)
	writeFile(t, file, want.String())
	out := b.wantRun(t, exitError, "nothing is changed: "+file+":4: json: unknown field \"hourly\"", "set", "--import", file)
	for _, line := range []string{file + ":5: invalid character", file + ":6: one change to a line"} {
		if !strings.Contains(out, line) {
			t.Errorf("not told: %s\n%s", line, out)
		}
	}
	writeFile(t, file, exported+`{"scope": "example.com", "set": ["hourly=many"]}`)
	b.wantRun(t, exitError, "nothing is changed: "+file+":3: hourly is \"many\"", "set", "--import", file)
	b.wantRun(t, exitError, "leave out the rest", "set", "default", "--import", file)
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	b.wantRun(t, exitError, "no such file", "set", "--import", file)
	b.wantRun(t, exitDone, "rollback of 2", "history")
	if out, _ := b.sluice(t, "history"); strings.Contains(out, "5  ") && strings.Contains(out, "hourly 30 -> 5") {
		t.Errorf("changed all the same:\n%s", out)
	}
}

// A file that is no export is refused as a whole before anybody is asked, and told what it is.
func TestImportOfAnotherFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	config, file := dir+"/sluice.toml", dir+"/values.jsonl"
	writeFile(t, config, serveConfig(dir)) // where nobody answers: an error of that would be another one
	const good = `{"scope":"example.com","set":["hourly=30"],"at":"2026-03-01T12:00:00Z"}` + "\n"
	toml := strings.Repeat("[limits]\nhourly = 300\n", 20)
	for text, want := range map[string][]string{
		"":                          {file + " has no change in it; "},
		" \n\n":                     {file + " has no change in it; "},
		toml:                        {file + ":1: invalid character ", ": not JSON\n" + file + ":10: ", "\nand 30 lines more\n"},
		"\x7fELF\x02\x01\x00\xff\n": {file + `:1: invalid character '\x7f'`},
		good + good[:30]:            {file + ":2: the line is cut short: not JSON to its end\n"},
		good + good[:1]:             {file + ":2: the line is cut short: not JSON to its end\n"},
		good + "5\n":                {file + ":2: a JSON number, and no change\n"},
		"[" + good[:40] + "\n":      {file + ":1: "},
		"null\n":                    {file + ":1: no scope is named\n"},
		`{"set":["hourly=30"]}`:     {file + ":1: no scope is named\n"},
		`{"scope":"a","set":"x"}`:   {file + `:1: "set" must not be a JSON string` + "\n"},
		good + `{"until":"later"}`:  {file + ":2: "},
	} {
		writeFile(t, file, text)
		var out bytes.Buffer
		code := run(t.Context(), []string{"set", "--import", file, "--config", config}, strings.NewReader(""), &out, &out)
		said := out.String()
		for _, part := range append(want, "sluice: set --import: nothing is changed: "+file, asExported) {
			if code != exitError || !strings.Contains(said, part) {
				t.Errorf("of %q: exit %d, %s\nwant %s", text, code, said, part)
			}
		}
		if strings.Count(said, "\n") > maxWrong+3 || strings.ContainsAny(said, "\x7f\x00") || !utf8.ValidString(said) {
			t.Errorf("of %q is said %q", text, said)
		}
	}
}
