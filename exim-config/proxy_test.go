package eximconfig_test

import (
	"fmt"
	"io"
	"net"
	"slices"
	"testing"

	"sluice/sidecar/hosttest"
)

// A proxy in front of Exim names the client in a PROXY header (hosts_proxy), with the real
// sidecar and an owner map:
//
//	client ─→ haproxy's socket ─┐                   the header's client
//	client ─→ another host ─────┼─ PROXY ─→ Exim ─→ sluice: the header's client
//	alice's program ────────────┘                   alice, whatever the header says
func TestAProxyHeaderIsBelievedOnlyOfAProxy(t *testing.T) {
	t.Parallel()
	own, elsewhere := newNetns(t), newNetns(t)
	link(t, port{own, "v0", "10.9.0.1"}, port{elsewhere, "v1", "10.9.0.2"})
	needExim(t)
	h := bootHost(t, firstInstallation(t, "debian", "perl").dir, "debian", "perl", own)
	own.in(t, func() { h.sink = hosttest.NewSink(t) })
	h.write(t, "/etc/exim4/sinks", "*: "+route(h.sink.Port)+"\n")
	h.addMacros(t, "hosts_proxy = 127.0.0.1 : 10.9.0.2\nMAIN_RELAY_NETS = 127.0.0.1 : 192.0.2.17")
	start := func() *process {
		return h.shareWith(t, "proxies = [\"haproxy\"]\nrelay = [{host = \"192.0.2.17\", names = \"any\"}]\n", "hourly = 3")
	}
	serve := start()
	h.startEximOn(t, "127.0.0.1", "10.9.0.1")

	const relay, stranger = "PROXY TCP4 192.0.2.17 10.9.0.1 4711 25\r\n", "PROXY TCP4 203.0.113.5 10.9.0.1 4711 25\r\n"
	connect := func(u login) net.Conn { return h.connectAs(t, u, "127.0.0.1") }
	remote := func(u login) (conn net.Conn) {
		elsewhere.in(t, func() {
			var err error
			if conn, err = net.Dial("tcp", fmt.Sprintf("10.9.0.1:%d", h.port)); err != nil {
				t.Fatal(err)
			}
		})
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	// says has a client say a header, and then, if it has an id, log in.
	says := func(conn net.Conn, header, id string) *hosttest.Client {
		t.Helper()
		io.WriteString(conn, header)
		c := hosttest.NewClient(t, conn, conn)
		if id != "" {
			c.Login(id)
		}
		return c
	}
	want := map[string]int64{}
	for i, m := range []struct {
		name       string
		client     *hosttest.Client
		sender, to string
		payer      string // nobody, if empty
	}{
		{"a mailbox logs in through the proxy", says(connect(proxy), stranger, "eva@shop.example"), "joe@bob.example", "r%d@far.example", "shop.example"},
		{"a relay by the proxy", says(connect(proxy), relay, ""), "joe@bob.example", "r%d@far.example", "bob.example"},
		{"a relay by the proxy, binary", says(connect(proxy), binaryHeader("192.0.2.17", "10.9.0.1"), ""), "joe@bob.example", "r%d@far.example", "bob.example"},
		{"a relay by a proxy on another host", says(remote(proxy), relay, ""), "eva@shop.example", "r%d@far.example", "shop.example"},
		{"a stranger by the proxy", says(connect(proxy), stranger, ""), "joe@bob.example", "alice@here.example", ""},
		{"a stranger by the proxy, to an alias", says(connect(proxy), stranger, ""), "joe@bob.example", "forward@here.example", "forward:here.example"},
		{"attack: a program of alice says it is the relay", says(connect(alice), relay, ""), "joe@bob.example", "r%d@far.example", "alice.example"},
		{"attack: it says it is the relay, in binary", says(connect(alice), binaryHeader("192.0.2.17", "10.9.0.1"), ""), "joe@bob.example", "r%d@far.example", "alice.example"},
		{"attack: it says it is the loopback", says(connect(alice), "PROXY TCP4 127.0.0.1 127.0.0.1 4711 25\r\n", ""), "joe@bob.example", "r%d@far.example", "alice.example"},
	} {
		to := m.to
		if m.to[0] == 'r' {
			to = fmt.Sprintf(m.to, i)
		}
		m.client.Want(m.client.Send(m.sender, hosttest.Letter("x"), to), 250)
		if m.payer != "" {
			want[m.payer]++
		}
		h.wantSent(t, m.name, want)
	}
	for _, header := range []string{relay, binaryHeader("192.0.2.17", "10.9.0.1"), "PROXY TCP4 127.0.0.1 127.0.0.1 4711 25\r\n", "PROXY UNKNOWN\r\n"} {
		c := says(connect(alice), header, "")
		c.Mail("joe@bob.example")
		wantRefused(t, c.Rcpt("fourth@far.example"), 450, hourlyText("alice.example", 4, 3, laterText))
	}
	c := says(connect(alice), stranger, "") // for whom Exim does not relay, so that nothing is gained
	c.Mail("joe@bob.example")
	c.Want(c.Rcpt("fourth@far.example"), 550)

	// The deliveries have asked about the same payers, though no proxy is known then.
	hosttest.Eventually(t, "all is delivered", func() bool { return h.sink.Count() == 8 && len(h.queue()) == 0 })
	h.wantSent(t, "nobody is charged twice", want)
	if got := h.sink.Recipients(); slices.Contains(got, "fourth@far.example") {
		t.Errorf("delivered to %v", got)
	}

	// Attack: while nobody answers. The delivery asks later, and knows of no proxy.
	serve.stop(t, "KILL")
	h.addMacros(t, "queue_only")
	h.startEximOn(t, "127.0.0.1")
	for _, header := range []string{relay, "PROXY UNKNOWN\r\n"} {
		c = says(connect(alice), header, "")
		c.Want(c.Send("joe@bob.example", hosttest.Letter("x"), "late@far.example"), 250)
	}
	start()
	h.queueRun(t, "-qf")
	want["loopback"] = 2
	h.wantSent(t, "nobody can say whose it was", want)
}

// binaryHeader is a PROXY header of version 2, of a client with an IPv4 address.
func binaryHeader(client, server string) string {
	return "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c" + string(net.ParseIP(client).To4()) + string(net.ParseIP(server).To4()) + "\x12\x67\x00\x19"
}
