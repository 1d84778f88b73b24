package login

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	patience  = 30 * time.Second // for one run of a program
	afterwork = time.Second      // for what a program has left running to let go of its output
	maxErrors = 4 << 10          // bytes of standard error that are kept
)

// A program is one run of a program, which gets no more than what is here of this one.
type program struct {
	path  string
	args  []string
	input []byte
	most  int // bytes of output; a program that prints more is ended
}

// A result is how a run ended.
type result struct {
	out  []byte
	code int    // exit code
	said string // first line of its standard error, or else of its output
}

// errTooMuch ends a program that prints too much.
var errTooMuch = errors.New("it printed too much")

// run runs a program in a process group of its own, in /, with umask 077. After 30 seconds, and
// when it prints more than it may, the whole group is killed; so is what it leaves running. An
// error is that it did not come to an end.
func (p program) run(ctx context.Context) (r result, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	timed, stop := context.WithTimeoutCause(ctx, patience, fmt.Errorf("it did not end within %v", patience))
	defer stop()
	out := &bounded{most: p.most, over: func() { cancel(fmt.Errorf("%w: more than %d bytes", errTooMuch, p.most)) }}
	said := &bounded{most: maxErrors, over: func() {}}
	// Only a shell can set the umask of another program alone.
	cmd := exec.CommandContext(timed, "/bin/sh", append([]string{"-c", `umask 077; exec "$0" "$@"`, p.path}, p.args...)...)
	cmd.Dir, cmd.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(p.input), out, said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel, cmd.WaitDelay = group, afterwork
	if err = cmd.Start(); err == nil {
		err = cmd.Wait()
		group() // what it has left running; none is no error
	}
	if cause := context.Cause(timed); cause != nil {
		return r, fmt.Errorf("run %s: %w", p.path, cause)
	}
	_, exited := errors.AsType[*exec.ExitError](err)
	if err != nil && !exited && !errors.Is(err, exec.ErrWaitDelay) {
		return r, fmt.Errorf("run %s: %w", p.path, err)
	}
	if r.code = cmd.ProcessState.ExitCode(); r.code < 0 {
		return r, fmt.Errorf("run %s: it ended by %v", p.path, cmd.ProcessState)
	}
	r.out = out.kept.Bytes()
	if r.said = firstLine(said.kept.Bytes()); r.said == "" {
		r.said = firstLine(r.out)
	}
	return r, nil
}

func firstLine(b []byte) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(b)), "\n")
	return line[:min(len(line), 300)]
}

// bounded keeps what is written up to a size. What is more calls over, and is dropped.
type bounded struct {
	kept bytes.Buffer // no embedded one: with its ReadFrom it would be filled without a Write
	most int
	over func()
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.most - b.kept.Len(); len(p) > room {
		b.kept.Write(p[:room])
		b.over()
		return len(p), nil
	}
	return b.kept.Write(p)
}

// owned looks whether a file, and every directory above it down from root, belongs to root (or to
// whom this program runs as) and can be written by nobody else. Otherwise somebody else could have
// put it there.
func owned(root, path string) error {
	for {
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		stat, ok := info.Sys().(*syscall.Stat_t)
		switch {
		case info.Mode()&os.ModeSymlink != 0:
			return fmt.Errorf("%s is a symbolic link", path)
		case !ok || stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
			return fmt.Errorf("%s is not root's", path)
		case info.Mode().Perm()&0o022 != 0:
			return fmt.Errorf("others than root may write to %s (mode %04o)", path, info.Mode().Perm())
		case path == root || path == filepath.Dir(path):
			return nil
		}
		path = filepath.Dir(path)
	}
}
