package mainlog

import (
	"strings"

	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
)

// hostInText finds the host in the text of a line without H=, as Exim before 4.87 writes what
// went wrong (transports/smtp.c):
//
//	SMTP error from remote mail server after COMMAND: host NAME [ADDRESS]: REPLY
//	SMTP timeout while connected to NAME [ADDRESS] after COMMAND
//	Malformed SMTP response from NAME [ADDRESS] after COMMAND: REPLY
//	Remote host NAME [ADDRESS] closed connection in response to COMMAND
//	NAME [ADDRESS]
//
// with "(errno): strerror: " before it in a line of a deferral. Where no connection was made,
// Exim named nobody. Senders choose an address in COMMAND, and servers REPLY.
func hostInText(e *logline.Entry) string {
	text := withoutErrno(e.Text)
	for _, before := range [...]string{"SMTP error from remote mail server after ", "SMTP error from remote mailer after "} {
		if command, ok := strings.CutPrefix(text, before); ok {
			_, answer, _ := strings.Cut(behindAddress(command, e.Recipient), ": ")
			if host, ok := strings.CutPrefix(answer, "host "); ok {
				return namedHost(host)
			}
			return ""
		}
	}
	for _, before := range [...]string{"SMTP timeout while connected to ", "Malformed SMTP response from ", "Remote host "} {
		if host, ok := strings.CutPrefix(text, before); ok {
			return namedHost(host)
		}
	}
	if strings.HasSuffix(text, "]") {
		return namedHost(text)
	}
	return ""
}

// withoutErrno removes "(errno): " from the beginning, and strerror behind a positive errno.
func withoutErrno(text string) string {
	if !strings.HasPrefix(text, "(") {
		return text
	}
	number, text, _ := strings.Cut(text[len("("):], "): ")
	if number != "" && '1' <= number[0] && number[0] <= '9' {
		_, text, _ = strings.Cut(text, ": ")
	}
	return text
}

// behindAddress returns what follows the address in an SMTP command; all of it if there is none,
// and nothing if it is not the recipient's, that is, if it cannot be told where it ends.
func behindAddress(command, recipient string) string {
	if to, ok := strings.CutPrefix(command, "RCPT TO:<"); ok {
		if rest, ok := strings.CutPrefix(to, recipient+">"); ok {
			return rest
		}
		address, rest := cutAngles("<" + to)
		if !envelope.EqualUnquoted(address, recipient) {
			return ""
		}
		return rest
	}
	if from, ok := strings.CutPrefix(command, "MAIL FROM:<"); ok {
		_, command = cutAngles("<" + from)
	}
	return command
}

// namedHost returns NAME of "NAME [ADDRESS]..."; empty if s is something else.
func namedHost(s string) string {
	name := s[:wordEnd(s)]
	if address, ok := strings.CutPrefix(s[len(name):], " ["); !ok || !strings.Contains(address, "]") {
		return ""
	}
	return name
}
