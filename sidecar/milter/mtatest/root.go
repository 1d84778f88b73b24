// Package mtatest runs real MTAs for tests: Debian's Postfix and Sendmail, which conflict
// with Exim and are unpacked into root directories of their own (.ci/root). It owns the
// files and processes of each MTA, which end with the test; the network is the machine's.
// It asks package hosttest for ports and for a mail server to deliver to. It tells the
// test what the MTA logged and what its commands printed.
package mtatest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// Roots is where .ci/root unpacks packages.
const Roots = "/var/cache/sluice-test"

// A root is the root directory of an MTA: what was unpacked, read-only, with the test's
// own /etc, /var, /run and /tmp.
type root struct {
	dir  string
	name string
	pid  int // of the first process
	stop func()
}

// own are the directories that each test has of its own.
var own = []string{"etc", "var", "run", "tmp"}

// enter is a script that mounts a root in new namespaces and runs a command in it until
// standard input is closed. The kernel then kills what is left.
const enter = `set -eu
mount --make-rprivate /
mount --bind "$1" "$2/root"
mount -o remount,ro,bind "$2/root"
for own in etc var run tmp; do mount --bind "$2/$own" "$2/root/$own"; done
mount --rbind /dev "$2/root/dev"
mount -t proc proc "$2/root/proc"
shift
dir=$1
shift
chroot "$dir/root" "$@" >"$dir/out" 2>&1 &
echo ready
exec cat`

// makeRoot makes the files of a root. Nothing runs in it yet.
func makeRoot(t testing.TB, name string) *root {
	t.Helper()
	need(t, name)
	dir, err := os.MkdirTemp(memoryDir(), "sluice-"+name+"-")
	if err != nil {
		t.Fatal(err)
	}
	r := &root{dir: dir, name: name, stop: func() {}}
	t.Cleanup(func() {
		r.stop()
		hosttest.Eventually(t, "remove "+dir, func() bool { return os.RemoveAll(dir) == nil })
	})
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(filepath.Join(dir, "root"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, o := range own {
		if out, err := exec.Command("cp", "-a", filepath.Join(Roots, name, o), dir).CombinedOutput(); err != nil {
			t.Fatalf("copy %s: %v\n%s", o, err, out)
		}
	}
	if err := os.Chmod(filepath.Join(dir, "tmp"), 0o1777); err != nil {
		t.Fatal(err)
	}
	r.Write(t, "/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n")
	r.Write(t, "/etc/hosts", "127.0.0.1 localhost\n")
	r.Write(t, "/etc/resolv.conf", "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n") // where nobody answers
	return r
}

// need skips a test if there is no such root, and fails it in CI.
func need(t testing.TB, name string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(Roots, name)); err != nil {
		hosttest.Missing(t, fmt.Sprintf("no %s is unpacked in %s: make deps does that", name, Roots))
	}
	hosttest.Root(t) // only root can make namespaces
}

// OnDisk is an environment variable that benches set to have the queues on a disk.
const OnDisk = "SLUICE_MTATEST_ON_DISK"

// memoryDir is a directory in memory, because MTAs sync each message; "" is the default
// one on a disk.
func memoryDir() string {
	if os.Getenv(OnDisk) != "" {
		return ""
	}
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// start runs the MTA.
func (r *root) start(t testing.TB, command ...string) {
	t.Helper()
	args := append([]string{"-c", enter, "sh", filepath.Join(Roots, r.name), r.dir}, command...)
	cmd := exec.Command("sh", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("start a root: %v", err)
	}
	r.pid = cmd.Process.Pid
	ready := make([]byte, len("ready\n"))
	if _, err := io.ReadFull(stdout, ready); err != nil {
		stdin.Close()
		cmd.Wait()
		t.Fatalf("start a root: %v\n%s", err, &stderr)
	}
	r.stop = func() {
		stdin.Close()
		cmd.Wait()
		r.stop = func() {}
	}
}

// Stop kills everything in the root, as a power cut would.
func (r *root) Stop() { r.stop() }

// Path is the path outside of the root of a file in it.
func (r *root) Path(name string) string { return filepath.Join(r.dir, name) }

// Write writes a file in the root.
func (r *root) Write(t testing.TB, name, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(r.Path(name)), 0o755), os.WriteFile(r.Path(name), []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// Read returns the content of a file in the root, "" if there is none.
func (r *root) Read(name string) string {
	b, _ := os.ReadFile(r.Path(name))
	return string(b)
}

// Try runs a command in the root, and returns what it printed and its exit code.
func (r *root) Try(t testing.TB, input string, args ...string) (string, int) {
	t.Helper()
	return r.TryAs(t, "0:0", input, args...)
}

// TryAs is Try as another user, "UID:GID".
func (r *root) TryAs(t testing.TB, user, input string, args ...string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), hosttest.Patience())
	defer cancel()
	cmd := r.Command(ctx, user, args...)
	cmd.Stdin = strings.NewReader(input)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// Command returns a command that will run in the root.
func (r *root) Command(ctx context.Context, user string, args ...string) *exec.Cmd {
	args = append([]string{"-t", strconv.Itoa(r.pid), "-m", "-p", "--", "chroot", "--userspec=" + user, "--groups=", filepath.Join(r.dir, "root")}, args...)
	cmd := exec.CommandContext(ctx, "nsenter", args...)
	cmd.WaitDelay = time.Second
	return cmd
}

// Run runs a command in the root, which must succeed, and returns what it printed.
func (r *root) Run(t testing.TB, input string, args ...string) string {
	t.Helper()
	out, code := r.Try(t, input, args...)
	if code != 0 {
		t.Fatalf("%s: exit %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// listens waits until something listens on a port.
func listens(t testing.TB, what string, port int) {
	t.Helper()
	hosttest.Eventually(t, what+" listens", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			return false
		}
		c.Close()
		return true
	})
}

// Snippet returns a code block of a document, by what follows its opening quotes, so that
// what the document says is what is tested.
func Snippet(t testing.TB, page, name string) string {
	t.Helper()
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)\n```" + regexp.QuoteMeta(name) + "\n(.*?)\n```").FindSubmatch(text)
	if m == nil {
		t.Fatalf("%s has no block %q", page, name)
	}
	return string(m[1]) + "\n"
}
