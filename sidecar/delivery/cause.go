package delivery

import (
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
)

// Words by which a cause is known, in lower case. They are those of Exim 4.9x
// (deliver.c, transports/smtp.c), of Postfix and of the servers that it talks to.
var (
	greylistWords    = []string{"greylist", "graylist", "grey-list", "gray-list", "grey list", "gray list", "postgrey"}
	noUserWords      = []string{"user unknown", "unknown user", "no such user", "unknown recipient", "does not exist", "no mailbox here", "recipient address rejected: undeliverable", "unknown address", "invalid recipient", "no such recipient", "no such mailbox", "mailbox not found", "user not found"}
	unroutableWords  = []string{"unrouteable", "unroutable"}
	dnsWords         = []string{"host lookup", "lookup failed", "mx record", "dns", "no host found", "non-existent hosts", "host or domain name not found", "name service error"}
	unreachableWords = []string{"connection refused", "connection timed out", "timed out", "timeout", "closed connection", "connection reset", "no route", "unreachable", "could not connect", "retry timeout exceeded", "broken pipe", "lost connection", "tls session"}
)

// causeOf finds the cause in what was answered.
func causeOf(e *sidecar.LogEntry) sidecar.Cause {
	text := strings.ToLower(withoutAddress(e.Text))
	code, enhanced := replyCode(text)
	switch {
	case code == '4' && containsAny(text, greylistWords):
		return sidecar.Greylist
	case code == '4':
		return sidecar.RemoteDefer
	case code == '5' && (strings.HasPrefix(enhanced, "5.1.1") || enhanced == "5.1.6" || enhanced == "5.1.3" || containsAny(text, noUserWords)):
		return sidecar.NoSuchUser
	case code == '5':
		return sidecar.RemoteReject
	case containsAny(text, unroutableWords):
		return sidecar.NoSuchUser
	case containsAny(text, dnsWords):
		return sidecar.DNS
	case containsAny(text, unreachableWords):
		return sidecar.Unreachable
	}
	return sidecar.OtherCause
}

// withoutAddress leaves out the address of the command that was answered, "RCPT
// TO:<...>", which the sender may have made to look like an answer.
func withoutAddress(text string) string {
	begin := strings.Index(text, ":<")
	if begin < 0 {
		return text
	}
	end := envelope.IndexUnquoted(text[begin+2:], '>')
	if end < 0 {
		return text
	}
	return text[:begin+1] + text[begin+2+end+1:]
}

// replyCode finds the remote server's reply in a lower-case text: the first
// digit of its code, and its enhanced code (RFC 3463) if it has one. It stands
// behind "after COMMAND: ", or "said: " in Postfix's logs.
func replyCode(text string) (class byte, enhanced string) {
	rest := text
	for _, before := range [...]string{"smtp error from remote mail", "said: "} {
		if i := strings.Index(text, before); i >= 0 {
			rest = text[i:]
			break
		}
	}
	for i := 0; i+5 <= len(rest); i++ {
		if rest[i] != ':' || rest[i+1] != ' ' || !isReply(rest[i+2:]) {
			continue
		}
		reply := rest[i+6:]
		end := strings.IndexFunc(reply, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if end < 0 {
			end = len(reply)
		}
		return rest[i+2], reply[:end]
	}
	return 0, ""
}

// isReply tells whether a text begins with an SMTP reply code of 4xx or 5xx.
func isReply(s string) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return len(s) >= 4 && (s[0] == '4' || s[0] == '5') && digit(s[1]) && digit(s[2]) && (s[3] == ' ' || s[3] == '-')
}

func containsAny(text string, words []string) bool {
	for _, w := range words {
		if strings.Contains(text, w) {
			return true
		}
	}
	return false
}
