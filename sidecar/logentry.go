package sidecar

import (
	"strings"
	"time"
)

// An EntryKind is what a line of a mail server's log tells.
type EntryKind uint8

// The kinds of LogEntry. Lines that tell none of this are no entries.
const (
	LogArrived   EntryKind = iota + 1 // a message was accepted
	LogDelivered                      // a recipient got it
	LogDeferred                       // an attempt failed and will be repeated
	LogFailed                         // a recipient will never get it
	LogCompleted                      // the message has left the queue

	// Of Postfix, whose arrivals do not tell the sender.
	LogSender  // who sent the message; told again at every attempt
	LogExpired // all recipients that are deferred have failed

	LogRefused // a recipient was refused, or a whole message where Recipient is empty
	LogRan     // a program was run that may submit a message
)

// A LogEntry is one line of a mail server's log that matters to outcomes, as a
// front parsed it. Nothing in it is judged yet: who is charged, what is remote
// and what is ours is up to Policy.Record.
//
// Its strings are parts of a large block of the log: who keeps one clones it.
type LogEntry struct {
	Kind     EntryKind
	Postfix  bool      // it is Postfix's log: ID is a queue id
	Doubtful bool      // of an outcome: somebody may have made it up, and it charges nobody
	ID       string    // the message's id
	At       time.Time // when it was logged

	Line    string // the whole line, without its end
	Process string // process id of who logged it, where that is known

	// Of LogArrived, as in Request; the sender of Postfix comes with LogSender.
	Sender        string // empty: the null sender
	Auth          string // id of an authenticated SMTP client
	Login         string // login name of whoever ran sendmail
	ClientAddress string // IP address of the SMTP client; empty for local submissions
	Recipients    string // all of them, separated by spaces; empty where they are not logged
	Directory     string // of LogRan, and of an arrival where that is known: where the program was run

	// Of an outcome. LogRefused has Recipient and Text, and what LogArrived has.
	Recipient string // the final address, as the log shows it
	Original  string // the first address where aliases or lists redirected; else empty
	Router    string // empty if the line has none
	Transport string // empty if the line has none
	Text      string // of LogDeferred, LogFailed and LogRefused: what was answered, or what went wrong
}

// clone is one that holds on to nothing else of the log.
func (e *LogEntry) Clone() LogEntry {
	c := *e
	for _, s := range [...]*string{&c.ID, &c.Line, &c.Process, &c.Sender, &c.Auth, &c.Login, &c.ClientAddress,
		&c.Recipients, &c.Directory, &c.Recipient, &c.Original, &c.Router, &c.Transport, &c.Text} {
		*s = strings.Clone(*s)
	}
	return c
}

func (e *LogEntry) IsOutcome() bool {
	return e.Kind == LogDelivered || e.Kind == LogDeferred || e.Kind == LogFailed
}
