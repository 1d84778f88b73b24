package sidecar

import "sluice/ratelimit"

// A Stage is the place in a mail server from which a question comes.
type Stage string

// The stages of Exim, in the order in which a message meets them.
const (
	StageRcpt  Stage = "rcpt"  // RCPT ACL, a remote recipient: checks, and charges nothing
	StageData  Stage = "data"  // end of the DATA ACL: charges the message
	StageLocal Stage = "local" // acl_not_smtp: charges a message from sendmail
	StageRoute Stage = "route" // our first router, for each recipient and attempt: charges what was not yet
)

// The stages of Postfix's policy protocol. Which of them charges is postfix.charge.
const (
	StagePostfixRcpt Stage = "postfix-rcpt" // RCPT, any recipient
	StagePostfixEnd  Stage = "postfix-end"  // END-OF-MESSAGE
)

// The stages of the milter.
const (
	StageMilterRcpt Stage = "milter-rcpt" // RCPT, any recipient: checks, and charges nothing
	StageMilterEnd  Stage = "milter-end"  // the end of the message: charges it
)

// A Request is one question about one message, as a front parsed it. Empty strings
// mean unknown, except in Sender, where empty is the null sender (RFC 5321, section
// 4.5.5). They may be parts of one longer string: clone those that are kept.
type Request struct {
	Stage      Stage
	ID         string // Exim's message id, unknown before the DATA ACL; Postfix's or Sendmail's queue id
	Sender     string // envelope sender
	Recipients string // Exim's $recipients, whole; at data and local
	Recipient  string // one address; at rcpt and route
	Original   string // the address that an alias or list redirected; at route
	Charged    bool   // the message was charged at data or local
	Sent       int    // remote recipients already accepted for this message; at rcpt
	Subject    string // the beginning of the header of that name, decoded; at data and local, from Exim. Anything may be in it

	Submitter
	Connection
	Postfix
}

// A Submitter is who has submitted a message, as far as a mail server knows.
type Submitter struct {
	Auth          string // $authenticated_id, only of an authenticated SMTP client
	Login         string // login name of whoever ran sendmail
	UID           string // numeric user id of whoever ran sendmail
	CWD           string // directory in which sendmail was run
	Script        string // what a header line says of the script that sends, X-PHP-Originating-Script first
	ClientAddress string // IP address of the SMTP client; unknown for local submissions
}

// A Connection is the TCP connection of an SMTP client to the mail server.
type Connection struct {
	ClientPort    string // with ClientAddress it identifies the connection
	ServerAddress string // IP address of the mail server's end, and its port
	ServerPort    string
	ProxyAddress  string // of a proxy that claims the client's address in a PROXY header: its own end of the connection; else empty
	ProxyPort     string
	Socket        string // whose socket the client's end is: "uid:N", SocketLoopback or SocketGone; empty where it is not on this host, or unknown
	Claimed       bool   // there is no client: whoever Socket names has submitted the message, and Exim trusts him to name one
}

// Values of Connection.Socket.
const (
	SocketUID      = "uid:"     // begins "uid:N": of a process of this user
	SocketLoopback = "loopback" // of this host's addresses, but of no process here: a container
	SocketGone     = "gone"     // the client had closed it when Sluice was first asked
)

// Postfix is what only Postfix tells of a message.
type Postfix struct {
	Instance string // the same in all questions about one message
	Count    int    // recipients that Postfix accepted, local ones too; at postfix-end
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
	Text    string // answer to the client, without codes; empty for Accept
	Log     string // what the mail server logs where that is more than Text; else empty
	Room    int    // at rcpt: how many remote recipients the message may have in all
	Charged bool   // at data and local: the router need not charge it
	Warning string // of Accept, for Postfix to log; empty for none
	Local   bool   // at milter-rcpt: the recipient is not remote, and never counts
	Socket  string // Connection.Socket, which the mail server keeps for the next question about the connection
}

// A Block is the verdict on mail of somebody who may send nothing now. Mail that was
// accepted before is held by the router, and does not bounce.
type Block struct {
	SMTP  Action // to a client: Defer or Reject
	Local Action // to sendmail: Reject, or Accept for mail that the router then holds
	By    string // who blocks: ByPanel, ByOperator, ByStop or ByDeferfail
	// Stop is the scope of the stop that blocks; empty for other blocks.
	Stop string
	// Text is the answer for Defer or Reject.
	Text func(Action) RefusalText
	// Retries lets some of the mail go that was sent once; nil lets none go.
	Retries Retries
}

// Retries are the retries that a Block lets pass at the router.
type Retries interface {
	// Left returns how many more may go now.
	Left() int
	// Allow reports whether one send may go now, which was charged before.
	Allow(id string, token ratelimit.Token) bool
}

// A Held is a recipient that the router holds.
type Held struct {
	Payer   Payer
	ID      string // of its message
	Token   ratelimit.Token
	Charged bool // it was charged before: a block holds it, not a limit
	Last    bool // it is released behind the others: a null sender that an alias or list redirects
	Author  Author
	Stop    string // scope of the stop that holds it; empty: it is held for another reason
	// Original is the address that an alias or list redirected; empty if none did.
	Original string
}

// A Room is how much of a payer's held mail would be accepted now.
type Room struct {
	Sends   int                // recipients
	Retries int                // recipients that were charged before, and may be tried again
	Of      func(a Author) int // how many of Sends may be an author's, who leaves room to others; nil: all
}

// A RefusalText is how a refusal is worded.
type RefusalText struct {
	Text    string  // to the letter, for operators' scripts search for it
	Why     string  // what is counted, and when there is room again
	Culprit Culprit // who has most of it; not everybody may be told
	Where   string  // what only operators need: files and nodes; empty for none
	Log     string  // what only the log has, whatever clients are told; empty for none
}

// Who blocks, as status shows it.
const (
	ByPanel     = "panel"
	ByOperator  = "operator"
	ByDeferfail = "deferfail"
	ByStop      = "stop"
)
