package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"sluice/sidecar/config"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
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

// On a terminal a long name is shortened, so that the columns behind it stay where they are. What is
// no longer than most names is whole in any terminal, and so is the last column.
func TestALongNameDoesNotWidenTheTable(t *testing.T) {
	long := strings.Repeat("long.", 40) + "example"
	rows := func() [][]printable.Text {
		return [][]printable.Text{cells("WHEN", "DOMAIN", "SENT", "WHAT"), cells("2026-12-01 01:31:23 +0000", long, 123456789012, "news@"+long), cells("-", "a.example", 1, "-")}
	}
	for _, columns := range []uint16{200, 120, 80, 40} {
		tty, shown := newTerminal(t, columns)
		printTable(newScreen(tty), "llrl", rows())
		lines := strings.Split(strings.TrimSuffix(shown(), "\n"), "\n")
		name := max(30, int(columns)-25-2-2-12-2-30)
		want := "2026-12-01 01:31:23 +0000  " + long[:name-1] + "…  123456789012  news@" + long
		if lines[1] != want || utf8.RuneCountInString(lines[2]) != 25+2+name+2+12+2+1 {
			t.Errorf("in %d columns it is, want %q:\n%s", columns, want, strings.Join(lines, "\n"))
		}
	}
	var pipe bytes.Buffer
	printTable(newScreen(&pipe), "llrl", rows())
	if !strings.Contains(pipe.String(), " "+long+"  123456789012  news@"+long+"\n") {
		t.Errorf("in a pipe it is\n%s", &pipe)
	}
}

// Columns are aligned whatever is in them: a Chinese character takes two cells, an accent none.
func TestColumnsAreAlignedByCells(t *testing.T) {
	var b bytes.Buffer
	printTable(newScreen(&b), "lr", [][]printable.Text{cells("WHO", "N"), cells("日本@a", 1), cells("e\u0301e@aaa", 22), cells("\u0301\u200bx", 3)})
	if want := "WHO             N\n日本@a          1\ne\u0301e@aaa         22\n" + `\u0301\u200bx` + "   3\n"; b.String() != want {
		t.Errorf("printed\n%s, want\n%s", &b, want)
	}
	if got := printable.TextOf("日本日本").Cut(6).String(); got != "日本…" {
		t.Errorf("in 6 cells, four characters of two are %q", got)
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
