package main

import (
	"fmt"
	"maps"
	"net"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// S-01: programs on the host speak SMTP to Postfix over its loopback, which is in mynetworks,
// without AUTH and with a null sender, or a neighbour's. Each pays for itself.
//
//	uid 2001, a service ─┐
//	uid 2003, a.example ─┼─ 127.0.0.1 ─→ Postfix ─→ sluice ─ sock_diag ─→ whose socket is it?
//	root ────────────────┘
func TestPostfixLoopback(t *testing.T) {
	for _, way := range ways[:3] {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			owners := filepath.Join(t.TempDir(), "userdomains")
			writeFile(t, owners, "a.example: 2003\nb.example: 2004\n")
			limits := fmt.Sprintf("[identity]\nowners = %q\nmain_domains = \"\"\n[limits]\nhourly = 2\ndefer_cutoff = 10000\n", owners)
			h := postfixSite{charge: way.charge, limits: limits, blocks: way.blocks}.start(t)
			h.startSluice(t)
			want := map[string]int64{}
			for _, m := range []struct {
				uid           int
				sender, payer string
				messages      int // more than two are over the limit
			}{
				{2001, "", "service:2001", 12},
				{2003, "", "a.example", 1},
				{2003, "joe@b.example", "a.example", 12}, // attack: a neighbour's name
				{2004, "joe@b.example", "b.example", 2},
				{0, "root@pf.example", "system", 3},
			} {
				c := h.dialAs(t, m.uid)
				for n := range m.messages {
					c.Mail(m.sender)
					r := c.Rcpt(fmt.Sprintf("r%d@far.example", n))
					if want[m.payer] == 2 && m.payer != sidecar.System {
						c.WantPart(r, 450, sidecar.TitleOf(m.payer)+" has exceeded the max emails per hour (")
						c.Want(c.Cmd("RSET"), 250)
						continue
					}
					c.Want(r, 250)
					c.Want(c.Data(hosttest.Letter("x")), 250)
					want[m.payer]++
				}
				c.Want(c.Cmd("QUIT"), 221)
			}
			if got := h.sentOfAll(t); !maps.Equal(got, want) {
				t.Errorf("charged %v, want %v", got, want)
			}
			hosttest.Eventually(t, "what was paid is delivered", func() bool { return h.Sink.Count() == 2+2+2+3 })
			if got := h.sentOfAll(t); !maps.Equal(got, want) {
				t.Errorf("charged %v after the deliveries, want %v", got, want)
			}
		})
	}
}

// dialAs is Dial by a program of a user: who makes a socket owns it.
func (h *postfixHost) dialAs(t testing.TB, uid int) *hosttest.Client {
	t.Helper()
	type dialed struct {
		net.Conn
		error
	}
	done := make(chan dialed)
	go func() {
		runtime.LockOSThread() // and the thread ends with this
		unix.Setfsuid(uid)
		conn, err := net.Dial("tcp", h.Address())
		done <- dialed{conn, err}
	}()
	conn := <-done
	if conn.error != nil {
		t.Fatal(conn.error)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * hosttest.Patience()))
	return hosttest.NewClient(t, conn, conn)
}

// sentOfAll is how many sends of each domain and special subject are counted.
func (n *servedNode) sentOfAll(t testing.TB) map[string]int64 {
	t.Helper()
	s := n.whole(t)
	sent := map[string]int64{}
	for _, d := range s.Domains {
		sent[d.Domain] = d.Sent
	}
	for _, sc := range s.Scopes {
		sent[sc.Scope] = sc.Sent
	}
	return sent
}
