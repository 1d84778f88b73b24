// Package reconcile brings lock files, trips and held mail in line with the counts. It does
// so in the background: no answer to a mail server waits for it. It owns the set of dirty
// domains, whose counts have changed. It asks the store for their counts and epochs. It
// tells each Owner when to start, tick, reconcile, survey and stop, and that a domain was
// reset.
package reconcile
