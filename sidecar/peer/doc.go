// Package peer finds out who is at the other end of a socket on this host. It owns the
// list of this host's own IP addresses. It asks the kernel. It tells the servers that
// answer on unix sockets, which admit only some users, and whoever must know whether a
// client is on this host.
package peer
