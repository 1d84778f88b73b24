package postfixlog

import (
	"strings"
	"time"

	"sluice/sidecar/logline"
)

// A Parser turns lines of the log, in order, into entries.
type Parser struct {
	clock   clock
	loginOf func(uid string) string
}

// NewParser returns a Parser for a log whose times without a zone are local to
// location. loginOf finds the login name of a user id, "" if there is none.
func NewParser(location *time.Location, loginOf func(uid string) string) *Parser {
	return &Parser{clock: clock{location: location}, loginOf: loginOf}
}

// Parse parses one line, without its line end, into e. It needs now only for the year,
// where a line has none. It reports false for a line that is no entry.
func (p *Parser) Parse(now time.Time, line string, e *logline.Entry) (ok bool) {
	at, rest, ok := p.clock.cutStamp(now, line)
	if !ok {
		return false
	}
	_, rest, _ = strings.Cut(rest, " ") // the host
	tag, rest, ok := strings.Cut(rest, ": ")
	if !ok {
		return false
	}
	daemon, process := cutTag(tag)
	if daemon == "" {
		return false
	}
	id, rest, ok := strings.Cut(rest, ": ")
	if !ok || !isQueueID(id) {
		return false
	}
	*e = logline.Entry{Postfix: true, ID: id, At: at, Line: line}
	switch daemon {
	case "smtpd":
		e.Process = process
		return parseClient(e, rest)
	case "pickup":
		return p.parsePickup(e, rest)
	case "qmgr", "nqmgr", "postsuper":
		return parseQueue(e, rest)
	}
	e.Transport = daemon
	return parseDelivery(e, rest)
}

// cutTag splits "postfix/submission/smtpd[123]" into the daemon and its process id. What
// comes before the last slash is the site's choice (syslog_name).
func cutTag(tag string) (daemon, process string) {
	open := strings.IndexByte(tag, '[')
	if open < 0 || !strings.HasSuffix(tag, "]") {
		return "", ""
	}
	slash := strings.LastIndexByte(tag[:open], '/')
	if slash < 0 {
		return "", ""
	}
	return tag[slash+1 : open], tag[open+1 : len(tag)-1]
}

// isQueueID reports whether s is a queue id: hexadecimal in upper case, or with
// enable_long_queue_ids digits and consonants. What else may be in its place, "warning"
// and "NOQUEUE", has other letters.
func isQueueID(s string) bool {
	if len(s) < 6 || len(s) > 32 {
		return false
	}
	short, long := true, true
	for i := range len(s) {
		c := s[i]
		digit := '0' <= c && c <= '9'
		short = short && (digit || 'A' <= c && c <= 'F')
		long = long && (digit || strings.IndexByte("BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz", c) >= 0)
	}
	return short || long
}

// parseClient reads what smtpd logs when it begins to receive a message:
//
//	client=name[address]:port, sasl_method=..., sasl_username=..., sasl_sender=..., orig_queue_id=..., orig_client=...
//
// of which all but the first may be missing.
func parseClient(e *logline.Entry, s string) bool {
	client, ok := strings.CutPrefix(s, "client=")
	if !ok {
		return false
	}
	e.Kind = logline.Arrived
	client, rest, _ := strings.Cut(client, ", ")
	if open := strings.IndexByte(client, '['); open >= 0 {
		e.ClientAddress, _, _ = strings.Cut(client[open+1:], "]")
	}
	if method, after, ok := strings.Cut(rest, "sasl_username="); ok && strings.HasPrefix(method, "sasl_method=") {
		e.Auth, _, _ = strings.Cut(after, ", ")
	}
	return true
}

// parsePickup reads what pickup logs about a message from sendmail: "uid=0 from=<root>".
func (p *Parser) parsePickup(e *logline.Entry, s string) bool {
	uid, ok := strings.CutPrefix(s, "uid=")
	if !ok {
		return false
	}
	e.Kind = logline.Arrived
	uid, _, _ = strings.Cut(uid, " ")
	if e.Login = p.loginOf(uid); e.Login == "" {
		e.Login = uid
	}
	return true
}

// parseQueue reads what qmgr logs at every attempt, and postsuper:
//
//	from=<sender>, size=292, nrcpt=1 (queue active)
//	from=<sender>, status=expired, returned to sender
//	removed
func parseQueue(e *logline.Entry, s string) bool {
	if s == "removed" {
		e.Kind = logline.Completed
		return true
	}
	from, ok := strings.CutPrefix(s, "from=<")
	if !ok {
		return false
	}
	sender, rest, ok := cutAddress(from)
	e.Sender = sender
	switch {
	case !ok:
		return false
	case strings.HasPrefix(rest, ", size="):
		e.Kind = logline.Sender
	case strings.HasPrefix(rest, ", status=expired, returned to sender"), strings.HasPrefix(rest, ", status=force-expired, returned to sender"):
		e.Kind, e.Text = logline.Expired, "expired, returned to sender"
	default:
		return false
	}
	return true
}

// parseDelivery reads the outcome for a recipient (log_adhoc.c):
//
//	to=<recipient>, orig_to=<original>, relay=host[address]:port, conn_use=2, delay=1.2, delays=1/0/0/0.2, dsn=2.0.0, status=sent (text)
func parseDelivery(e *logline.Entry, s string) bool {
	to, ok := strings.CutPrefix(s, "to=<")
	if !ok {
		return false
	}
	var rest string
	if e.Recipient, rest, ok = cutAddress(to); !ok {
		return false
	}
	if original, found := strings.CutPrefix(rest, ", orig_to=<"); found {
		if e.Original, rest, ok = cutAddress(original); !ok {
			return false
		}
	}
	relay, ok := strings.CutPrefix(rest, ", relay=")
	if !ok {
		return false
	}
	if host, _, ok := strings.Cut(relay[:fieldEnd(relay)], "["); ok { // without an address it is "none" or "local"
		e.Host = host
	}
	_, status, ok := strings.Cut(rest, ", status=")
	if !ok {
		return false
	}
	word, text, _ := strings.Cut(status, " ")
	switch word {
	case "sent":
		e.Kind = logline.Delivered
		return true
	case "deferred", "SOFTBOUNCE":
		e.Kind = logline.Deferred
	case "bounced":
		e.Kind = logline.Failed
	default: // deliverable and undeliverable are answers to probes
		return false
	}
	e.Text = strings.TrimSuffix(strings.TrimPrefix(text, "("), ")")
	if to, ok := strings.CutPrefix(e.Text, "connect to "); ok && e.Host == "" { // Postfix's own words: no server has answered
		if host, _, ok := strings.Cut(to, "["); ok {
			e.Host = host
		}
	}
	return true
}

// fieldEnd is where the value of a field ends.
func fieldEnd(s string) int {
	if i := strings.Index(s, ", "); i >= 0 {
		return i
	}
	return len(s)
}

// cutAddress cuts an address and the closing bracket after it. A bracket within a quoted
// local part, which the sender may choose, does not close it.
func cutAddress(s string) (address, rest string, ok bool) {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return s[:i], s[i+1:], true
		}
	}
	return "", "", false
}
