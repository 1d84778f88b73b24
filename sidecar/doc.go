// Package sidecar is the vocabulary of Sluice's policy: what a mail server asks and
// is answered, who pays, what a log tells, which lock files there are, and the ports
// through which the packages below it reach a store, a lock directory and Exim's queue.
// It owns no state, asks nobody and tells nobody. Each package below it is a room of
// one owner of state; the owners do not know each other, and package engine connects
// them.
//
// A front (policyd, milter) turns what a mail server asks into a Request and hands it
// to Policy.Ask, in policy/policy.go, which
//
//  1. finds out who pays: Rules.Payer, in identity/identity.go;
//  2. asks whether anything of theirs may go: Policy.BlockOf, in policy/block.go, of the
//     panel (suspension), operators' locks (lock) and too many bad sends (deferfail);
//  3. looks up the limits in force: Table.AppendSubjects, in limit/table.go;
//  4. charges, or only looks, in a ratelimit store: Policy.charge, in policy/decide.go;
//  5. words the verdict: policy/text.go;
//  6. notes what the router holds (hold) and tells those who observe decisions.
//
// What became of each send comes from the mail server's log: Recorder.Record, in
// delivery/record.go, settles it. Too many bad ones trip their domain: Breaker.Reconcile,
// in deferfail/breaker.go.
//
// What follows from the counts is made true beside the questions: Loop.Step, in
// reconcile/reconcile.go, has each owner look at the domains that have changed, makes and
// removes lock files (lock), and has Exim deliver what was held (hold).
//
// What is in force is compiled from what the file (config), a hosting panel (panel) and
// operators have set: Live.swap, in settings/live.go. The commands are carried out by an
// Operator, in operator/operator.go. What operators should know of is an event: all are in
// event/kinds.go. A Simulation, in simulate/simulate.go, has an engine decide on the log
// of another time.
package sidecar
