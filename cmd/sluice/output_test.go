package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sluice/sidecar/config"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/operator"
)

// newTerminal is a terminal of so many columns, with what is shown on it.
func newTerminal(t *testing.T, columns uint16) (tty *os.File, shown func() string) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	if err := unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Col: columns, Row: 24}); err != nil {
		t.Fatal(err)
	}
	tty, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	return tty, func() string {
		tty.Close()
		var b bytes.Buffer
		b.ReadFrom(master) // it ends with an error, for nobody writes any more
		return strings.ReplaceAll(b.String(), "\r\n", "\n")
	}
}

// On a terminal a long name is shortened, and whole elsewhere.
func TestALongNameDoesNotWidenTheTable(t *testing.T) {
	long := strings.Repeat("long.", 40) + "example"
	rows := func() [][]string {
		return [][]string{{"DOMAIN", "SENT", "MOSTLY"}, {long, "123456789012", "news@" + long}, {"a.example", "1", "-"}}
	}
	for _, columns := range []uint16{80, 43, 20} {
		tty, shown := newTerminal(t, columns)
		printTable(newScreen(tty), "lrl", rows())
		lines := strings.Split(strings.TrimSuffix(shown(), "\n"), "\n")
		widest := 0
		for _, line := range lines {
			widest = max(widest, utf8.RuneCountInString(line))
		}
		if want := max(int(columns), 10+2+12+2+10); widest != want || strings.Count(lines[1], "…") != 2 || !strings.Contains(lines[1], "123456789012") {
			t.Errorf("in %d columns it is %d wide, want %d:\n%s", columns, widest, want, strings.Join(lines, "\n"))
		}
	}
	var pipe bytes.Buffer
	printTable(newScreen(&pipe), "lrl", rows())
	if !strings.Contains(pipe.String(), " 123456789012  news@"+long+"\n") {
		t.Errorf("in a pipe it is\n%s", &pipe)
	}
}

// A time that is not known is null in JSON, and not a day of the year 1.
func TestUnknownTimesAreNull(t *testing.T) {
	var b bytes.Buffer
	if err := printJSON(&b, map[string]any{"a": operator.ServerStatus{}, "b": []time.Time{{}, noon}}); err != nil {
		t.Fatal(err)
	}
	if s := b.String(); strings.Contains(s, "0001") || strings.Count(s, "null") != 2 || !strings.Contains(s, `"2026-03-01T12:00:00Z"`) {
		t.Error(s)
	}
}

// hostile are what senders can put into names: each is shown escaped, wherever it stands.
const hostile = "x\u009b31m\u202egpj\x1b[2J\n\u2066.example"

// S-07: no command shows a name of a sender raw, nor anything of its own arguments.
func TestCommandsShowNothingRaw(t *testing.T) {
	dir := t.TempDir()
	serveStage(t, dir, hostileStage())
	writeFile(t, dir+"/sluice.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n", "unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))
	writeFile(t, dir+"/log", "2026-11-28 10:00:00 1xAAAA-00000000001-0001 <= a@"+strings.ReplaceAll(hostile, "\n", "")+" H=(pc) [192.0.2.10]:4000 P=esmtpsa A=login:"+
		strings.ReplaceAll(hostile, "\n", "")+" S=1 for x@far.example y@far.example\n")
	for _, args := range [][]string{
		{"status"}, {"status", "hostile.example"}, {"status", "account:hostile"}, {"status", hostile}, {"history"}, {"history", "--export"},
		{"explain", hostile}, {"explain", "hostile.example"}, {"set", "hostile.example", "hourly=3"}, {"set", hostile, "hourly=3"}, {"set", "a.example", hostile},
		{"unset", "hostile.example"}, {"rollback", "3"}, {"lock", hostile}, {"unlock", hostile}, {"reset", hostile}, {"config"}, {"config", "--running"},
		{"config", "--config", "/" + hostile}, {"check", "--stage", hostile}, {"check", "--stage", "rcpt", "--auth", "news@example.com", "--recipient", hostile},
		{"simulate", dir + "/log", "--set", "default", "hourly=1"}, {"simulate", hostile}, {"--" + hostile}, {hostile}, {"version", hostile},
	} {
		for _, more := range [][]string{nil, {"--json"}} {
			argv := append(slices.Clone(args), more...)
			if !slices.Contains(args, "--config") {
				argv = append(argv, "--config", dir+"/sluice.toml")
			}
			var out, log bytes.Buffer
			run(t.Context(), argv, strings.NewReader(""), &out, &log)
			if s := out.String() + log.String(); strings.ContainsAny(s, "\u009b\u202e\x1b\u2066") || !utf8.ValidString(s) || s == "" {
				t.Errorf("sluice %q printed %q", argv, s)
			}
		}
	}
}

// hostileStage has the names of hostile wherever senders and operators choose them.
func hostileStage() stage {
	s := stage{status: operator.Status{Node: "mx1", Now: noon, Totals: operator.Totals{Journal: hostile, Locks: hostile}}}
	for _, name := range []string{hostile, "hostile.example"} {
		s.status.Domains = append(s.status.Domains, operator.DomainStatus{Domain: name, Account: hostile, Usage: operator.Usage{Windows: window(3600, 20, 20)},
			Blocked: operator.Blocked{Stopped: hostile, StoppedBy: "panel"},
			DeferfailStatus: operator.DeferfailStatus{
				Causes:  []deferfail.CauseStatus{{Cause: hostile, Count: 1, LastLine: hostile}},
				LeftOut: []deferfail.LeftOut{{Destination: hostile, Count: 1, Cause: hostile}},
			}})
	}
	s.status.Scopes = []operator.ScopeStatus{{Scope: "account:hostile", Windows: window(3600, 1, 2), Stopped: hostile}}
	change := history.Change{Number: 1, At: noon, Who: hostile, Why: hostile, Scope: hostile, Keys: []history.KeyChange{{Key: hostile, To: hostile}}}
	s.filled = filled{
		Result:      operator.Result{Change: change, Effects: []operator.Effect{{Scope: hostile, Text: hostile}}, Warning: hostile},
		History:     []history.Change{change},
		Explanation: operator.Explanation{Scope: hostile, Account: hostile, Stopped: hostile, Values: []limit.Value{{Key: "mode", Of: hostile, Value: hostile, Set: hostile}}},
		Saved:       []history.Saved{{Scope: hostile, Set: []string{hostile}, Why: hostile, Who: hostile, At: noon}},
	}
	return s
}

// Who types nothing but the name sees what there is; a script that lost its arguments fails.
func TestWithoutACommandThereIsHelp(t *testing.T) {
	var out, log bytes.Buffer
	code := run(t.Context(), nil, strings.NewReader(""), &out, &log)
	if code != exitError || log.Len() > 0 || !strings.Contains(out.String(), "Usage: sluice <command>") || !strings.Contains(out.String(), "simulate") {
		t.Errorf("exit %d, stderr %q, printed\n%s", code, &log, &out)
	}
}

// A file that is not there is not good.
func TestNoFileIsNotAGoodFile(t *testing.T) {
	if _, err := os.Stat(config.DefaultPath); err == nil {
		t.Skip("there is one on this machine")
	}
	var out, log bytes.Buffer
	code := run(t.Context(), []string{"config", "--check"}, strings.NewReader(""), &out, &log)
	if want := "there is no " + config.DefaultPath + ", so all values are built in\n"; code != exitDone || out.String() != want {
		t.Errorf("exit %d, printed %q and %q, want %q", code, &out, &log, want)
	}
}
