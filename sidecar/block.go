package sidecar

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
