// Package engine is a whole node: it makes the owners of state, which know nothing of each
// other, and connects them. It owns nothing but them. It asks the caller for a store, a lock
// directory and Exim's queue. It tells each owner what it needs of the others, by one Add call
// for each owner, Blocker and observer.
package engine
