// Package reconcile has what follows from the counts made true beside the answers to
// mail: lock files, trips, releases. It owns the set of dirty domains, whose counts have
// changed. It asks the store for their counts and epochs. It tells each Owner when to
// start, tick, reconcile, survey and stop, and that a domain was reset.
package reconcile
