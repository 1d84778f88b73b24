// Package sidecar is Sluice's policy: who is charged for a message, whether
// it may go, what the client is told, which lock files are due, and what is
// held back and released.
//
// A front (policyd, milter) turns what a mail server asks into a Request and hands
// it to Policy.Ask. Ask
//
//  1. finds out who pays: payerOf, in identity.go;
//  2. looks up the limits in force: Table.appendSubjects, in table.go;
//  3. charges, or only looks, in a ratelimit store: charge, in decide.go;
//  4. words the verdict: text.go;
//  5. notes what is held (holds.go) and which lock files are due (locks.go).
//
// What became of each send comes from the mail server's log: Policy.Record
// settles it (record.go), explains it (cause.go, bad.go), and a domain with too
// many bad ones trips (trip.go), unless it is a provider's outage (outage.go).
//
// What operators should know of is an event: the package event words it, live_events.go
// makes those that take more than a line.
//
// What is in force is compiled from what the file, a hosting panel (package
// panel) and operators have set: setting.go, settings.go, trail.go.
//
// A Simulation (simulate.go, attempt.go, tally.go) has a Policy decide on what a
// log of the past says; a Replay (replay.go) reads ahead for what Exim knew at once.
//
// The package knows no wire format and no file: the store, the lock directory
// and Exim's queue are the interfaces of ports.go, the clock is an argument.
package sidecar
