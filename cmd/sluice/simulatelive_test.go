package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal opens a pseudo-terminal: what is written to terminal is read from
// screen, until terminal is closed.
func openTerminal(t *testing.T) (screen, terminal *os.File) {
	t.Helper()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { screen.Close() })
	if err := unix.IoctlSetPointerInt(int(screen.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatalf("unlock the terminal: %v", err)
	}
	n, err := unix.IoctlGetInt(int(screen.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatalf("find the terminal: %v", err)
	}
	if terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	return screen, terminal
}

// On a terminal a bar shows how far the log was read, and goes when it was; a file
// gets none. What is printed has nothing of it.
func TestSimulateShowsProgressOnATerminal(t *testing.T) {
	names, _ := writeLogs(t, t.TempDir(), 2, 100<<10)
	args := append([]string{"simulate", "--json", "--config", simulateConfig(t, "")}, names...)
	simulate := func(stderr io.Writer) {
		var stdout bytes.Buffer
		if code := run(context.Background(), args, nil, &stdout, stderr); code != exitDone {
			t.Fatalf("exit %d", code)
		}
		if !json.Valid(stdout.Bytes()) {
			t.Errorf("printed, and no JSON: %.200q", stdout.String())
		}
	}
	screen, terminal := openTerminal(t)
	shown := make(chan string)
	go func() {
		text, _ := io.ReadAll(screen) // ends in an error, when the terminal is closed
		shown <- string(text)
	}()
	simulate(terminal)
	terminal.Close()
	if text := <-shown; !strings.HasPrefix(text, "\r[") || !strings.Contains(text, "% ") || !strings.HasSuffix(text, "\r\x1b[K") {
		t.Errorf("on the terminal: %q", text)
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	simulate(null)
	simulate(file)
	if info, err := file.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("in a file: %d bytes, %v", info.Size(), err)
	}
}

// With --live what sluice set has in force is simulated, below --set; without it
// the running sluice is not asked.
func TestSimulateLive(t *testing.T) {
	t.Parallel()
	n := startServe(t, t.TempDir())
	names, _ := writeLogs(t, t.TempDir(), 1, 300<<10)
	simulate := func(args ...string) string {
		return n.wantRun(t, exitDone, "", append([]string{"simulate", "--json", names[0]}, args...)...)
	}
	before := simulate()
	n.wantRun(t, exitDone, "", "set", "default", "hourly=3", "deferfail_percent=0")
	n.wantRun(t, exitDone, "", "set", "d1.example", "hourly=1")
	n.wantRun(t, exitDone, "", "set", "d2.example", "hourly=1")
	n.wantRun(t, exitDone, "", "unset", "d2.example")
	if simulate() != before {
		t.Error("without --live, what is set matters")
	}
	set := []string{"--set", "default", "hourly=3", "deferfail_percent=0", "--set", "d1.example", "hourly=1"}
	live := simulate("--live")
	if live != simulate(set...) || live == before {
		t.Errorf("with --live it is not as with the same --set:\n%s", live)
	}
	if simulate("--live", "--set", "default", "hourly=2") != simulate(append(set, "--set", "default", "hourly=2")...) {
		t.Error("--set does not lie on top of --live")
	}
	var stdout, stderr bytes.Buffer
	code := run(context.Background(), []string{"--admin", filepath.Join(t.TempDir(), "none.sock"), "simulate", "--live", names[0], "--config", simulateConfig(t, "")}, nil, &stdout, &stderr)
	if code != exitError || !strings.Contains(stderr.String(), "Is `sluice serve` running") {
		t.Errorf("nobody answers: exit %d: %s", code, stderr.String())
	}
}
