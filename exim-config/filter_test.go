package eximconfig_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// A content filter gets every message by SMTP, and sends it again to a port of its own, where
// Exim delivers it. identity.reinject names its login. With the real sidecar and an owner map:
//
//	alice, bob, strangers ─→ Exim ─→ sluice: charged
//	                          └─→ amavis ─→ Exim's second port ─→ sluice: as from outside ─→ sink
//	alice's program ───────────────────────────┘ charged
const filterRouter = `
site_filter:
  driver = manualroute
  condition = ${if !eq{$received_port}{%d}}
  route_list = * 127.0.0.1::%d
  self = send
  transport = remote_smtp
`

// A filteredHost has a content filter, which sends on what it got.
type filteredHost struct {
	*host
	second int // the port for what was filtered
	filter *hosttest.Sink
	passed int // messages by the filter so far
}

func newFilteredHost(t *testing.T, limits string) *filteredHost {
	t.Helper()
	h := &filteredHost{host: newHost(t), second: hosttest.FreePort(t), filter: hosttest.NewSink(t)}
	h.write(t, "/etc/exim4/conf.d/router/140_filter", fmt.Sprintf(filterRouter, h.second, h.filter.Port))
	h.run(t, "update-exim4.conf")
	h.shareWith(t, "reinject = [\"amavis\"]\n", limits)
	h.startExim(t)
	h.start(t, "exim4", "-bdf", "-oX", fmt.Sprintf("[127.0.0.1]:%d", h.second), "-oP", "/run/exim-second.pid")
	h.onSecond(func() { hosttest.Eventually(t, "the second Exim listens", func() bool { return h.listens() }) })
	return h
}

// onSecond calls f while the host's port is the second one.
func (h *filteredHost) onSecond(f func()) {
	first := h.port
	defer func() { h.port = first }()
	h.port = h.second
	f()
}

// pass has the filter send on the next message that it gets.
func (h *filteredHost) pass(t *testing.T, what string) {
	t.Helper()
	hosttest.Eventually(t, "the filter has got "+what, func() bool { return len(h.filter.Received()) > h.passed })
	m := h.filter.Received()[h.passed]
	h.passed++
	h.onSecond(func() {
		c := h.dialAs(t, filter, "127.0.0.1")
		c.Want(c.Send(m.From, strings.ReplaceAll(m.Data, "\r\n", "\n"), m.To...), 250)
		c.Want(c.Cmd("QUIT"), 221)
	})
}

func TestAContentFilterChargesNobodyTwice(t *testing.T) {
	t.Parallel()
	h := newFilteredHost(t, "hourly = 4")
	want := map[string]int64{}
	arrives := func(n int) func() bool { return func() bool { return h.sink.Count() == n && len(h.queue()) == 0 } }

	c := h.dialAs(t, alice, "127.0.0.1")
	c.Want(c.Send("eva@shop.example", hosttest.Letter("a program's"), "r1@far.example"), 250)
	h.pass(t, "a program's message")
	hosttest.Eventually(t, "it is delivered", arrives(1))
	want["shop.example"] = 1
	h.wantSent(t, "a program's message", want)

	c = h.dial(t).Login("joe@bob.example")
	c.Want(c.Send("joe@bob.example", hosttest.Letter("a mailbox's"), "r2@far.example", "r3@far.example"), 250)
	h.pass(t, "a mailbox's message")
	hosttest.Eventually(t, "it is delivered", arrives(3))
	want["bob.example"] = 2
	h.wantSent(t, "a mailbox's message", want)

	c = h.dialFrom(t, "192.0.2.9")
	c.Want(c.Send("who@else.example", hosttest.Letter("a stranger's"), "forward@here.example"), 250)
	h.pass(t, "a stranger's message")
	hosttest.Eventually(t, "it is forwarded", arrives(4))
	want["forward:here.example"] = 1
	h.wantSent(t, "a forward", want)

	// What was filtered fails: that is held against nobody, and its bounce is nobody's.
	h.sink.Refuse("nosuch@far.example", 550, "no such user")
	c = h.dial(t).Login("eva@shop.example")
	c.Want(c.Send("eva@shop.example", hosttest.Letter("it fails"), "nosuch@far.example"), 250)
	h.pass(t, "what fails")
	hosttest.Eventually(t, "it fails", func() bool { return strings.Contains(h.mainlog(), "** nosuch@far.example R=site_remote") })
	h.pass(t, "the bounce")
	hosttest.Eventually(t, "the bounce is delivered", arrives(5))
	want["shop.example"] = 2
	h.wantSent(t, "a bounce", want)
	if got := h.status(t, "shop.example"); got.Delivered != 2 || got.Failed != 0 {
		t.Errorf("handed to the filter twice: %+v", got.Counts)
	}
	if !slices.Contains(h.sink.Recipients(), "eva@shop.example") {
		t.Errorf("no bounce: %v", h.sink.Recipients())
	}

	// Attack: a program of alice sends to the filter's port, in everybody's name. It pays.
	h.onSecond(func() {
		c := h.dialAs(t, alice, "127.0.0.1")
		for n, sender := range []string{"joe@bob.example", "eva@shop.example", "", "joe@bob.example"} {
			c.Want(c.Send(sender, hosttest.Letter("x"), fmt.Sprintf("attack%d@far.example", n)), 250)
			if sender == "eva@shop.example" {
				want["shop.example"]++
			} else {
				want["alice.example"]++
			}
			h.wantSent(t, "an attack over the filter's port", want)
		}
		c.Want(c.Send("joe@bob.example", hosttest.Letter("x"), "attack4@far.example"), 250)
		want["alice.example"]++
		c.Mail("joe@bob.example")
		wantRefused(t, c.Rcpt("attack5@far.example"), 450, hourlyText("alice.example", 5, 4, laterText))
	})
	hosttest.Eventually(t, "what was paid is delivered", arrives(10))
	h.wantSent(t, "in the end", want)
}
