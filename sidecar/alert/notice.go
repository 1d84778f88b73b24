package alert

import (
	"strings"
	"time"

	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

// A Notice is one thing that operators are told on one channel. It is what is posted to a webhook
// and handed to a program, as JSON. What senders chose in it is cleaned.
type Notice struct {
	ID       string            `json:"id"` // the same if the same thing comes twice
	At       time.Time         `json:"at"`
	Node     string            `json:"node"`
	State    State             `json:"state"`
	Event    string            `json:"event"` // the worst cause; or digest, or test
	Severity incident.Severity `json:"severity"`
	Title    string            `json:"title"`          // one line
	Text     string            `json:"text"`           // several
	Card     string            `json:"card,omitempty"` // the incident as a picture, several lines
	About
	Incidents []string `json:"incidents,omitempty"` // of a digest
}

// About is the incident that a Notice is about.
type About struct {
	Incident string    `json:"incident,omitempty"`
	Domain   string    `json:"domain,omitempty"`
	Culprit  string    `json:"culprit,omitempty"`
	Opened   time.Time `json:"opened,omitzero"`
	Closed   time.Time `json:"closed,omitzero"`
}

// A State says why a Notice comes.
type State string

// The states.
const (
	StateOpen    State = "open"    // the incident has been opened, or opened again
	StateChanged State = "changed" // it is worse, or has another culprit
	StateStill   State = "still-open"
	StateClosed  State = "closed"
	StateAction  State = "action" // what an operator has done, with tell_actions
	StateDigest  State = "digest" // several incidents, for which there was no room
	StateTest    State = "test"
)

// about are the incidents that a notice is about.
func (n *Notice) about() []string {
	if n.Incident == "" {
		return n.Incidents
	}
	return []string{n.Incident}
}

// These bound the texts of a notice, in bytes.
const (
	maxTitle = 200
	maxLine  = 400
	maxText  = 16 << 10
)

// clean is a text that a sender or a remote server may have chosen, as one line that can be shown
// anywhere.
func clean(text string, most int) string {
	return printable.Shorten(printable.Of(text), most)
}

// cleanLines is clean for several lines, each by itself.
func cleanLines(text string) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, clean(strings.TrimSuffix(line, "\n"), maxLine))
	}
	text = strings.Join(lines, "\n")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "\n..."
	}
	return text + "\n"
}
