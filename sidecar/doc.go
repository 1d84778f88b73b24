// Package sidecar is the vocabulary of Sluice's policy: what a mail server asks and
// is answered, who is charged, what a line of its log says, which lock files there are,
// and the interfaces to counts and resets. It owns no state.
// It asks nobody. It tells nobody. Each package below it says in its comment, as here,
// what it owns, whom it asks and whom it tells. An owner keeps one kind of state; owners
// do not import each other, and package engine connects them.
//
// The fronts are the packages that speak with other programs. Those that mail servers ask
// (policyd, milter) turn a question into a Request. Finder.Ask, in peer/asker.go, adds whose
// program the client is, if it is on this host, and hands it to Policy.Ask, in
// policy/policy.go, which
//
//  1. finds out who is charged, and who of them sends: Rules.Identify, in identity/payer.go;
//  2. asks whether their mail is blocked: Policy.BlockOf, in policy/block.go, by the
//     panel (suspension), a stop of one author (stop), an operator's lock (lock) or too many
//     bad sends (deferfail);
//  3. looks up the limits in force: Table.AppendSubjects, in limit/table.go;
//  4. charges, or only checks, in a ratelimit store: Policy.charge, in policy/charge.go;
//  5. words the verdict: Policy.refuseWith, in policy/refuse.go, and Refusal.Text, in wording/limit.go;
//  6. records what the router holds (hold) and informs those who observe decisions.
//
// The mail server's log says what became of each send: Recorder.Record, in
// delivery/record.go, adds it to the counts. Too many defers and failures block their
// domain: Breaker.Reconcile, in deferfail/breaker.go.
//
// Lock files follow the counts in the background: Loop.Step, in reconcile/reconcile.go,
// has each owner check the domains that have changed, makes and removes lock files
// (lock), and has Exim deliver what was held (hold).
//
// What operators do about abuse beside that, root does from the command line and never serve:
// the steps of a clean are in clean, each remedy has a package (quarantine, login, script,
// scan), package remedy does them for a command and takes them back, and what was done is on
// record in action.
//
// The settings in force are compiled from the file (config), a hosting panel (panel) and
// the changes of operators: Live.swap, in live/live.go. The commands are carried out
// by an Operator, in operator/operator.go. What operators should know of is an event: all
// are in event/kinds.go. A Simulation, in simulate/simulate.go, has an engine decide again
// on the mail of an old log, to show what other limits would have done to it.
package sidecar
