package delivery

import (
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
)

// Words that show a cause, in lower case: those of Exim 4.9x (deliver.c,
// transports/smtp.c), of Postfix and of common servers.
var (
	greylistWords = []string{"greylist", "graylist", "grey-list", "gray-list", "grey list", "gray list", "postgrey"}
	noUserWords   = []string{"user unknown", "unknown user", "no such user", "unknown recipient", "does not exist", "no mailbox here", "recipient address rejected: undeliverable", "unknown address", "invalid recipient", "no such recipient", "no such mailbox", "mailbox not found", "user not found",
		"unrouteable", "unroutable", "recipient not found", "no such address", "unknown local", "user doesn't", "doesn't exist", "#5.1.1", "recipient address rejected: domain not found"}
	spamWords        = []string{"spam", "blocked", "blacklist", "blocklist", "black list", "block list", "reputation"}
	unroutableWords  = []string{"unrouteable", "unroutable", "no smtp service", "is syntactically invalid", "does not accept mail"}
	dnsWords         = []string{"host lookup", "lookup failed", "address lookups", "lookup ip address", "lookup of ip address", "tlsa lookup", "look up host", "mx record", "dns", "no host found", "non-existent hosts", "host or domain name not found", "name service error"}
	unreachableWords = []string{"connection refused", "connection timed out", "timed out", "timeout", "closed connection", "connection reset", "no route", "unreachable", "could not connect", "retry timeout exceeded", "broken pipe", "lost connection", "tls session", "failing for a long time"}
)

// causeOf finds the cause in the remote server's answer, or in Exim's own words.
func causeOf(e *logline.Entry) sidecar.Cause {
	text := withoutAddresses(strings.ToLower(withoutAddress(e.Text)), e)
	code, enhanced, reply := replyCode(text)
	switch {
	case code == '4' && containsAny(text, greylistWords):
		return sidecar.Greylist
	case code == '4' && containsAny(reply, spamWords):
		return sidecar.CalledSpam
	case code == '4':
		return sidecar.RemoteDefer
	case code == '5' && (strings.HasPrefix(enhanced, "5.1.1") || enhanced == "5.1.2" || enhanced == "5.1.3" || enhanced == "5.1.6" || containsAny(text, noUserWords)):
		return sidecar.NoSuchUser
	case code == '5' && containsAny(reply, spamWords):
		return sidecar.CalledSpam
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

// withoutAddress removes the address in "RCPT TO:<...>", the command that was answered:
// a sender may have made it look like an answer.
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

// withoutAddresses removes addresses from a lower-case text: a server repeats the recipient, or
// the sender, and whoever sends chose both. Words in them do not tell what the server meant.
func withoutAddresses(text string, e *logline.Entry) string {
	local, _ := envelope.Cut(strings.ToLower(e.Recipient))
	text = strings.ReplaceAll(text, "<"+local+">", "<>")
	if strings.Contains(e.Original, "@") { // it may have blanks, in quotes
		text = strings.ReplaceAll(text, strings.ToLower(e.Original), "")
	}
	var kept strings.Builder
	for at := strings.IndexByte(text, '@'); at >= 0; at = strings.IndexByte(text, '@') {
		end := strings.IndexAny(text[at:], " >")
		if end < 0 {
			end = len(text) - at
		}
		kept.WriteString(text[:strings.LastIndexAny(text[:at], " <")+1])
		text = text[at+end:]
	}
	return kept.String() + text
}

// replyCode finds the remote server's reply in a lower-case text: the first
// digit of its code, its enhanced code (RFC 3463) if it has one, and what follows the code. Exim logs the reply
// behind "after COMMAND: ", Postfix behind "said: ".
func replyCode(text string) (class byte, enhanced, reply string) {
	rest := text
	for _, before := range [...]string{"smtp error from remote mail", "said: "} {
		if i := strings.Index(text, before); i >= 0 {
			rest = text[i:]
			break
		}
	}
	rest = ": " + rest // it may begin with the reply
	for i := 0; i+5 <= len(rest); i++ {
		if rest[i] != ':' || rest[i+1] != ' ' || !isReply(rest[i+2:]) {
			continue
		}
		reply = rest[min(i+6, len(rest)):]
		end := strings.IndexFunc(reply, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if end < 0 {
			end = len(reply)
		}
		return rest[i+2], reply[:end], reply
	}
	return 0, "", ""
}

// isReply reports whether a text begins with an SMTP reply code of 4xx or 5xx. It may be all of the
// reply; Exim writes a colon behind it when it gives up.
func isReply(s string) bool {
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	return len(s) >= 3 && (s[0] == '4' || s[0] == '5') && digit(s[1]) && digit(s[2]) && (len(s) == 3 || strings.IndexByte(" -:", s[3]) >= 0)
}

func containsAny(text string, words []string) bool {
	return slices.ContainsFunc(words, func(w string) bool { return strings.Contains(text, w) })
}
