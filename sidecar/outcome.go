package sidecar

import (
	"time"

	"sluice/ratelimit"
)

// An Outcome is that the log has told something new of a send that somebody pays for.
type Outcome struct {
	Entry   *LogEntry
	Payer   *Payer
	Token   ratelimit.Token // of the send
	When    time.Time       // when its message arrived
	To      string          // domain of the recipient
	Kind    ratelimit.Outcome
	Cause   Cause // of a bad one
	Excused bool  // it is not held against the payer
	Charged bool  // nobody had asked about the send: it is charged by this line
}
