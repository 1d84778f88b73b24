// Package engine is a whole node: it makes the owners of state and connects them, which
// know nothing of each other. It owns nothing but them. It asks the caller for a store, a
// lock directory and Exim's queue, and tells each owner what it needs of the others: by
// one Add call each, for owners, Blockers and observers.
package engine
