package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/operator"
	"sluice/sidecar/policyd"
)

// A processNode is a `sluice serve` in a process of its own, which can be
// killed, stopped and started again.
type processNode struct {
	servedNode
	binary  string
	process *exec.Cmd
	end     func() // kills it
}

// launch starts a node with a configuration for its directory.
func launch(t *testing.T, binary, dir, config string) *processNode {
	t.Helper()
	n := &processNode{servedNode: servedNode{dir: dir}, binary: binary}
	writeFile(t, dir+"/sluice.toml", config)
	n.start(t)
	t.Cleanup(n.kill)
	return n
}

// start starts it with what its directory holds, and waits until it serves.
func (n *processNode) start(t *testing.T) {
	t.Helper()
	n.log = &hosttest.Log{}
	n.process = exec.Command(n.binary, "serve", "--config", n.dir+"/sluice.toml")
	n.process.Stderr = n.log
	if err := n.process.Start(); err != nil {
		t.Fatal(err)
	}
	n.end = hosttest.Guard(t, n.process.Process)
	hosttest.Eventually(t, "serving", func() bool { return strings.Contains(n.log.String(), "msg=serving") })
}

// kill ends it as kill -9 does.
func (n *processNode) kill() {
	if n.process != nil {
		n.end()
		n.process.Wait()
		n.process = nil
	}
}

// freeze stops it with SIGSTOP; thaw has it go on.
func (n *processNode) freeze() { n.process.Process.Signal(syscall.SIGSTOP) }
func (n *processNode) thaw()   { n.process.Process.Signal(syscall.SIGCONT) }

// whole is what `sluice status --json` tells.
func (n *servedNode) whole(t testing.TB) (s operator.Status) {
	t.Helper()
	s, err := n.client(t).Status(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// client asks the node at once, where n.sluice is for what a command prints.
func (n *servedNode) client(t testing.TB) *admin.Client {
	t.Helper()
	_, socket, _, err := config.Sockets(n.dir + "/sluice.toml")
	if err != nil {
		t.Fatal(err)
	}
	return admin.NewClient(socket.Address())
}

// ask asks about a message of one recipient: whether that is taken at the stage
// "rcpt", or to charge it at "data".
func (n *servedNode) ask(domain string, number int64, stage string) (string, error) {
	c := policyd.Client{Path: n.dir + "/run/policy.sock", Timeout: hosttest.Patience()}
	recipient := "recipients"
	if stage == "rcpt" {
		recipient = "recipient"
	}
	return c.Ask(context.Background(), []policyd.Field{
		{Name: "stage", Value: stage}, {Name: "id", Value: fmt.Sprintf("1xUzSN-%06d-0q", number)}, {Name: "auth", Value: "news@" + domain},
		{Name: "sender", Value: "news@" + domain}, {Name: "client_address", Value: "192.0.2.1"}, {Name: recipient, Value: fmt.Sprintf("r%d@far.example", number)},
	})
}

// clusterConfig is serveConfig for a node of a cluster of two, with more lines
// of [store]. Unless they have a timeout, Redis has the longest time that there is: a node that
// gives it up because the machine is busy decides by its share.
func clusterConfig(dir, name, url string, more ...string) string {
	lines := strings.Join(more, "\n")
	if !strings.Contains(lines, "timeout = ") {
		lines += "\ntimeout = \"10s\""
	}
	return strings.Replace(serveConfig(dir), `node = "mx1.example"`, fmt.Sprintf("node = %q\nurl = %q\nnodes = 2\n%s", name, url, lines), 1)
}

// soonLost is the timeout of a Redis that a test waits to be given up. It is the same on a busy
// machine, where that would take minutes: what has to be counted first is insisted on.
const soonLost = `timeout = "1s"`
