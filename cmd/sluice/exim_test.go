package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
)

// fakeExim is a program that does what the script says, in the place of Exim.
func fakeExim(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "exim")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEximSaysItsUser(t *testing.T) {
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	for _, said := range []string{me.Username, me.Uid} {
		binary := fakeExim(t, `[ "$1 $2" = '-bP exim_user' ] && echo 'exim_user = `+said+"'\n")
		if got := findExim(t.Context(), binary); got.user != me.Username {
			t.Errorf("Exim says %q: %q", said, got.user)
		}
	}
}

func TestWithoutEximsUserItSaysWhatThatMeans(t *testing.T) {
	var log bytes.Buffer
	mailUIDs(exim{binary: "/nonexistent"}, event.NewLog(slog.New(slog.NewTextHandler(&log, nil))))
	if !strings.Contains(log.String(), "set exim.binary") {
		t.Errorf("log: %s", log.String())
	}
}

func TestDeliverRunsEximOnIdsOnly(t *testing.T) {
	out := filepath.Join(t.TempDir(), "args")
	e := exim{binary: fakeExim(t, "echo \"$@\" >>"+out)}
	ids := []string{"1xUzSN-0005dd-0q", "-C/tmp/x", "1sempe-00000001abC-0xYz", "1xUzSN-0005dd-0q\n-bd", "unknown-5-1"}
	if err := e.Deliver(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if err := e.Deliver(t.Context(), []string{"--version"}); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff("-M 1xUzSN-0005dd-0q 1sempe-00000001abC-0xYz\n", string(got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestDeliverTellsFailure(t *testing.T) {
	for _, binary := range []string{"/nonexistent", fakeExim(t, "exit 3")} {
		if err := (exim{binary: binary}).Deliver(t.Context(), []string{"1xUzSN-0005dd-0q"}); err == nil {
			t.Errorf("%s: no error", binary)
		}
	}
}

// A stop does not wait for a slow delivery, and does not kill it.
func TestDeliverLetsGoWhenStopped(t *testing.T) {
	dir := t.TempDir()
	e := exim{binary: fakeExim(t, "read -r line <"+dir+"/go; echo done >"+dir+"/done\n")}
	if err := mkfifo(dir + "/go"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	returned := make(chan error, 1)
	go func() { returned <- e.Deliver(ctx, []string{"1xUzSN-0005dd-0q"}) }()
	cancel()
	select {
	case err := <-returned:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(hosttest.Patience()):
		t.Fatal("waits")
	}
	if err := os.WriteFile(dir+"/go", []byte("\n"), 0); err != nil { // waits for its reader
		t.Fatal(err)
	}
	hosttest.Eventually(t, "the delivery goes on", func() bool { return exists(dir + "/done") })
}

func mkfifo(path string) error { return syscall.Mkfifo(path, 0o600) }
