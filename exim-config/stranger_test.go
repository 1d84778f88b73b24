package eximconfig_test

import (
	"context"
	"fmt"
	"net"
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

// S-09, over TCP: there anybody can connect. Whoever does so in a loop, or keeps connections open,
// with half a question on each or none, keeps Exim from no answer either.
func TestConnectFloodsOverTCP(t *testing.T) {
	t.Parallel()
	hosttest.Program(t, "perl")
	h := newHostOf(t, "debian", "tcp")
	h.startSluice(t, "[limits]\nhourly = 1000000")
	h.startExim(t)
	h.sendOne(t, 0)
	sent := int64(1)
	for _, flood := range []string{"shutdown $s, 2", "push @kept, $s", "syswrite $s, qq(request=sluice\\nversion=2\\n); push @kept, $s"} {
		ctx, stop := context.WithCancel(t.Context())
		var floods sync.WaitGroup
		for range 2 {
			cmd := h.as(t, alice, "").command(ctx, "perl", "-MSocket", "-e", strings.Replace(floodLoop, "FLOOD", flood, 1), fmt.Sprint(h.tcpPort))
			if err := h.in(cmd.Start); err != nil {
				t.Fatal(err)
			}
			floods.Go(func() { cmd.Wait() })
		}
		for range 7 {
			h.sendOne(t, int(sent))
			sent++
		}
		stop()
		floods.Wait()
		if got := h.status(t, "here.example"); got.Sent != sent {
			t.Errorf("%s: %d of %d were charged", flood, got.Sent, sent)
		}
	}
	if late := h.all(t).Totals.Late; late != 0 {
		t.Errorf("%d were charged from the log only", late)
	}
}

// floodLoop makes connections as fast as it can, and keeps at most 900 of them.
const floodLoop = `
my ($to, @kept) = pack_sockaddr_in($ARGV[0], INADDR_LOOPBACK);
while (1) {
    shift @kept if @kept > 900;
    socket my $s, PF_INET, SOCK_STREAM, 0 or next;
    connect $s, $to or next;
    FLOOD;
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
	for _, address := range []string{"pack_sockaddr_in(PORT, INADDR_LOOPBACK)", "pack_sockaddr_in(PORT, INADDR_ANY)", "pack_sockaddr_in6(PORT, IN6ADDR_ANY)"} {
		squat := `socket my $s, ` + map[bool]string{true: "PF_INET6", false: "PF_INET"}[strings.Contains(address, "in6")] + `, SOCK_STREAM, 0 or die;
			setsockopt $s, SOL_SOCKET, SO_REUSEPORT, 1 or die; bind $s, ` + strings.Replace(address, "PORT", fmt.Sprint(h.tcpPort), 1) + ` or die "$!\n"; listen $s, 1; print "listens\n"`
		out, code := h.as(t, alice, "").try(t, "", "perl", "-MSocket=:all", "-e", squat)
		if code == 0 || !strings.Contains(out, "Permission denied") {
			t.Errorf("alice listens at %s, port %d: exit %d, %s", address, h.tcpPort, code, out)
		}
	}
	c := h.dial(t).Login("a@here.example")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), "r@far.example"), 250)
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 })
	if panics := h.read("/var/log/exim4/paniclog"); panics != "" {
		t.Errorf("paniclog:\n%s", panics)
	}
}

// S-15, at the unix socket: nobody but root can put another in its place. If root's program that
// has it answers without an end, Exim goes on.
func TestAnAnswerWithoutAnEnd(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startExim(t)
	squat := `socket my $s, AF_UNIX, SOCK_STREAM, 0 or die; unlink $ARGV[0]; bind $s, pack_sockaddr_un($ARGV[0]) or die "$!\n"; print "listens\n"`
	if out, code := h.as(t, alice, "").try(t, "", "perl", "-MSocket", "-e", squat, policySocket); code == 0 || !strings.Contains(out, "Permission denied") {
		t.Errorf("alice listens at %s: exit %d, %s", policySocket, code, out)
	}
	h.serve(t, func(c net.Conn) {
		for endless := []byte(strings.Repeat("action=550 5.7.1 x ", 3000)); ; {
			if _, err := c.Write(endless); err != nil {
				return
			}
		}
	})
	c := h.dial(t).Login("a@here.example")
	c.Want(c.Send("a@here.example", hosttest.Letter("x"), "r@far.example"), 250)
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 1 })
	if panics := h.read("/var/log/exim4/paniclog"); panics != "" {
		t.Errorf("paniclog:\n%s", panics)
	}
}
