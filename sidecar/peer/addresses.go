package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar"
)

// Addresses are the IP addresses of this host as they are now. Mail that comes from one of
// them comes from a program on this host. Many goroutines may call Has at once.
type Addresses struct {
	now atomic.Pointer[map[netip.Addr]int] // with the index of their network interfaces
}

// ReadAddresses reads the addresses of this host. After an error, which says that the kernel
// does not tell them, the Addresses are the loopback's alone.
func ReadAddresses() (*Addresses, error) {
	a := new(Addresses)
	a.now.Store(&map[netip.Addr]int{})
	return a, a.read()
}

// Has reports whether an address is one of this host, the loopback's included.
func (a *Addresses) Has(ip netip.Addr) bool {
	ip = sidecar.PlainAddress(ip)
	if ip.IsLoopback() {
		return true
	}
	_, ok := (*a.now.Load())[ip]
	return ok
}

// index is the index of the network interface that has an address of this host; else 0.
// The loopback's has more addresses than it lists, and always this index.
func (a *Addresses) index(ip netip.Addr) uint32 {
	const loopback = 1
	if ip = sidecar.PlainAddress(ip); ip.IsLoopback() {
		return loopback
	}
	return uint32((*a.now.Load())[ip])
}

// Run keeps the addresses up to date until ctx ends: the kernel tells of each change
// (rtnetlink(7)).
func (a *Addresses) Run(ctx context.Context) error {
	fd, err := openNetlink(unix.NETLINK_ROUTE, unix.RTMGRP_IPV4_IFADDR|unix.RTMGRP_IPV6_IFADDR)
	if err != nil {
		return err
	}
	changes := os.NewFile(uintptr(fd), "netlink") // its reads have a deadline
	defer changes.Close()
	defer context.AfterFunc(ctx, func() { changes.SetDeadline(time.Unix(1, 0)) })()
	buf := make([]byte, 64<<10)
	for {
		// From here on changes are told of; what came before is read now.
		if err := a.read(); err != nil {
			return err
		}
		// What has changed does not matter, all is read anew. ENOBUFS says that more
		// changed than the socket has room for.
		_, err := changes.Read(buf)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && !errors.Is(err, unix.ENOBUFS):
			return fmt.Errorf("follow the addresses of this host: %w", err)
		}
	}
}

// read reads all addresses.
func (a *Addresses) read() error {
	table, err := syscall.NetlinkRIB(unix.RTM_GETADDR, unix.AF_UNSPEC)
	if err != nil {
		return fmt.Errorf("ask the kernel for the addresses of this host: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(table)
	if err != nil {
		return fmt.Errorf("read the addresses of this host: %w", err)
	}
	all := map[netip.Addr]int{}
	for _, m := range messages {
		if ip, index := addressOf(&m); ip.IsValid() {
			all[ip] = index
		}
	}
	a.now.Store(&all)
	return nil
}

// addressOf is the address in a message, and the index of its interface. On a point-to-point
// link there are two, IFA_LOCAL being ours and IFA_ADDRESS that of the other end.
func addressOf(m *syscall.NetlinkMessage) (ip netip.Addr, index int) {
	if m.Header.Type != unix.RTM_NEWADDR || len(m.Data) < unix.SizeofIfAddrmsg {
		return ip, 0
	}
	attributes, err := syscall.ParseNetlinkRouteAttr(m)
	if err != nil {
		return ip, 0
	}
	for _, at := range attributes {
		if at.Attr.Type == unix.IFA_LOCAL || at.Attr.Type == unix.IFA_ADDRESS && !ip.IsValid() {
			if addr, ok := netip.AddrFromSlice(at.Value); ok {
				ip = sidecar.PlainAddress(addr)
			}
		}
	}
	return ip, int(binary.NativeEndian.Uint32(m.Data[4:])) // ifa_index
}
