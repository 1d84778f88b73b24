package peer

import (
	"context"
	"net/netip"
	"testing"

	"sluice/sidecar/hosttest"
)

// mail from an address of the host's own is mail of this host, also if the address
// came after the start, and no longer when it has gone.
//
//	ip addr add ─→ kernel ─ rtnetlink ─→ Addresses
func TestAddressesAreFollowed(t *testing.T) {
	t.Parallel()
	n := newNetwork(t)
	n.ip(t, "addr", "add", "198.51.100.7/24", "dev", "lo")
	a := followAddresses(t, n)
	has := func(text string) bool { return a.Has(netip.MustParseAddr(text)) }
	for _, own := range []string{"127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1", "198.51.100.7", "::ffff:198.51.100.7"} {
		if !has(own) {
			t.Errorf("%s is not the host's own", own)
		}
	}
	for _, other := range []string{"198.51.100.8", "2001:db8::7", "192.0.2.1"} {
		if has(other) {
			t.Errorf("%s is the host's own", other)
		}
	}
	n.ip(t, "addr", "add", "2001:db8::7/64", "dev", "lo", "nodad")
	n.ip(t, "addr", "add", "192.0.2.1", "peer", "192.0.2.2", "dev", "lo") // point to point
	hosttest.Eventually(t, "new addresses are known", func() bool { return has("2001:db8::7") && has("192.0.2.1") })
	if has("192.0.2.2") {
		t.Error("the other end of a link is the host's own")
	}
	n.ip(t, "addr", "del", "198.51.100.7/24", "dev", "lo")
	hosttest.Eventually(t, "the old address is forgotten", func() bool { return !has("198.51.100.7") })
}

// followAddresses follows the addresses of a network until the test ends.
func followAddresses(t testing.TB, n *network) *Addresses {
	var a *Addresses
	n.in(t, func() {
		var err error
		if a, err = ReadAddresses(); err != nil {
			t.Error(err)
		}
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.in(t, func() {
			if err := a.Run(ctx); err != nil {
				t.Error(err)
			}
		})
	}()
	t.Cleanup(func() { cancel(); <-ended })
	return a
}
