package sketch

import (
	"encoding/binary"
	"net/netip"
)

// local is the network of a client on this host, or of none.
const local = 1

// Network packs a client's network, of IPv4 its /24, of IPv6 its /48, into a number.
func Network(client string) uint64 {
	ip, err := netip.ParseAddr(client)
	ip = ip.Unmap()
	switch {
	case err != nil || ip.IsLoopback():
		return local
	case ip.Is4():
		b := ip.As4()
		return 4<<48 | uint64(b[0])<<16 | uint64(b[1])<<8 | uint64(b[2])
	}
	b := ip.As16()
	return 6<<48 | binary.BigEndian.Uint64(b[:8])>>16
}

// NetworkName is the name of a packed network.
func NetworkName(n uint64) string {
	switch n >> 48 {
	case 4:
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(n >> 16), byte(n >> 8), byte(n)}), 24).String()
	case 6:
		var b [16]byte
		binary.BigEndian.PutUint64(b[:], n<<16)
		return netip.PrefixFrom(netip.AddrFrom16(b), 48).String()
	}
	return "this host"
}
