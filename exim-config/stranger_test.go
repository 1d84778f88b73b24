package eximconfig_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"sluice/sidecar/hosttest"
)

// Strangers on the host try to come between Exim and Sluice:
//
//	client ─→ Exim ─ question ─→ sluice
//	alice ──── connect(), listen ──┘

// S-09: whoever connects in a loop must not keep Exim from an answer.
func TestConnectFloodLeavesNoQuestionUnanswered(t *testing.T) {
	t.Parallel()
	hosttest.Program(t, "perl")
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 1000000")
	h.startExim(t)
	h.sendOne(t, 0) // so that a lock file or the first start is no reason below
	ctx, stop := context.WithCancel(t.Context())
	var flood sync.WaitGroup
	connected := make([]string, 2)
	for i := range connected {
		cmd := h.as(t, alice, "").command(ctx, "perl", "-MSocket", "-MFcntl", "-e", connectLoop, policySocket)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := h.in(cmd.Start); err != nil {
			t.Fatal(err)
		}
		flood.Go(func() {
			<-ctx.Done()
			stdin.Close()
			cmd.Wait()
			connected[i] = out.String()
		})
	}
	t.Cleanup(func() { stop(); flood.Wait() })
	for i := range 20 {
		h.sendOne(t, i+1)
	}
	if got := h.status(t, "here.example"); got.Sent != 21 {
		t.Errorf("%d of 21 were charged", got.Sent)
	}
	stop()
	flood.Wait()
	for _, out := range connected {
		if strings.Contains(out, "connected") {
			t.Errorf("alice has connected: %s", out)
		}
	}
}

// connectLoop connects to a socket as fast as it can, and says so once it could.
const connectLoop = `
$| = 1;
my $to = pack_sockaddr_un($ARGV[0]);
while (1) {
    socket my $s, AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0 or next;
    print("connected\n"), exit if connect $s, $to;
}`

// sendOne sends a message, whose charge is in the reply to DATA.
func (h *host) sendOne(t *testing.T, n int) {
	t.Helper()
	c := h.dial(t).Login("a@here.example")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), fmt.Sprintf("r%d@far.example", n)), 250)
	c.Want(c.Cmd("QUIT"), 221)
}

// S-15: while sluice is down nobody but root can listen where Exim asks over TCP. There he
// could answer without an end, which kills Exim's process.
func TestNobodyCanListenInPlaceOfSluice(t *testing.T) {
	t.Parallel()
	h := newHostOf(t, "debian", "tcp")
	h.startExim(t)
	squat := fmt.Sprintf(`socket my $s, PF_INET, SOCK_STREAM, 0 or die; bind $s, pack_sockaddr_in(%d, INADDR_LOOPBACK) or die "$!\n"; listen $s, 1; print "listens\n"`, h.tcpPort)
	out, code := h.as(t, alice, "").try(t, "", "perl", "-MSocket", "-e", squat)
	if code == 0 || !strings.Contains(out, "Permission denied") {
		t.Errorf("alice listens on port %d: exit %d, %s", h.tcpPort, code, out)
	}
	c := h.dial(t).Login("a@here.example")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), "r@far.example"), 250)
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 })
	if panics := h.read("/var/log/exim4/paniclog"); panics != "" {
		t.Errorf("paniclog:\n%s", panics)
	}
}
