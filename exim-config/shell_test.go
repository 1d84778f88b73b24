package eximconfig_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// A shell is where commands run: on a host, as one of its users, in a folder. They
// are started from here, without nsenter, setpriv and sh, each of which would cost
// as much as what is tested.
type shell struct {
	host   *host
	user   *syscall.Credential // nil: root
	folder string              // empty: /
}

func (h *host) root() shell { return shell{host: h} }

// as is the shell of an ordinary user in a folder below its home, which is made if
// need be.
func (h *host) as(t testing.TB, u login, folder string) shell {
	t.Helper()
	home := filepath.Join("/run/home", u.name, folder)
	if err := os.MkdirAll(h.path(home), 0o755); err != nil {
		t.Fatal(err)
	}
	return shell{h, &syscall.Credential{Uid: uint32(u.id), Gid: uint32(u.id)}, home}
}

// command is a command to be started by start.
func (s shell) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = s.folder
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	cmd.WaitDelay = time.Second
	return cmd
}

func (s shell) start(cmd *exec.Cmd) error { return s.host.in(cmd.Start) }

// try runs a command with some input, and returns what it printed and its exit code.
func (s shell) try(t testing.TB, input string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hosttest.Patience())
	defer cancel()
	cmd := s.command(ctx, args...)
	cmd.WaitDelay = hosttest.Patience() // Exim's children may have its output a moment longer
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	err := s.start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out.Bytes())
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// try runs a command on the host as root, and returns what it printed and its exit code.
func (h *host) try(t testing.TB, args ...string) (string, int) {
	t.Helper()
	return h.root().try(t, "", args...)
}

// run is try of a command that must succeed.
func (h *host) run(t testing.TB, args ...string) string {
	t.Helper()
	out, code := h.try(t, args...)
	if code != 0 {
		t.Fatalf("%s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// start starts a command that runs until the test ends or it is told to stop.
func (h *host) start(t testing.TB, args ...string) *process {
	t.Helper()
	p := &process{cmd: h.root().command(context.Background(), args...), ended: make(chan struct{})}
	p.cmd.Stderr = &p.stderr
	if err := h.in(p.cmd.Start); err != nil {
		t.Fatalf("start %s: %v", args[0], err)
	}
	go func() {
		defer close(p.ended)
		p.cmd.Wait()
	}()
	t.Cleanup(func() {
		p.stop(t, "KILL")
		if t.Failed() {
			t.Logf("%s said:\n%s", args[0], tail(p.stderr.Bytes(), 8000))
		}
	})
	return p
}

// A process runs on a host.
type process struct {
	cmd    *exec.Cmd
	stderr bytes.Buffer
	ended  chan struct{}
}

// signal sends a signal, by its name without SIG. A process that has ended
// does not mind.
func (p *process) signal(t testing.TB, name string) {
	t.Helper()
	if err := p.cmd.Process.Signal(unix.SignalNum("SIG" + name)); err != nil && !errors.Is(err, os.ErrProcessDone) {
		t.Fatal(err)
	}
}

// stop sends a signal and waits until the process has ended.
func (p *process) stop(t testing.TB, name string) {
	t.Helper()
	p.signal(t, name)
	select {
	case <-p.ended:
	case <-time.After(hosttest.Patience()):
		t.Errorf("process %d did not end on SIG%s", p.cmd.Process.Pid, name)
	}
}
