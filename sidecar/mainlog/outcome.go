package mainlog

import (
	"strings"

	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
)

// parseOutcome reads what stands behind =>, ->, >>, == or ** (deliver.c):
//
//	final (parent, parent) <original> F=<sender> P=<return path> R=router T=transport S=size H=host [address]:port X=... C="reply" QT=0s DT=0s
//	final (parent, parent) <original> R=router T=transport defer (errno): strerror H=host [address]: text
//
// of which all but final may be missing. For ** text stands behind a colon. What
// was answered to a delivery tells nothing more.
func parseOutcome(e *logline.Entry, s string) {
	end := recipientEnd(s)
	e.Recipient = s[:end]
	rest := s[end+parentsEnd(s[end:]):]
	if strings.HasPrefix(rest, " <") {
		e.Original, rest = cutAngles(rest[1:])
	}
	if isPipeOrFile(e.Recipient) && e.Original != "" && !strings.EqualFold(e.Original, e.Recipient) && !envelope.EqualUnquoted(e.Original, e.Recipient) {
		e.Recipient = "" // a pipe, a file or a notification: no address
	}
	// A remote server may repeat in its answer, in quotes, the whole line before that
	// answer. Then all of that looks like a quoted local part, with this text in it.
	e.Doubtful = strings.Contains(e.Recipient, " error from remote mail server after ")
	parseFields(e, rest)
	if e.Host == "" && (e.Kind == logline.Deferred || e.Kind == logline.Failed) {
		e.Host = hostInText(e)
	}
}

// isPipeOrFile reports whether a delivery went to a pipe, a file or a notification.
func isPipeOrFile(recipient string) bool {
	return recipient != "" && strings.IndexByte("|/:>", recipient[0]) >= 0
}

// parseFields reads the fields up to the text. Router and transport come before what the
// remote side may choose: its host's certificate and its reply.
func parseFields(e *logline.Entry, rest string) {
	remote := false // past H=
	for rest != "" {
		if rest[0] == ':' {
			e.Text = strings.TrimPrefix(rest[1:], " ")
			return
		}
		rest = rest[1:] // the space
		if e.Kind == logline.Delivered && strings.HasPrefix(rest, "H=") {
			e.Host = rest[len("H="):wordEnd(rest)] // nearly all lines; what follows tells nothing more
			return
		}
		word := rest[:fieldEnd(rest)]
		switch key, value, _ := strings.Cut(word, "="); {
		case word == "defer":
			rest = rest[len(word):]
			e.Text, e.Host = strings.TrimLeft(rest, ": "), deferredHost(rest)
			return
		case key == "R" && !remote && e.Router == "":
			e.Router = value
		case key == "T" && !remote && e.Transport == "":
			e.Transport = value
		case key == "H" && !remote:
			e.Host, remote = value, true
		}
		rest = rest[len(word):]
	}
}

// deferredHost finds the host in what follows "defer":
//
//	(errno): strerror H=host [address]: text
//
// where errno, strerror and host may be missing, and a server may choose the text.
func deferredHost(s string) string {
	number := ""
	if strings.HasPrefix(s, " (") {
		number, s, _ = strings.Cut(s[len(" ("):], ")")
	}
	if strerror, ok := strings.CutPrefix(s, ": "); ok && number != "" && '1' <= number[0] && number[0] <= '9' { // only a positive errno has it
		strerror, _, _ = strings.Cut(strerror, ": ")
		s = strerror[max(0, strings.Index(strerror, " H=")):]
	}
	if host, ok := strings.CutPrefix(s, " H="); ok {
		return host[:wordEnd(host)]
	}
	return ""
}

// fieldEnd is where a word after the address ends: at a space, or at a colon with a space
// after it, but not within quotes or angle brackets.
func fieldEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			if i > 0 && s[i-1] == '=' {
				i += quotedEnd(s[i:]) - 1
			}
		case '<':
			if i > 0 && s[i-1] == '=' {
				_, rest := cutAngles(s[i:])
				i = len(s) - len(rest) - 1
			}
		case ' ':
			return i
		case ':':
			if i+1 == len(s) || s[i+1] == ' ' {
				return i
			}
		}
	}
	return len(s)
}

// cutAngles cuts "<...>" from the beginning of s. A quoted local part may have a closing
// bracket too.
func cutAngles(s string) (within, rest string) {
	i := envelope.IndexUnquoted(s, '>')
	if i < 0 { // a quote without an end
		i = strings.IndexByte(s, '>')
	}
	if i < 0 {
		return s[1:], ""
	}
	return s[1:i], s[i+1:]
}

// parentsEnd is the end of " (b@x, c@y)" at the beginning of s, which is always followed
// by an original address; 0 if there is none.
func parentsEnd(s string) int {
	if !strings.HasPrefix(s, " (") {
		return 0
	}
	i := envelope.IndexUnquoted(s, ')')
	if i < 0 || !strings.HasPrefix(s[i+1:], " <") {
		return 0
	}
	return i + 1
}

// maxAddress is how many bytes are searched for an address. Exim accepts none longer than
// 256 bytes, and parents may stand between two.
const maxAddress = 2 << 10

// recipientEnd is where the final address ends. Exim logs its local part without quotes,
// and senders may make it look like everything that follows an address. But then the
// original that follows has quotes and is otherwise the same, which gives it away.
func recipientEnd(s string) int {
	near := s[:min(len(s), maxAddress)]
	for at := strings.IndexByte(near, '<'); at >= 0; at = indexFrom(near, at+1, "<") {
		if at == 0 || near[at-1] != ' ' {
			continue
		}
		if original, _ := cutAngles(near[at:]); envelope.EqualUnquoted(original, s[:at-1]) {
			return at - 1
		}
	}
	switch {
	case isPipeOrFile(s):
		return pipeOrFileEnd(s)
	case strings.HasPrefix(s, `"`): // what Exim could not split into local part and domain
		return len(strings.TrimSuffix(s[:senderEnd(s)], ":"))
	}
	return plainEnd(s)
}

// plainEnd ends an address before the first thing that may follow one.
func plainEnd(s string) int {
	if end := wordEnd(s); end < len(s) && strings.IndexByte(s[:end], ':') < 0 && startsRest(s[end:]) {
		return end // nearly always
	}
	for i := 0; i < len(s); i++ {
		if (s[i] == ' ' || s[i] == ':') && startsRest(s[i:]) {
			return i
		}
	}
	return len(s)
}

func indexFrom(s string, from int, part string) int {
	i := strings.Index(s[from:], part)
	if i < 0 {
		return -1
	}
	return from + i
}

// restMarks are what may follow an address.
var restMarks = [...]string{" <", " (", " R=", " T=", " F=<", " Q=", " P=<", " SRS=<", " I=[", " H=", " defer", " routing defer", " transporting defer", ": ", " : "}

func startsRest(s string) bool {
	for _, mark := range &restMarks {
		if strings.HasPrefix(s, mark) {
			return true
		}
	}
	return false
}

// pipeOrFileEnd is the end of a pipe, a file or a notification. It may have spaces and
// anything else, and ends before its parent or the original, one of which always follows.
// If something else follows what looks like an address, it is an address: |x@far.example.
func pipeOrFileEnd(s string) int {
	end := plainEnd(s)
	if word := s[:end]; strings.IndexByte(word, '@') >= 0 && strings.IndexByte(word, ' ') < 0 && !strings.HasPrefix(s[end:], " <") && !strings.HasPrefix(s[end:], " (") {
		return end
	}
	near := s[:min(len(s), maxAddress)]
	for i := strings.IndexByte(near, ' '); i >= 0; i = indexFrom(near, i+1, " ") {
		rest := near[i+parentsEnd(near[i:]):]
		if !strings.HasPrefix(rest, " <") {
			continue
		}
		if original, after := cutAngles(rest[1:]); strings.IndexByte(original, ' ') < 0 && (after == "" || startsRest(after)) {
			return i
		}
	}
	return len(s)
}
