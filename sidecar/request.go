package sidecar

// A Stage is the place in a mail server from which a question comes.
type Stage string

// The stages of Exim, in the order in which a message meets them.
const (
	StageRcpt  Stage = "rcpt"  // RCPT ACL, a remote recipient: looks
	StageData  Stage = "data"  // end of the DATA ACL: charges the message
	StageLocal Stage = "local" // acl_not_smtp: charges a message from sendmail
	StageRoute Stage = "route" // our first router, a recipient and attempt at a time: charges what was not
)

// The stages of Postfix's policy protocol. Which of them charges is postfix.charge.
const (
	StagePostfixRcpt Stage = "postfix-rcpt" // RCPT, any recipient
	StagePostfixEnd  Stage = "postfix-end"  // END-OF-MESSAGE
)

// The stages of the milter.
const (
	StageMilterRcpt Stage = "milter-rcpt" // RCPT, any recipient: looks
	StageMilterEnd  Stage = "milter-end"  // the end of the message: charges it
)

// A Request is one question about one message, as a front understood it.
// Empty strings mean unknown, except in Sender, where empty is the null
// sender (RFC 5321, section 4.5.5).
// They may be parts of one longer string: whoever keeps one clones it.
type Request struct {
	Stage         Stage
	ID            string // Exim's message id, unknown before the DATA ACL; Postfix's or Sendmail's queue id
	Sender        string // envelope sender
	Recipients    string // Exim's $recipients, whole; at data and local
	Recipient     string // one address; at rcpt and route
	Auth          string // $authenticated_id, only of an authenticated SMTP client
	Login         string // login name of whoever ran sendmail
	UID           string // numeric user id of whoever ran sendmail
	CWD           string // directory in which sendmail was run
	Script        string // X-PHP-Originating-Script
	ClientAddress string // IP address of the SMTP client; unknown for local submissions
	Original      string // the address that an alias or list redirected; at route
	Charged       bool   // the message was charged at data or local
	Sent          int    // remote recipients already accepted for this message; at rcpt

	// Of Postfix, and of the milter, as far as it tells them.
	Instance   string // what all questions about one message have in common
	ClientPort string // TCP port of the SMTP client, which tells its connection from others
	Count      int    // recipients that Postfix accepted, local ones too; at postfix-end
}

// An Action is what the asking mail server does.
type Action int

// The actions. Accept comes first so that a zero Reply never refuses mail.
const (
	Accept  Action = iota // go on
	Defer                 // 450: try again later; at route: hold
	Reject                // 550
	Discard               // accept and drop; only where configured
)

// RoomUnlimited is the Room of a message that nothing limits.
const RoomUnlimited = 1000000

// A Reply is the verdict on one Request.
type Reply struct {
	Action  Action
	Text    string // what the client is told, without codes; empty for Accept
	Room    int    // at rcpt: remote recipients for which the whole message has room
	Charged bool   // at data and local: nothing is left for the router to charge
	Warning string // of Accept, for Postfix to log; empty for none
	Local   bool   // at milter-rcpt: the recipient is not remote, and never counts
}
