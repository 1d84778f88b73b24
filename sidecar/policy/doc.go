// Package policy decides on mail: may this message, or this one recipient, be sent now?
// It owns the open transactions of Postfix and the counters of its own decisions. It asks
// the Blockers whether the payer is blocked, the settings in force for the limits, and the
// store, which counts sends, for room. It tells HeldMail what the router holds, and
// its Observers what was decided. Read policy.go, decide.go,
// charge.go and refuse.go, in this order; the other files are about one kind of question each.
package policy
