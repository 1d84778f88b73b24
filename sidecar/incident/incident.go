package incident

import (
	"fmt"
	"regexp"
	"time"

	"sluice/sidecar/event"
)

// An ID names an incident among those of all nodes that share their counts.
type ID struct {
	Node   string `json:"node"`   // that has numbered it
	Number int64  `json:"number"` // 1 is the first of the node; no number is used twice
}

// String is the name by which operators know the incident: mx1-42.
func (i ID) String() string { return fmt.Sprintf("%s-%d", i.Node, i.Number) }

// looks is what the name of an incident looks like: mx1-42, or 42 of this node.
var looks = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]{0,200}-)?[0-9]{1,18}$`)

// IsName reports whether a text looks like the name of an incident.
func IsName(text string) bool { return looks.MatchString(text) }

// An Incident is an immutable snapshot: what it points to is never changed, and must not be.
// Texts, authors and lines are as senders chose them, and pass printable.Of where they
// are shown.
type Incident struct {
	ID
	// Revision is 1 for an incident that was opened, and one more whenever watchers are told
	// of it again. It never goes back, over restarts too.
	Revision int64 `json:"revision"`
	// Domain is whom it is about: a domain, or what else is charged, as relay:203.0.113.9.
	// Empty: it is about a condition of the node.
	Domain    string    `json:"domain,omitempty"`
	Condition Condition `json:"condition,omitempty"`
	Severity  Severity  `json:"severity"` // the worst it ever was
	Opened    time.Time `json:"opened"`
	Closed    time.Time `json:"closed,omitzero"` // zero while it is open
	Causes    []Cause   `json:"causes"`          // the first first
	Culprit   Culprit   `json:"culprit,omitzero"`
	Timeline  []Entry   `json:"timeline"` // the oldest first; at most 64
	Evidence  Evidence  `json:"evidence"`
	Minutes   Minutes   `json:"minutes,omitzero"` // of this node
}

// Open reports whether the incident is not over.
func (i *Incident) Open() bool { return i.Closed.IsZero() }

// A Condition is what may be wrong with a node, whatever its domains do.
type Condition string

// The conditions of a node.
const (
	Redis  Condition = "redis"  // the store that nodes share is away, or not as it should be
	Log    Condition = "log"    // the mail server's log is not read, or parts of it are lost
	Store  Condition = "store"  // counts are not written, or there is no room for more of them
	Locks  Condition = "locks"  // the lock directory is in trouble
	Config Condition = "config" // the configuration, or what it names, is not in force
	Queue  Condition = "queue"  // much waits in Exim's queue, or for long
	Front  Condition = "front"  // questions of mail servers are not answered
)

// A Severity says how urgent an incident is.
type Severity int

// The severities, the least urgent first.
const (
	Info Severity = iota + 1
	Warning
	Critical
)

var severities = [...]string{"", "info", "warning", "critical"}

// String is the word for a severity, in JSON and in the configuration too.
func (s Severity) String() string { return severities[s] }

// MarshalText writes the word.
func (s Severity) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText reads the word.
func (s *Severity) UnmarshalText(text []byte) error {
	for i, word := range severities[1:] {
		if word == string(text) {
			*s = Severity(i + 1)
			return nil
		}
	}
	return fmt.Errorf("%q is no severity; there are info, warning and critical", text)
}

// A Cause is a reason why an incident is open.
type Cause struct {
	Name     string    `json:"name"`            // near, limit, spike, deferfail, culprit; of a node the name of the event
	Scope    string    `json:"scope,omitempty"` // of culprit the author that is stopped, of spike who sends, of near whose limit it is
	Node     string    `json:"node,omitempty"`  // that has seen it, of another one
	Severity Severity  `json:"severity"`
	Since    time.Time `json:"since"`
	Gone     time.Time `json:"gone,omitzero"` // zero while it is there
}

// A Culprit is who sends most of what an incident is about.
type Culprit struct {
	Author  string `json:"author"`            // its key: a mailbox, or script:DIRECTORY, login:NAME ...
	Kind    string `json:"kind"`              // mailbox, script, login, forward, client, service or loopback
	Proof   string `json:"proof"`             // proven, claimed or none
	Account string `json:"account,omitempty"` // that it belongs to; empty: not known
	Count   int64  `json:"count"`             // sends, about; of deferfail bad ones
	Of      int64  `json:"of"`                // of so many
	Stopped bool   `json:"stopped"`           // it alone was stopped
	Usual   int64  `json:"usual,omitempty"`   // what it usually sends in its busiest hours; 0 is unknown
}

// An Entry is one line of a timeline.
type Entry struct {
	At       time.Time  `json:"at"`
	Last     time.Time  `json:"last"`  // of several, the last one's
	Count    int64      `json:"count"` // of several within ten minutes
	Event    event.Kind `json:"event"`
	Severity Severity   `json:"severity"`
	Node     string     `json:"node,omitempty"`  // that has seen it, of another one
	By       string     `json:"by,omitempty"`    // who did it; empty: the machine
	Scope    string     `json:"scope,omitempty"` // whom it was about, beside the domain
	Text     string     `json:"text"`            // what has happened
}

// Evidence is what was copied when it was there to be seen.
type Evidence struct {
	At      time.Time `json:"at,omitzero"` // when Who was copied: at its worst
	Sent    int64     `json:"sent"`        // in the window then
	Tried   int64     `json:"tried"`       // with the distinct ones that were refused
	Refused int64     `json:"refused"`
	Limit   int64     `json:"limit"` // 0 is unlimited
	Who     []Sender  `json:"who"`   // at most 8, who has tried most first
	Lines   []Line    `json:"lines"` // the last one per cause of defers and failures
}

// A Sender is one of those who sent when an incident was at its worst.
type Sender struct {
	Author       string    `json:"author"`
	Proof        string    `json:"proof"`
	Tried        int64     `json:"tried"`
	Sent         int64     `json:"sent"`
	Bad          int64     `json:"bad"`
	Recipients   int64     `json:"recipients"`
	Networks     []string  `json:"networks"`      // of clients, the most frequent first
	MoreNetworks bool      `json:"more_networks"` // there were others
	Destinations []string  `json:"destinations"`
	Subject      string    `json:"subject,omitempty"` // the most frequent one
	FirstSeen    time.Time `json:"first_seen,omitzero"`
}

// A Line is the last line of the mail server's log about one cause of defers and failures.
type Line struct {
	Cause string `json:"cause"`
	Text  string `json:"text"`
}
