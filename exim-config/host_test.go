package eximconfig_test

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// A host is a machine of a test's own: real Exim at its real paths and with its
// real privileges, Debian's configuration in the split layout with ours put in
// by our installer, and what a site would have added (see site_test.go). Only
// files and processes are its own; the network is the machine's.
//
//	h := newHost(t)            // configured, nothing runs yet
//	h.startExim(t)             // the daemon, on a port of its own
//	c := h.dial(t)             // an SMTP client that shows each reply
//	h.sendmail(t, alice, ...)  // a local submission
//	h.sink                     // where all remote mail ends
type host struct {
	dir     string   // what hostMounts mounts
	way     string   // in which Exim asks
	layout  string   // of its configuration
	mounts  *os.File // its namespaces, of its first process
	pids    *os.File
	sink    *hosttest.Sink
	net     *netns // nil: the machine's
	ip      string // where the Exim daemon listens
	port    int    // and on which port
	tcpPort int    // where Sluice listens, for the way tcp
	store   string // more of the section [store] of its configuration
	name    string // store.node, or that of all hosts
	log     string // the main log or, with stars, several; empty for Exim's usual one
	reads   string // exim.mainlog, if another
}

// A login may log in to the host.
type login struct {
	name string
	id   int // uid and gid
}

var (
	alice = login{"alice", 2001}
	bob   = login{"bob", 2002}
)

// Paths on the host.
const (
	policySocket = "/run/sluice/policy.sock"
	lockDir      = "/run/email_send_limits"
)

// newHost makes a host with Sluice's files installed: Debian's split
// configuration, and Perl.
func newHost(t testing.TB) *host {
	t.Helper()
	return newHostOf(t, "debian", "perl")
}

// newHostOf makes a host with a layout, with Sluice's files installed to be
// asked in one of the ways.
func newHostOf(t testing.TB, layout, way string) *host {
	t.Helper()
	needExim(t)
	return bootHost(t, firstInstallation(t, layout, way).dir, layout, way, nil)
}

// newBareHost makes a host with Debian's configuration and the site's additions.
func newBareHost(t testing.TB) *host {
	t.Helper()
	return newBareHostOf(t, "debian", "perl")
}

// newBareHostOf makes a host that does not know Sluice.
func newBareHostOf(t testing.TB, layout, way string) *host {
	t.Helper()
	needExim(t)
	return bootHost(t, bareSite(t, layout), layout, way, nil)
}

// bareSites has the folders of bareSite by layout.
var bareSites struct {
	sync.Mutex
	all map[string]string
}

// bareSite is the folder with a layout's configuration without Sluice, which is made once for
// all tests: for it, Debian's script starts some two hundred programs.
func bareSite(t testing.TB, layout string) string {
	t.Helper()
	bareSites.Lock()
	defer bareSites.Unlock()
	if dir, there := bareSites.all[layout]; there {
		return dir
	}
	h := bootHost(t, "", layout, "perl", nil)
	layouts[layout](h, t)
	dir := filepath.Join(sharedDir(), layout)
	h.saveConfig(t, dir)
	if bareSites.all == nil {
		bareSites.all = map[string]string{}
	}
	bareSites.all[layout] = dir
	return dir
}

// saveConfig copies the host's configuration, for bootHost.
func (h *host) saveConfig(t testing.TB, dir string) {
	t.Helper()
	for _, own := range configFolders {
		copyAll(t, filepath.Join(h.dir, own), filepath.Join(dir, own))
	}
}

// An installation is the configuration of a host on which the installer ran.
type installation struct {
	dir    string            // has it
	before map[string]string // its files without Sluice, as by etc
	out    string            // what the installer said
}

// installed has the installations by layout and way.
var installed struct {
	sync.Mutex
	all map[string]installation
}

// firstInstallation is the installation of a layout in a way. That takes a second or two, so it
// is done once for all tests.
func firstInstallation(t testing.TB, layout, way string) installation {
	t.Helper()
	installed.Lock()
	defer installed.Unlock()
	key := layout + "-" + way
	if in, there := installed.all[key]; there {
		return in
	}
	h := newBareHostOf(t, layout, way)
	in := installation{dir: filepath.Join(sharedDir(), key), before: h.etc(t)}
	in.out = h.install(t, 0, "--way", way)
	h.saveConfig(t, in.dir)
	if installed.all == nil {
		installed.all = map[string]installation{}
	}
	installed.all[key] = in
	return in
}

// configFolders of a host are where Exim and the panels have configuration.
var configFolders = []string{"etc", "lib", "usr-local"}

// bootHost makes a host with the configuration in the folder of an installation,
// or for "" with none; net is its network, if not the machine's.
func bootHost(t testing.TB, from, layout, way string, net *netns) *host {
	t.Helper()
	dir, err := os.MkdirTemp(memoryDir(), "sluice-host-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeAll(t, dir) })
	h := &host{dir: dir, layout: layout, way: way, net: net, ip: "127.0.0.1", sink: hosttest.NewSink(t)}
	h.furnish(t, from)
	h.boot(t)
	h.write(t, "/etc/exim4/sinks", "")
	h.sinkFor(t, "*", h.sink.Port)
	h.write(t, "/etc/exim4/host_macros", "SLUICE_LOCKS = "+lockDir+"\n"+inetdMacro+h.wayMacros(t)+patientMacros())
	return h
}

// inetdMacro has a session that root starts with "exim -bs", as dialFrom does, count
// as one from the network.
const inetdMacro = "SLUICE_INETD_UID = 0\n"

// patientMacros have Exim wait for an answer as long as a slow or busy machine needs
// to give it. Where no answer is due, asShipped takes them out; in the long runs all
// is as shipped.
func patientMacros() string {
	if hosttest.Soak() {
		return ""
	}
	wait := hosttest.Deadline(3 * time.Second).Round(time.Second)
	return fmt.Sprintf("SLUICE_DEADLINE = %d\nSLUICE_SECONDS = %.0fs\n", wait.Milliseconds(), wait.Seconds())
}

// asShipped has Exim wait for an answer as long as on an operator's host. A daemon
// that runs does not notice.
func (h *host) asShipped(t testing.TB) {
	t.Helper()
	file := "/etc/exim4/host_macros"
	h.write(t, file, regexp.MustCompile(`(?m)^SLUICE_(DEADLINE|SECONDS) = .*\n`).ReplaceAllString(h.read(file), ""))
}

// memoryDir is where files need no disk: Exim syncs each message, and what is
// timed here is Sluice.
func memoryDir() string {
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		return "/dev/shm"
	}
	return ""
}

// needExim skips where there is no Exim to test, and fails there in CI.
func needExim(t testing.TB) {
	t.Helper()
	hosttest.Tree() // the installer and Exim read it
	for _, program := range []string{"exim4", "update-exim4.conf"} {
		hosttest.Program(t, program)
	}
	hosttest.Root(t) // only root can make namespaces
}

// boot starts the host's first process.
func (h *host) boot(t testing.TB) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), hostDirEnv+"="+h.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if h.net == nil {
		err = cmd.Start()
	} else {
		h.net.in(t, func() { err = cmd.Start() })
	}
	if err != nil {
		t.Fatalf("start a host: %v", err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		h.report(t)
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if line != "ready\n" {
		t.Fatalf("start a host: %s%v", line, err)
	}
	for name, file := range map[string]**os.File{"mnt": &h.mounts, "pid": &h.pids} {
		if *file, err = os.Open(fmt.Sprintf("/proc/%d/ns/%s", cmd.Process.Pid, name)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { (*file).Close() })
	}
}

// in calls f where what it starts is on the host.
func (h *host) in(f func() error) error {
	return onThread(func() error {
		err := unix.Unshare(unix.CLONE_FS) // a thread enters mounts only with a root and a folder of its own
		err = errors.Join(err, unix.Setns(int(h.mounts.Fd()), unix.CLONE_NEWNS), unix.Setns(int(h.pids.Fd()), unix.CLONE_NEWPID))
		if h.net != nil {
			err = errors.Join(err, unix.Setns(int(h.net.file.Fd()), unix.CLONE_NEWNET))
		}
		if err != nil {
			return fmt.Errorf("enter a host: %w", err)
		}
		return f()
	})
}

// report fails the test if a signal killed a process, and shows Exim's logs if
// the test failed.
func (h *host) report(t testing.TB) {
	if killed, _ := os.ReadFile(filepath.Join(h.dir, "killed")); len(killed) > 0 {
		t.Errorf("on the host:\n%s", killed)
	}
	if !t.Failed() {
		return
	}
	for _, name := range []string{"log/mainlog", "log/paniclog", "log/rejectlog", "run/maillog"} {
		if b, err := os.ReadFile(filepath.Join(h.dir, name)); err == nil {
			t.Logf("%s:\n%s", name, tail(b, 8000))
		}
	}
}

// tail is at most the last n bytes of b.
func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

// path is where something on the host is outside it.
func (h *host) path(name string) string {
	for _, m := range hostMounts {
		if rest, ok := strings.CutPrefix(name, m.path); ok && (rest == "" || rest[0] == '/') {
			return filepath.Join(h.dir, m.own, rest)
		}
	}
	panic("not the host's own: " + name)
}

// write writes a file on the host.
func (h *host) write(t testing.TB, name, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.path(name)), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(h.path(name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// read reads a file on the host, "" if there is none.
func (h *host) read(name string) string {
	b, _ := os.ReadFile(h.path(name))
	return string(b)
}

// mainlog is Exim's main log. Since 4.100 a defer without an error number has
// none; before that it was -1.
func (h *host) mainlog() string {
	var b strings.Builder
	names, _ := filepath.Glob(h.path(cmp.Or(h.log, "/var/log/exim4/mainlog")))
	for _, name := range names {
		text, _ := os.ReadFile(name)
		b.Write(text)
	}
	return strings.ReplaceAll(b.String(), " defer (-1): ", " defer: ")
}

// startExim starts the daemon and waits until it listens.
func (h *host) startExim(t testing.TB) {
	t.Helper()
	h.port = hosttest.FreePort(t)
	h.start(t, "exim4", "-bdf", "-oX", fmt.Sprintf("[%s]:%d", h.ip, h.port))
	hosttest.Eventually(t, "Exim listens", h.listens)
}

// listens reports whether somebody listens on the host's port.
func (h *host) listens() bool {
	c, err := net.Dial("tcp", h.smtpAddress())
	if err != nil {
		return false
	}
	c.Close()
	return true
}

func (h *host) smtpAddress() string { return fmt.Sprintf("%s:%d", h.ip, h.port) }

// queueRun runs the queue once, to its end. With -qf it tries also what is not
// due yet.
func (h *host) queueRun(t testing.TB, flag string) {
	t.Helper()
	h.run(t, "exim4", flag)
}

// queue lists the ids of the messages in the queue.
func (h *host) queue() []string {
	files, _ := filepath.Glob(filepath.Join(h.path("/var/spool/exim4/input"), "*-H"))
	var ids []string
	for _, f := range files {
		ids = append(ids, strings.TrimSuffix(filepath.Base(f), "-H"))
	}
	return ids
}

// mailbox is the content of a local mailbox.
func (h *host) mailbox(u login) string { return h.read("/var/mail/" + u.name) }

// retryKeys are the keys of Exim's retry records.
func (h *host) retryKeys(t testing.TB) []string {
	t.Helper()
	out, code := h.try(t, "exim_dumpdb", "/var/spool/exim4", "retry")
	if code != 0 {
		return nil // no record was ever written
	}
	var keys []string
	for _, m := range regexp.MustCompile(`(?m)^ +([TR]:\S+)`).FindAllStringSubmatch(out, -1) {
		keys = append(keys, m[1])
	}
	return keys
}

// sendmail submits a message like a script of a user's in a folder below the
// user's home, and returns what sendmail printed and its exit code.
func (h *host) sendmail(t testing.TB, u login, folder, message string, args ...string) (string, int) {
	t.Helper()
	return h.as(t, u, folder).try(t, message, append([]string{"/usr/sbin/sendmail"}, args...)...)
}

// removeAll removes a folder in which a dying process may still write.
func removeAll(t testing.TB, dir string) {
	hosttest.Eventually(t, "remove "+dir, func() bool { return os.RemoveAll(dir) == nil })
}
