// Package peer finds out which process is at the other end of a unix socket. It owns
// nothing. It asks the kernel. It tells the servers that answer there, which admit only
// some users.
package peer
