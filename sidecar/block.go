package sidecar

import (
	"errors"
	"fmt"
	"time"
)

// A Blocker knows a reason why nothing of somebody may go, whatever is counted.
type Blocker interface {
	// Block tells whether it has one now. a is who is known to send, who is who
	// pays. It is asked with every question, and must not wait.
	Block(now time.Time, a Author, who identity) (Block, bool)
}

// An Author is what is known of who sends a message. What a message says of itself
// is no part of it.
type Author struct {
	Auth     string // id of an authenticated SMTP client
	Login    string // login name of whoever ran sendmail
	Client   string // IP address of the SMTP client
	Original string // the address that an alias or list has redirected
}

// A Block is what a mail server is told of mail that may not go. What was accepted
// already is held by the router, and never bounced for it.
type Block struct {
	SMTP  Action // to a client: Defer or Reject
	Local Action // to sendmail: Reject, or Accept, for what the router then holds
	By    string // who blocks: ByPanel, ByOperator or ByDeferfail
	// Text is what is answered with an action, Defer or Reject.
	Text func(Action) string
}

// Who blocks, as status shows it.
const (
	ByPanel     = "panel"
	ByOperator  = "operator"
	ByDeferfail = "deferfail"
)

// ErrStopped is wrapped by errors about a domain that the panel goes on to stop.
var ErrStopped = errors.New("still stopped by the panel")

// verb is what a panel does to whom it stops.
func (s Stop) verb() string {
	if s.Suspended {
		return "suspends"
	}
	return "holds"
}

// blockOf finds the first Block of somebody.
func (p *Core) blockOf(now time.Time, a Author, who identity) (Block, bool) {
	for _, blocker := range p.blockers {
		if b, blocked := blocker.Block(now, a, who); blocked {
			return b, true
		}
	}
	return Block{}, false
}

// panelBlocker blocks whom the panel has suspended, or, with suspended false, has
// put on hold. A suspension is refused for good and speaks before a lock by hand.
type panelBlocker struct {
	settings  func() *Settings
	suspended bool
}

func (b panelBlocker) Block(_ time.Time, _ Author, who identity) (Block, bool) {
	s := b.settings()
	whose, by := s.stopOf(who)
	if whose == "" || by.Suspended != b.suspended {
		return Block{}, false
	}
	block := Block{SMTP: Defer, Local: Accept, By: ByPanel}
	text := textHeld
	if by.Suspended {
		block.SMTP, block.Local, text = Reject, Reject, textSuspended
	}
	block.Text = func(Action) string {
		return fmt.Sprintf(text, whose) + fmt.Sprintf(" [%s; sluice on %s]", by.Place, s.Node)
	}
	return block, true
}

// stopOf is what the panel has stopped of somebody, and how refusals call it:
// suspended before on hold, and of those the most specific.
func (s *Settings) stopOf(who identity) (whose string, by Stop) {
	if len(s.stops) == 0 {
		return "", Stop{}
	}
	names := [...]string{who.mailbox, who.domain, ""}
	if who.account != "" {
		names[2] = accountPrefix + who.account
	}
	for _, name := range names {
		if st, stopped := s.stops[name]; name != "" && stopped && (whose == "" || st.Suspended && !by.Suspended) {
			whose, by = titleOf(name), st
		}
	}
	return whose, by
}
