package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/smtp"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// A machine is a Debian or Ubuntu like this one, that real systemd has booted as
// PID 1, with a clone of Sluice in /root/sluice, Go, and no network but the
// loopback. See testdata/machine/boot. Nothing of it outlives the test. SLUICE_TEST_MACHINE
// names another suite than this host's, such as trixie.
type machine struct {
	pidFile string
	env     []string // of commands
}

// bootMachine boots one. Its root is made once and kept among this user's caches.
func bootMachine(t *testing.T) *machine {
	t.Helper()
	for _, program := range []string{"debootstrap", "unshare", "nsenter", "setpriv"} {
		hosttest.Program(t, program)
	}
	hosttest.Root(t)
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Fatal(err)
	}
	clone, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	root := machineRoot(t, filepath.Join(cache, "sluice"))
	shared := strings.Fields(output(t, "go", "env", "GOROOT", "GOMODCACHE", "GOCACHE"))
	m := &machine{filepath.Join(t.TempDir(), "pid"), []string{
		"PATH=" + shared[0] + "/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root",
		"GOMODCACHE=" + shared[1], "GOCACHE=" + shared[2], "GOTOOLCHAIN=local", "GOPROXY=off", "DEBIAN_FRONTEND=noninteractive",
	}}
	cmd := exec.Command("testdata/machine/boot", append([]string{root, m.pidFile, clone}, shared...)...)
	var trouble hosttest.Log
	cmd.Stderr = &trouble
	off, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatalf("boot a machine: %v", err)
	}
	t.Cleanup(func() {
		off.Close()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s said:\n%s", cmd.Path, &trouble)
		}
	})
	hosttest.Eventually(t, "a machine boots", func() bool { return m.pid() != "" })
	m.awaitBoot(t)
	return m
}

// machineRoot makes the root where it is missing, for which it needs the network.
func machineRoot(t *testing.T, cache string) string {
	t.Helper()
	var trouble strings.Builder
	cmd := exec.CommandContext(t.Context(), "testdata/machine/root", cache, os.Getenv("SLUICE_TEST_MACHINE"))
	cmd.Stderr = &trouble
	out, err := cmd.Output()
	if err != nil {
		hosttest.Missing(t, fmt.Sprintf("make a machine: %v\n%s", err, &trouble))
	}
	return strings.TrimSpace(string(out))
}

// output is what a command on this host prints on stdout.
func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return strings.TrimSpace(string(out))
}

// pid is the machine's PID 1 as this host numbers it.
func (m *machine) pid() string {
	b, _ := os.ReadFile(m.pidFile)
	return strings.TrimSpace(string(b))
}

// awaitBoot waits until systemd has started everything.
func (m *machine) awaitBoot(t *testing.T) {
	t.Helper()
	var state string
	hosttest.Eventually(t, "systemd is up", func() bool {
		state, _ = m.try(t, "systemctl is-system-running --wait 2>&1")
		return state == "running\n" || state == "degraded\n"
	})
	if state != "running\n" {
		t.Errorf("after the boot:\n%s", m.run(t, "systemctl --failed"))
	}
}

// reboot has systemd stop all and boot again.
func (m *machine) reboot(t *testing.T) {
	t.Helper()
	before := m.pid()
	m.try(t, "systemctl reboot") // the command may be killed by what it asks for
	hosttest.Eventually(t, "the machine boots again", func() bool { return m.pid() != before })
	m.awaitBoot(t)
}

// path is where a file of the machine is on this host.
func (m *machine) path(name string) string { return "/proc/" + m.pid() + "/root" + name }

// try has root's shell run a script in the clone, and returns what it printed and
// its exit code.
func (m *machine) try(t *testing.T, script string) (string, int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), hosttest.Deadline(3*time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", m.pid(), "-m", "-u", "-i", "-n", "-p", "-C", "--",
		"sh", "-ec", "cd /root/sluice\n"+script)
	cmd.Env = m.env
	cmd.WaitDelay = time.Second // a daemon may hold on to the pipe
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) && !errors.Is(err, exec.ErrWaitDelay) || ctx.Err() != nil {
		t.Fatalf("on the machine: %s: %v\n%s", script, err, out)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// run runs a script that must succeed.
func (m *machine) run(t *testing.T, script string) string {
	t.Helper()
	out, code := m.try(t, script)
	if code != 0 {
		t.Fatalf("on the machine: %s: exit %d\n%s", script, code, out)
	}
	return out
}

// dial connects to a port of the machine's loopback.
func (m *machine) dial(address string) (conn net.Conn, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		var network int
		if network, err = unix.Open("/proc/"+m.pid()+"/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return
		}
		defer unix.Close(network)
		if err = unix.Setns(network, unix.CLONE_NEWNET); err == nil {
			conn, err = net.Dial("tcp4", address)
		}
	}()
	<-done
	return conn, err
}

// mail sends a message by SMTP, with AUTH as its sender if there is a password,
// and returns the error of the first command that Exim refused.
func (m *machine) mail(t *testing.T, password, from, to string) error {
	t.Helper()
	var conn net.Conn
	hosttest.Eventually(t, "connect to Exim, which may be reloading", func() bool {
		var err error
		conn, err = m.dial("127.0.0.1:25")
		return err == nil
	})
	conn.SetDeadline(time.Now().Add(hosttest.Patience()))
	c, err := smtp.NewClient(conn, "localhost")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if password != "" {
		if err := c.Auth(smtp.PlainAuth("", from, password, "localhost")); err != nil {
			t.Fatalf("log in as %s: %v", from, err)
		}
	}
	if err := errors.Join(c.Mail(from), c.Rcpt(to)); err != nil {
		return err
	}
	w, err := c.Data()
	if err != nil {
		return err
	}
	w.Write([]byte("Subject: hello\r\n\r\nhello\r\n"))
	return errors.Join(w.Close(), c.Quit())
}

// property is what systemd knows of the unit sluice.
func (m *machine) property(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(m.run(t, "systemctl show sluice --value -p "+name))
}

// number is a property that is one.
func (m *machine) number(t *testing.T, name string) int {
	t.Helper()
	n, err := strconv.Atoi(m.property(t, name))
	if err != nil {
		t.Fatalf("%s of sluice: %v", name, err)
	}
	return n
}
