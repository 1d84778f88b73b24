// Package eventlog keeps what was locked, refused and released, when and by whom. It owns the
// records of events and of refusals, which are notes and survive restarts; their number is bounded
// by domain and in all. It asks whose a domain is. It tells operators, by `sluice events`, and the
// other nodes.
package eventlog
