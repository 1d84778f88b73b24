package mainlog

import (
	"strings"
	"time"
)

// Bounds on lines that syslog split and whose rest is still to come.
const (
	maxSplit     = 64
	maxSplitLine = 64 << 10
)

// syslog takes the prefix from a line of syslog(3): the time, the host and the
// program. It reports false while parts of a split line are still to come.
//
// Exim splits lines for syslog in parts of some 870 bytes: "[1/3] ..." where it
// was too long, "[1\3] ..." where a line ended within (Exim specification,
// "Logging to syslog"). Only the first line of an entry matters.
func (p *Parser) syslog(now time.Time, line string) (at time.Time, rest string, ok bool) {
	at, rest, ok = syslogTime(now, line, p.location)
	if !ok {
		return at, "", false
	}
	_, rest, _ = strings.Cut(rest, " ") // the host
	program, rest, ok := strings.Cut(rest, ": ")
	if !ok || !strings.HasPrefix(program, "exim") {
		return at, "", false
	}
	n, of, apart, rest := cutPart(rest)
	if of == 0 {
		return at, rest, true
	}
	if n == 1 {
		if len(p.split) >= maxSplit {
			clear(p.split)
		}
		p.split[program] = ""
	}
	before, begun := p.split[program]
	if !begun {
		return at, "", false
	}
	if len(before) < maxSplitLine {
		before += rest
	}
	if apart { // what follows is another line of the same entry
		before += "\n"
	}
	if n < of {
		p.split[program] = before
		return at, "", false
	}
	delete(p.split, program)
	first, _, _ := strings.Cut(before, "\n")
	return at, first, true
}

// cutPart takes "[2/3] " from a line; of is 0 if there is none.
func cutPart(s string) (n, of int, apart bool, rest string) {
	close := strings.Index(s, "] ")
	if close < 0 || close > 8 || s[0] != '[' {
		return 0, 0, false, s
	}
	slash := strings.IndexAny(s[:close], `/\`)
	if slash < 2 || !digits(s[1:slash]) || slash+1 == close || !digits(s[slash+1:close]) {
		return 0, 0, false, s
	}
	return number(s[1:slash]), number(s[slash+1 : close]), s[slash] == '\\', s[close+2:]
}

// syslogTime takes the time: as RFC 3339 has it, or "Nov 24 00:15:29" (RFC 3164)
// without a year, which is the one in which it is not in the future.
func syslogTime(now time.Time, line string, location *time.Location) (at time.Time, rest string, ok bool) {
	if len(line) > 10 && line[4] == '-' && line[10] == 'T' {
		word, rest, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, word)
		return at, rest, err == nil
	}
	if len(line) < 16 {
		return at, "", false
	}
	at, err := time.ParseInLocation(time.Stamp, line[:15], location)
	if err != nil {
		return at, "", false
	}
	at = time.Date(now.In(location).Year(), at.Month(), at.Day(), at.Hour(), at.Minute(), at.Second(), 0, location)
	if at.After(now.Add(24 * time.Hour)) {
		at = at.AddDate(-1, 0, 0)
	}
	return at, line[16:], true
}
