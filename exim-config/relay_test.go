package eximconfig_test

import (
	"maps"
	"testing"

	"sluice/sidecar/hosttest"
)

// Hosts that send without AUTH, because Exim relays for their addresses, on a host with an
// owner map:
//
//	192.0.2.9, not listed   ─→ Exim ─→ sluice: relay:192.0.2.9, unlimited until a limit names it
//	192.0.2.17, identity.relay ─→ Exim ─→ sluice: the sender's domain, if it is no tenant's
//	192.0.2.18, with names = "any" ─→ sluice: the sender's domain
func TestRelaysPayUnderTheirOwnNames(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "MAIN_RELAY_NETS = : 127.0.0.1 : 192.0.2.0/24")
	h.write(t, "/run/userdomains", "alice.example: alice\nbob.example: bob\n")
	h.startSluice(t, `
[identity]
owners = "/run/userdomains"
relay = ["192.0.2.17", {host = "192.0.2.18", names = "any"}]
[limits]
hourly = 2
defer_cutoff = 10000
`)
	send := func(client, from, to string) {
		t.Helper()
		c := h.dialFrom(t, client)
		c.Want(c.Send(from, hosttest.Letter("x"), to), 250)
	}
	for _, to := range []string{"a@far.example", "b@far.example", "c@far.example"} { // attack: a null sender, and a tenant's
		send("192.0.2.9", "", to)
		send("192.0.2.9", "joe@bob.example", to)
	}
	send("192.0.2.17", "x@free.example", "a@far.example")
	send("192.0.2.17", "joe@bob.example", "a@far.example") // attack: a tenant's name
	send("192.0.2.17", "", "a@far.example")
	send("192.0.2.18", "joe@bob.example", "a@far.example")
	want := map[string]int64{"relay:192.0.2.9": 6, "free.example": 1, "relay:192.0.2.17": 2, "bob.example": 1}
	hosttest.Eventually(t, "all are delivered", func() bool { return h.sink.Count() == 10 && len(h.queue()) == 0 })
	if got := h.sent(t); !maps.Equal(got, want) {
		t.Errorf("charged %v, want %v", got, want)
	}
	h.run(t, h.sluice(t, "set", "relay:192.0.2.9", "hourly=6")...)
	c := h.dialFrom(t, "192.0.2.9")
	c.Mail("joe@bob.example")
	wantRefused(t, c.Rcpt("d@far.example"), 450, hourlyText("relay:192.0.2.9", 7, 6, laterText))
}
