// Package deferfail stops domains, and what else is charged, of which too much mail is
// deferred or fails: they trip, as a circuit breaker does; or those of their authors who alone
// are to blame. It owns the trips, why each bad send is bad, and how the places have answered
// where some were bad. It asks the store how many sends are bad, the settings how many may be,
// and Authors who has sent. It tells policy, the lock directory and the other nodes who is
// tripped, and so blocked, and Authors who is to be stopped alone.
package deferfail
