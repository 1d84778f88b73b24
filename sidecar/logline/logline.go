package logline

import (
	"fmt"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/printable"
)

// A Kind is what a line of a mail server's log reports.
type Kind uint8

// The kinds of Entry. Other lines are not made into entries.
const (
	Arrived   Kind = iota + 1 // a message was accepted
	Delivered                 // a recipient got it
	Deferred                  // an attempt failed and will be repeated
	Failed                    // a recipient will never get it
	Completed                 // the message has left the queue
	Moved                     // the message is in another queue of Exim's now, or back in its main one
	Lost                      // Exim has dropped the message: its client had gone before it was told that it is accepted

	// Postfix only: its log names the sender in a line of its own, after the arrival.
	Sender  // who sent the message; repeated at every attempt
	Expired // all recipients that are deferred have failed

	Refused // a recipient was refused, or a whole message where Recipient is empty
	Ran     // a program was run that may submit a message
)

// An Entry is one line of a mail server's log that matters to outcomes, as a front
// parsed it. Who is charged, and which recipients are remote, is decided later, by
// delivery.Recorder.
//
// Its strings are parts of a large block of the log: use Clone to keep an entry.
type Entry struct {
	Kind     Kind
	Postfix  bool      // it is Postfix's log: ID is a queue id
	Doubtful bool      // of an outcome: it may be forged, and charges nobody
	ID       string    // the message's id
	At       time.Time // when it was logged

	Line    string // the whole line, without its end
	Process string // process id of who logged it, where that is known

	Arrival
	Attempt
}

// An Arrival is what a line of kind Arrived says about the message; the fields mean
// the same as in sidecar.Request. For Postfix, Sender comes later, with Sender.
type Arrival struct {
	Sender        string // empty: the null sender
	Auth          string // id of an authenticated SMTP client
	Login         string // login name of whoever ran sendmail
	ClientAddress string // IP address of the SMTP client; empty for local submissions
	Answers       string // of a local message without a sender: id of the one that it answers, where it says so; see delivery.Bounce
	Recipients    string // all of them, separated by spaces; empty where they are not logged
	MessageID     string // of the header, which the sender chooses; empty where it is not logged
	Directory     string // of Ran, and of an arrival where that is known: where the program was run
}

// An Attempt is what the line of an outcome says about one recipient. A line of kind
// Refused has Recipient and Text of it, and an Arrival.
type Attempt struct {
	Recipient string // the final address, as the log shows it
	Original  string // the first address where aliases or lists redirected; else empty
	Router    string // empty if the line has none
	Transport string // empty if the line has none
	Host      string // name of the remote host that was spoken to, as the log shows it; empty if the line has none
	Text      string // of Deferred, Failed and Refused: the remote answer, or what went wrong; of Moved: the queue where it is now
}

// HoldDomain is where our router sends what it holds; see exim-config/routers.conf.
const HoldDomain = "hold.sluice.invalid"

// QuarantineQueue is the named queue of Exim that has what operators have quarantined. No queue
// runner of a site looks there.
const QuarantineQueue = "sluice-quarantine"

// A Departure is that a message has left the queue where it was.
type Departure struct {
	ID    string
	Moved bool   // it is in another queue now; false: in none
	To    string // that queue, empty for Exim's main one
	At    time.Time
}

// Clone copies an entry with its strings, so that the block of the log can be freed.
func (e *Entry) Clone() Entry {
	c := *e
	for _, s := range [...]*string{&c.ID, &c.Line, &c.Process, &c.Sender, &c.Auth, &c.Login, &c.ClientAddress,
		&c.Answers, &c.Recipients, &c.MessageID, &c.Directory, &c.Recipient, &c.Original, &c.Router, &c.Transport, &c.Host, &c.Text} {
		*s = strings.Clone(*s)
	}
	return c
}

// IsOutcome reports whether the entry says what became of one recipient.
func (e *Entry) IsOutcome() bool {
	return e.Kind == Delivered || e.Kind == Deferred || e.Kind == Failed
}

// An Outcome is news from the log about a send for which somebody is charged.
type Outcome struct {
	Entry   *Entry
	Payer   *sidecar.Payer
	Author  *sidecar.Author // who of them has sent it
	Token   ratelimit.Token // of the send
	When    time.Time       // when its message arrived
	To      string          // domain of the recipient
	Result  ratelimit.Outcome
	Cause   sidecar.Cause // of a defer or failure
	Excused bool          // it does not count as bad for the payer
	Charged bool          // nobody had asked about the send: this line of the log charges it
}

// File is the file of a log that is written at a time. Its path may have the date as Exim's
// log_file_path has it: %D is 20061102, and %M 200611.
func File(path string, at time.Time) string {
	return strings.NewReplacer("%D", at.Format("20060102"), "%M", at.Format("200601")).Replace(path)
}

// Progress is how far a log of the mail server was read.
type Progress struct {
	Key     string     `json:"key"`     // configuration key with the log's path: exim.mainlog or postfix.log
	File    string     `json:"file"`    // the file that is read now: the log, or a rotated one
	Read    int64      `json:"read"`    // bytes
	Size    int64      `json:"size"`    // bytes
	Last    time.Time  `json:"last"`    // time of the last line read
	Trouble string     `json:"trouble"` // why it cannot be read; empty if it can
	Lost    *time.Time `json:"lost"`    // when a part of it was last found missing; null: not since the start
}

// LostPart says what it means that a part of the log was missing. Lost must not be nil.
func (l *Progress) LostPart() string {
	return fmt.Sprintf("at %s a part of the log that %s names was missing: outcomes in it are not counted, nor what passed unasked",
		printable.DateTime(*l.Lost), l.Key)
}
