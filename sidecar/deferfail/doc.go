// Package deferfail stops domains of which too much mail is deferred or fails: they trip,
// as a circuit breaker does. It owns the tripped domains, why each bad send is bad, and how
// destinations have answered of late. It asks the store how many sends are bad and the
// settings how many may be. It tells policy, the lock directory and the other nodes which
// domains are tripped, and so blocked.
package deferfail
