package config

// Where Postfix's questions charge: postfix.charge.
const (
	ChargeAtRcpt = "rcpt"           // each recipient, when it is let pass
	ChargeAtEnd  = "end-of-message" // the whole message, when all of it is there
)
