package sidecar_test

import (
	"net/netip"
	"strings"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/printable"
)

// Different names have different keys, which are short and printable.
func TestAuthorKey(t *testing.T) {
	long := "/home/bob/" + strings.Repeat("x", 190)
	keys := map[string]string{}
	for _, name := range []string{"", "/home/bob", "/home/bob/", "/home/bob/\n", `/home/bob/\x0a`, `/home/bob/\`, "/home/bob/\xff", "/home/bob/ÿ", "/home/bob/\x00",
		long, long + "1", long + "2", strings.Repeat("\x00", 300), strings.Repeat("\x00", 301)} {
		key := sidecar.AuthorKey(sidecar.ScriptPrefix, name)
		if other, twice := keys[key]; twice {
			t.Errorf("%q and %q have the key %s", name, other, key)
		}
		keys[key] = name
		if len(key) > 200 || printable.Of(key) != key || !strings.HasPrefix(key, sidecar.ScriptPrefix) {
			t.Errorf("the key of %q is %q", name, key)
		}
	}
}

// Of a mailbox the domain stays, or it would look like one of another domain.
func TestAuthorKeyKeepsTheDomain(t *testing.T) {
	for name, end := range map[string]string{
		"ceo@victim.example/" + strings.Repeat("x", 200) + "@evil.example":      "@evil.example",
		"ceo@victim.example." + strings.Repeat("long.", 60) + "evil.example":    "long.evil.example",
		strings.Repeat("x", 150) + "@" + strings.Repeat("l.", 60) + "b.example": ".l.b.example",
	} {
		if key := sidecar.AuthorKey("", name); len(key) > 200 || !strings.HasSuffix(key, end) {
			t.Errorf("the key of %q is %q", name, key)
		}
	}
}

func TestNetworkOf(t *testing.T) {
	for address, want := range map[string]string{"192.0.2.1": "192.0.2.1", "::ffff:192.0.2.1": "192.0.2.1", "2001:db8:1:2:3::4": "2001:db8:1:2::/64", "fe80::1%eth0": "fe80::/64"} {
		if got := sidecar.NetworkOf(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s is in %s, want %s", address, got, want)
		}
	}
}
