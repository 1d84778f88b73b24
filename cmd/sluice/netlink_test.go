package main

import (
	"io"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"sluice/sidecar/hosttest"
)

// Where a drop-in, or an older unit, refuses AF_NETLINK, the operator is told: what does not work,
// why, and what to do. Mail goes on, and programs on this host share one budget.
//
//	program ─ SMTP ─→ Exim ─→ sluice ─ AF_NETLINK ─✗ whose socket?
func TestWhereNetlinkIsRefused(t *testing.T) {
	t.Parallel()
	hosttest.Root(t)
	dir := t.TempDir()
	writeFile(t, dir+"/sluice.toml", serveConfig(dir))
	n := &servedNode{dir: dir, log: &hosttest.Log{}}
	cmd := exec.Command(buildSluice(t), "serve", "--config", dir+"/sluice.toml")
	cmd.Stderr = n.log
	if err := startWithoutNetlink(cmd); err != nil {
		t.Fatal(err)
	}
	end := hosttest.Guard(t, cmd.Process)
	defer func() { end(); cmd.Wait() }()
	hosttest.Eventually(t, "it serves all the same", func() bool { return strings.Contains(n.log.String(), "msg=serving") })

	c, err := net.Dial("unix", dir+"/run/policy.sock")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(hosttest.Patience()))
	io.WriteString(c, "request=sluice\nversion=2\nnumber=7\nstage=rcpt\nsender=joe@bob.example\nrecipient=r@far.example\n"+
		"client_address=127.0.0.1\nclient_port=40000\nserver_address=127.0.0.1\nserver_port=25\n\n")
	reply := make([]byte, 1000)
	got, err := c.Read(reply)
	if reply := string(reply[:got]); err != nil || !strings.HasPrefix(reply, "action=DUNNO\n") || !strings.Contains(reply, "\npayer=loopback\n") {
		t.Errorf("a question about a program is answered %q, %v", reply, err)
	}
	const why = "ask the kernel whose socket a connection is: open a netlink socket: address family not supported by protocol; " +
		"the unit needs AF_NETLINK in RestrictAddressFamilies=, the kernel tcp_diag"
	status, _ := n.sluice(t, "status")
	diagnosis, _ := n.sluice(t, "doctor")
	for _, said := range []struct{ where, text, want string }{
		{"status", status, "WARNING: programs on this host that send over SMTP without AUTH share one budget: " + why + ".\n"},
		{"doctor", diagnosis, "Let the unit have AF_NETLINK"},
		{"the log", n.log.String(), "allow AF_NETLINK in the unit, and restart sluice"},
		{"the log", n.log.String(), why},
		{"the log", n.log.String(), "the addresses of this host cannot be followed"},
	} {
		if !strings.Contains(said.text, said.want) {
			t.Errorf("%s does not say %q:\n%s", said.where, said.want, said.text)
		}
	}
}

// startWithoutNetlink starts a command to which the kernel refuses netlink sockets, as it does to
// a unit of systemd's without AF_NETLINK in RestrictAddressFamilies (seccomp(2)).
func startWithoutNetlink(cmd *exec.Cmd) error {
	const number, firstArgument = 0, 16 // where they are in struct seccomp_data, on a little-endian machine
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: number},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 3, K: unix.SYS_SOCKET},
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: firstArgument},
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: unix.AF_NETLINK},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EAFNOSUPPORT)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // what it starts has the filter of this thread, which ends with this
		err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
		if err == nil {
			err = unix.Prctl(unix.PR_SET_SECCOMP, unix.SECCOMP_MODE_FILTER, uintptr(unsafe.Pointer(&program)), 0, 0)
		}
		if err == nil {
			err = cmd.Start()
		}
		done <- err
	}()
	return <-done
}
