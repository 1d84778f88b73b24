// Package peer finds out who is at the other end of a socket on this host. It owns the
// list of this host's own IP addresses (Addresses), and a netlink socket over which it asks
// the kernel whose a TCP connection of this host is (Sockets). It tells the servers that
// answer on unix sockets, which admit only some users, whoever must know whether a
// client is on this host, and by a Finder, which stands between a front and its Asker, whose
// program the client is.
package peer
