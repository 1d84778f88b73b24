// Package limit is thresholds: how much a domain, mailbox, account or special subject
// may send, and how many of its sends may go wrong. It owns the table of those in force, which is never
// changed once it is made. It asks nobody. It tells whoever decides about mail what
// applies to whom, and who has set it.
package limit
