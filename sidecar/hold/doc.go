// Package hold keeps track of the mail that waits in Exim's queue because the router held
// it. It owns the held recipients, in memory and in notes. It asks policy, by a func, for
// how much of it there is room now, and is told by policy what is held and by delivery what
// has left. It tells Exim's queue to deliver what has room.
package hold
