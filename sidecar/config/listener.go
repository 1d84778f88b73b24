package config

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
)

// A Listener is an address to listen on: "unix:/PATH", or "tcp:HOST:PORT", for mail servers on
// the loopback.
type Listener string

// Network is "unix" or "tcp", as package net has it.
func (l Listener) Network() string {
	network, _, _ := strings.Cut(string(l), ":")
	return network
}

// Address is the path, or HOST:PORT.
func (l Listener) Address() string {
	_, address, _ := strings.Cut(string(l), ":")
	return address
}

// UnixSocket is the path of the first unix socket of listen.policy.
func UnixSocket(policy []Listener) (string, error) {
	for _, l := range policy {
		if l.Network() == "unix" {
			return l.Address(), nil
		}
	}
	return "", errors.New("listen.policy has no unix socket")
}

// maxSocketPath is the longest path of a unix socket in bytes: unix(7) allows 108 with the
// NUL at the end, and a socket first has a name that is up to eight bytes longer.
const maxSocketPath = 99

func socketPath(s string) bool {
	return filepath.IsAbs(s) && len(s) <= maxSocketPath && !strings.ContainsRune(s, 0)
}

// RootPorts are the ports below this one, on which only root may listen, unless the host
// has net.ipv4.ip_unprivileged_port_start set lower.
const RootPorts = 1024

// policyListener allows ports of root's only: on any other a local user could listen while
// sluice is down, be told the token of Exim's questions, and answer them.
func policyListener(s string) (string, error) {
	l, err := milterListener(s)
	if err == nil && Listener(l).Network() == "tcp" {
		_, port, _ := net.SplitHostPort(Listener(l).Address())
		if n, err := strconv.Atoi(port); err != nil || n >= RootPorts {
			return "", fmt.Errorf(`"unix:/PATH" or "tcp:127.0.0.1:PORT" with a port below %d, on which only root may listen, as 293`, RootPorts)
		}
	}
	return l, err
}

func milterListener(s string) (string, error) {
	return unixOr(loopbackAddress, s, `"unix:/PATH" (99 bytes at most) or "tcp:127.0.0.1:PORT" (the loopback only)`)
}

// metricsListener allows ports of root's only, as policyListener does: on any other a local user
// could listen while sluice is down, and be told the token of Prometheus.
func metricsListener(s string) (string, error) {
	return unixOr(rootAddress, s, fmt.Sprintf(
		`"unix:/PATH" (99 bytes at most) or "tcp:ADDRESS:PORT" with a port below %d, on which only root may listen, as "tcp:127.0.0.1:294"`, RootPorts))
}

func rootAddress(s string) (string, error) {
	a, err := netip.ParseAddrPort(s)
	if err == nil && (a.Port() == 0 || a.Port() >= RootPorts) {
		err = errors.New("it is a port of everybody's")
	}
	return s, err
}

// unixOr allows unix sockets, and the addresses that tcp does; wanted says what these are.
func unixOr(tcp func(address string) (string, error), s, wanted string) (string, error) {
	l := Listener(s)
	switch l.Network() {
	case "unix":
		if socketPath(l.Address()) {
			return s, nil
		}
	case "tcp":
		if a, err := tcp(l.Address()); err == nil {
			return "tcp:" + a, nil
		}
	}
	return "", errors.New(wanted)
}

func adminListener(s string) (string, error) {
	if l := Listener(s); l.Network() == "unix" && socketPath(l.Address()) {
		return s, nil
	}
	return "", errors.New(`"unix:/PATH" (99 bytes at most)`)
}

// loopbackAddress allows numeric addresses only: the resolver decides what "localhost"
// means.
func loopbackAddress(s string) (string, error) {
	host, port, _ := net.SplitHostPort(s)
	n, err := strconv.ParseUint(port, 10, 16)
	if a, bad := netip.ParseAddr(host); bad == nil && a.IsLoopback() && err == nil && n > 0 {
		return s, nil
	}
	return "", errors.New(`"127.0.0.1:PORT" (the loopback only)`)
}
