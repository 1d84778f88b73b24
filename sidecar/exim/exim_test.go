package exim

import (
	"context"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		if got := Find(t.Context(), binary); got.User != me.Username {
			t.Errorf("Exim says %q: %q", said, got.User)
		}
	}
}

// The queue of an Exim that cannot say where it is, is where its package has it.
func TestSpool(t *testing.T) {
	defer func(was []string) { packaged = was }(packaged)
	there := t.TempDir()
	packaged = []string{there + "/none", there}
	for _, x := range []struct{ binary, want string }{
		{fakeExim(t, "echo spool_directory = /elsewhere"), "/elsewhere"},
		{fakeExim(t, "echo 'exim: setgroups() failed: Operation not permitted' >&2; exit 1"), there},
		{there + "/exim", ""}, // there is none
	} {
		if got := (Exim{Binary: x.binary}).Spool(t.Context()); got != x.want {
			t.Errorf("%s: %q, want %q", x.binary, got, x.want)
		}
	}
}

func TestDeliverRunsEximOnIdsOnly(t *testing.T) {
	out := filepath.Join(t.TempDir(), "args")
	e := Exim{Binary: fakeExim(t, "echo \"$@\" >>"+out)}
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
		if err := (Exim{Binary: binary}).Deliver(t.Context(), []string{"1xUzSN-0005dd-0q"}); err == nil {
			t.Errorf("%s: no error", binary)
		}
	}
}

// A stop does not wait for a slow delivery, and does not kill it.
func TestDeliverLetsGoWhenStopped(t *testing.T) {
	dir := t.TempDir()
	e := Exim{Binary: fakeExim(t, "read -r line <"+dir+"/go; echo done >"+dir+"/done\n")}
	if err := syscall.Mkfifo(dir+"/go", 0o600); err != nil {
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
	hosttest.Eventually(t, "the delivery goes on", func() bool {
		_, err := os.Stat(dir + "/done")
		return err == nil
	})
}

// An Exim that hangs is waited for no longer than patience, whoever has its output open by then; one
// that has ended has said what it said.
func TestEximHangs(t *testing.T) {
	const child = "sleep 1000 & echo $! >$0.child; "
	for script, want := range map[string]string{child + "wait": "", child + "echo said": "said"} {
		e := Exim{Binary: fakeExim(t, script), Patience: time.Second}
		if want != "" {
			e.Patience = hosttest.Patience()
		}
		var out string
		var err error
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			out, err = e.Run(t.Context(), "", "-bV")
		}()
		select {
		case <-ended:
			if out != want || (err == nil) != (want != "") {
				t.Errorf("%q: %q, %v", script, out, err)
			}
		case <-time.After(hosttest.Patience()):
			t.Errorf("%q: %s", script, hosttest.Missed(hosttest.Patience()))
		}
		if pid, err := os.ReadFile(e.Binary + ".child"); err == nil {
			exec.Command("kill", strings.TrimSpace(string(pid))).Run() // ends Run at the latest
		}
		<-ended
	}
}
