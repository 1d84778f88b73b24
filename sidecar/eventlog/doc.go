// Package eventlog answers what was locked, refused and released, when and by whom. It owns
// the records of events and of refusals, of which it keeps so many of each domain and of all,
// over restarts, in notes. It asks nobody. It tells operators, by `sluice events`.
package eventlog
