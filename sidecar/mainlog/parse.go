package mainlog

import (
	"strings"
	"time"

	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
)

// A Parser turns the lines of a main log, in order, into entries. It remembers the parts
// of lines that syslog has split, and when the last line was logged.
type Parser struct {
	clock clock
	id    []byte           // the last one: several lines of a message often follow each other
	split map[string]split // by the writing program with its process id
	every bool             // a line with an id is an entry whatever it says
}

// NewParser returns a Parser for a log whose times without a zone are local to
// location.
func NewParser(location *time.Location) *Parser {
	return &Parser{clock: clock{location: location}, split: map[string]split{}}
}

// Parse parses one line, without its line end, into e. It needs now only for the year,
// where a line of syslog has none. It reports false for a line that is no entry.
func (p *Parser) Parse(now time.Time, line string, e *logline.Entry) (ok bool) {
	var t stamp
	rest, stamped := line, p.clock.hasStamp(line)
	if !stamped {
		if t, line, rest, ok = p.syslog(now, line); !ok {
			return false
		}
		stamped = p.clock.hasStamp(rest)
	}
	if stamped {
		t, rest = p.clock.cutStamp(rest)
	}
	process := ""
	if rest != "" && rest[0] == '[' { // +pid
		process, rest, _ = strings.Cut(rest[1:], "] ")
	}
	id, rest := p.cutID(rest)
	*e = logline.Entry{ID: id, Process: process, Line: line}
	if id == "" {
		if ok = parseNameless(e, rest); ok {
			e.At = p.clock.at(t, "")
		}
		return ok
	}
	if !parseEvent(e, rest) && !p.every {
		return false
	}
	e.At = p.clock.at(t, id)
	return true
}

// parseEvent reads what follows the id. It reports false for a line that is no entry.
func parseEvent(e *logline.Entry, s string) bool {
	switch flag, rest, _ := strings.Cut(s, " "); flag {
	case "<=", "(=":
		e.Kind = logline.Arrived
		parseArrival(e, rest)
	case "=>", "->", ">>":
		e.Kind = logline.Delivered
		parseOutcome(e, rest)
	case "==":
		e.Kind = logline.Deferred
		parseOutcome(e, rest)
	case "**":
		e.Kind = logline.Failed
		parseOutcome(e, rest)
	case "Completed":
		e.Kind = logline.Completed
	default:
		switch {
		case strings.HasPrefix(s, "moved from "): // exim -MG (spool_out.c)
			e.Kind, e.Text = logline.Moved, movedTo(s)
		case strings.HasPrefix(s, "SMTP connection lost after final dot"): // receive.c
			e.Kind = logline.Lost
		default:
			return parseRefusal(e, s)
		}
	}
	return true
}

// movedTo is the queue that a message was moved to, empty for the main one:
//
//	moved from input, msglog to (sluice-quarantine) input, msglog
func movedTo(s string) string {
	_, to, _ := strings.Cut(s, " to ")
	if queue, is := strings.CutPrefix(to, "("); is {
		queue, _, _ = strings.Cut(queue, ")")
		return queue
	}
	return ""
}

// cutID cuts a message id and the space after it from a line: 16 characters, or 23 from
// Exim 4.97 on.
func (p *Parser) cutID(s string) (id, rest string) {
	if n := len(p.id); n > 0 && len(s) > n && s[n] == ' ' && s[:n] == string(p.id) {
		return s[:n], s[n+1:]
	}
	for _, shape := range [...]struct{ end, dash int }{{16, 13}, {23, 18}} {
		if len(s) > shape.end && s[shape.end] == ' ' && s[6] == '-' && s[shape.dash] == '-' && base62(s[:6]) &&
			base62(s[7:shape.dash]) && base62(s[shape.dash+1:shape.end]) {
			p.id = append(p.id[:0], s[:shape.end]...)
			return s[:shape.end], s[shape.end+1:]
		}
	}
	return "", s
}

func base62(s string) bool {
	for i := range len(s) {
		if c := s[i] | 0x20; (s[i] < '0' || s[i] > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// parseArrival reads what follows <=: the sender, then in this order
// (receive.c)
//
//	R=bounced DS H=name (helo) [address]:port I=[...] TFO U=ident P=protocol L X=... CV=... DN="..." A=method:id PRDR K S=size
//
// of which any may be missing. What follows S= may be made up by the sender. A client
// may give anything as ident; U= is a login only where there is no client.
func parseArrival(e *logline.Entry, s string) {
	end := senderEnd(s)
	if e.Sender = s[:end]; e.Sender == "<>" {
		e.Sender = ""
	}
	var f arrivalFields
	tail := ""
	for rest := s[end:]; rest != ""; {
		var key, value string
		if key, value, rest = cutField(rest); key == "S" {
			f.size, tail, rest = true, rest, ""
		} else {
			f.add(key, value)
		}
	}
	e.Recipients, e.MessageID = recipients(tail), messageIDIn(tail)
	switch {
	case f.host == "":
		e.Auth = authID(f.auth)
		if strings.HasPrefix(strings.TrimPrefix(f.protocol, "utf8"), "local") { // utf8: with SMTPUTF8
			e.Login = f.login
		}
		if e.Sender == "" {
			e.Answers = f.answers
		}
	case f.ambiguous || !f.size || f.protocol == "" || f.sizeMayBeForged(tail):
		e.ClientAddress = unknownAddress
	default:
		e.ClientAddress = addressOf(f.host)
		if !strings.HasSuffix(f.protocol, "smtp") && !strings.HasSuffix(f.protocol, "smtps") { // with AUTH it ends in "a": esmtpa, esmtpsa
			e.Auth = authID(f.auth)
		}
	}
}

// messageIDIn is the Message-ID in what follows S=: it stands before what is quoted, as a subject.
// From 4.97 on Exim writes id*= where the message had none and Exim made one.
func messageIDIn(tail string) string {
	before, rest, _ := strings.Cut(strings.Replace(tail, " id*=", " id=", 1), " id=")
	if strings.IndexByte(before, '"') >= 0 {
		return ""
	}
	return rest[:wordEnd(rest)]
}

// unknownAddress is the client's address where the line does not tell it. It counts as
// another host.
const unknownAddress = "unknown"

// arrivalFields are the fields of an arrival up to S=.
//
// A client may have made some of them up: in the HELO, where Exim accepts junk
// (helo_accept_junk_hosts), as ident (rfc1413_hosts), or in a certificate or SNI. Exim
// writes these without escaping. So a line that can be read in two ways names no client.
// An honest line whose message id or subject looks like that is treated alike: better
// nobody is charged than somebody else.
type arrivalFields struct {
	host, login, protocol, auth, answers string

	size      bool // S= was found
	ambiguous bool // it has what an honest line would not have
	quoted    bool // it has a certificate or SNI, which are quoted
}

// add adds a field. A word without "=" has an empty key.
func (f *arrivalFields) add(key, value string) {
	switch key {
	case "":
		f.ambiguous = f.ambiguous || value != "" && (value[0] == '[' || value[0] == ')') // the end of a HELO
	case "H":
		f.ambiguous, f.host = f.ambiguous || f.host != "", value
	case "R":
		f.answers = value
	case "U":
		f.login = value
	case "P":
		f.ambiguous, f.protocol = f.ambiguous || f.protocol != "", value
	case "A":
		f.ambiguous, f.auth = f.ambiguous || f.auth != "", value
		if strings.IndexByte(value, ' ') >= 0 {
			f.ambiguous = f.ambiguous || strings.Contains(value, " A=") || strings.Contains(value, " P=")
		}
	case "DN", "SNI":
		f.quoted = true
		f.ambiguous = f.ambiguous || strings.Contains(value, " P=")
	default:
		f.ambiguous = f.ambiguous || value != "" && value[0] == '"'
	}
}

// sizeMayBeForged reports whether what follows S= looks like the fields before it and
// another S=, so that a client may have made up the first.
func (f *arrivalFields) sizeMayBeForged(tail string) bool {
	begun := false
	for i := strings.IndexByte(tail, '='); i >= 0; i = indexFrom(tail, i+1, "=") {
		if i < 2 || tail[i-2] != ' ' {
			continue
		}
		switch tail[i-1] {
		case 'P':
			begun = true
		case 'A':
			begun = begun || f.quoted
		case 'S':
			if begun && i+1 < len(tail) && '0' <= tail[i+1] && tail[i+1] <= '9' {
				return true
			}
		}
	}
	return false
}

// authID is the id in the value of A=, METHOD:ID, or with +smtp_mailauth METHOD:ID:SENDER,
// where the sender is what the client gave with AUTH=: an address, of which nothing is
// believed. A colon with no @ behind it belongs to an id like info:example.com.
func authID(value string) string {
	_, id, _ := strings.Cut(value, ":")
	if i := strings.IndexByte(id, ':'); i >= 0 && strings.IndexByte(id, '@') >= 0 {
		id = id[:i]
	}
	return logline.UnescapeLogin(id)
}

// senderEnd is where the sender ends: its local part may have spaces in quotes.
func senderEnd(s string) int {
	if end := wordEnd(s); strings.IndexByte(s[:end], '"') < 0 && strings.IndexByte(s[:end], '\\') < 0 {
		return end // nearly always
	}
	if i := envelope.IndexUnquoted(s, ' '); i >= 0 {
		return i
	}
	return wordEnd(s) // a quote without an end
}

// cutField cuts one " KEY=VALUE" from the beginning of s. A word without "=" has an empty
// key. The value of H has spaces: the name, the HELO in parentheses, and the address in
// brackets. Quoted values may have anything.
func cutField(s string) (key, value, rest string) {
	s = s[1:] // the space
	end := strings.IndexByte(s, ' ')
	if end < 0 {
		end = len(s)
	}
	equals := strings.IndexByte(s[:end], '=')
	if equals < 0 {
		return "", s[:end], s[end:]
	}
	key = s[:equals]
	switch v := s[equals+1:]; {
	case key == "H":
		end = equals + 1 + hostEnd(v)
	case key == "A":
		end = equals + 1 + authEnd(v)
	case v != "" && v[0] == '"':
		end = equals + 1 + quotedEnd(v)
	}
	return key, s[equals+1 : end], s[end:]
}

// authEnd is where the value of A= ends: some logins have spaces. S= always follows,
// sometimes after PRDR, PRX= and K.
func authEnd(v string) int {
	if end := wordEnd(v); strings.HasPrefix(v[end:], " S=") { // as most do
		return end
	}
	end := strings.Index(v, " S=")
	if end < 0 {
		return wordEnd(v)
	}
	for _, mark := range [...]string{" K", " PRX=", " PRDR"} {
		if i := strings.LastIndex(v[:end], mark); i >= 0 && (mark != " K" || i+2 == end) {
			end = i
		}
	}
	return end
}

// hostEnd is where the value of H= ends: after the address in brackets, and its port.
func hostEnd(v string) int {
	i := 0
	if v != "" && v[0] != '(' && v[0] != '[' { // the name
		if i = strings.IndexByte(v, ' '); i < 0 {
			return len(v)
		}
		i++
	}
	if i < len(v) && v[i] == '(' { // the HELO
		close := strings.Index(v[i:], ") [")
		if close < 0 {
			return wordEnd(v)
		}
		i += close + 2
	}
	if i >= len(v) || v[i] != '[' {
		return wordEnd(v)
	}
	return i + wordEnd(v[i:])
}

func wordEnd(s string) int {
	if i := strings.IndexByte(s, ' '); i >= 0 {
		return i
	}
	return len(s)
}

// quotedEnd is the position after the closing quote of a value, in which a backslash
// escapes the next byte.
func quotedEnd(v string) int {
	for i := 1; i < len(v); i++ {
		switch v[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(v)
}

// addressOf is the IP address in the value of H=.
func addressOf(host string) string {
	open := strings.LastIndexByte(host, '[')
	if open < 0 {
		return ""
	}
	address, _, _ := strings.Cut(host[open+1:], "]")
	return address
}
