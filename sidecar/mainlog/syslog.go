package mainlog

import (
	"strings"
	"time"
)

// A split is a line of which syslog has brought some parts.
type split struct {
	line string // as far as it came, with the prefix of the first part
	text string // of that, without the prefix
	n    int64  // parts so far
	over bool   // a line ended within: the rest is of no matter
}

// Bounds on lines that syslog split and whose rest is still to come. Exim writes
// no more than 8 KiB.
const (
	maxSplit     = 64
	maxSplitLine = 64 << 10
)

// Pending tells whether parts of lines are still to come.
func (p *Parser) Pending() bool { return len(p.split) > 0 }

// syslog takes the prefix from a line of syslog(3): the time, the host and the
// program, which has to begin with "exim" (syslog_processname). It reports false
// while parts of a split line are still to come; then whole is all of them.
//
// What Exim writes for syslog it splits in parts of 870 bytes, "[1/3] ...", and
// where it has several lines, "[1\3] ..." (log.c). Only the first line matters.
func (p *Parser) syslog(now time.Time, line string) (t stamp, whole, text string, ok bool) {
	t, rest, ok := p.clock.syslogStamp(now, line)
	if !ok {
		return t, "", "", false
	}
	_, rest, _ = strings.Cut(rest, " ") // the host
	program, text, ok := strings.Cut(rest, ": ")
	if !ok || !strings.HasPrefix(program, "exim") {
		return t, "", "", false
	}
	n, of, apart, rest := cutPart(text)
	if of == 0 {
		return t, line, text, true
	}
	if n == 1 {
		if len(p.split) >= maxSplit {
			clear(p.split)
		}
		p.split[program] = split{line: line[:len(line)-len(text)]}
	}
	whole, text, ok = p.join(program, rest, n, of, apart)
	return t, whole, text, ok
}

// join adds a part to those before, and reports whether it was the last one. Where
// one was lost the line ends before it: fields come first.
func (p *Parser) join(program, part string, n, of int64, apart bool) (line, text string, last bool) {
	s, begun := p.split[program]
	if !begun {
		return "", "", false
	}
	s.over = s.over || n != s.n+1
	if !s.over && len(s.text) < maxSplitLine {
		s.line, s.text = s.line+part, s.text+part
	}
	s.n, s.over = n, s.over || apart
	if n < of {
		p.split[program] = s
		return "", "", false
	}
	delete(p.split, program)
	return s.line, s.text, true
}

// cutPart takes "[2/3] " from a line; of is 0 if there is none.
func cutPart(s string) (n, of int64, apart bool, rest string) {
	if s == "" || s[0] != '[' {
		return 0, 0, false, s
	}
	close := strings.Index(s[:min(len(s), 10)], "] ")
	if close < 0 {
		return 0, 0, false, s
	}
	slash := strings.IndexAny(s[:close], `/\`)
	if slash < 2 || !digits(s[1:slash]) || slash+1 == close || !digits(s[slash+1:close]) {
		return 0, 0, false, s
	}
	return number(s[1:slash]), number(s[slash+1 : close]), s[slash] == '\\', s[close+2:]
}

// syslogStamp takes the time: as RFC 3339 has it, or "Nov 24 00:15:29" (RFC 3164)
// without a year, which is the last in which it is not in the future.
func (c *clock) syslogStamp(now time.Time, line string) (t stamp, rest string, ok bool) {
	if len(line) > 10 && line[4] == '-' && line[10] == 'T' {
		word, rest, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, word)
		return stamp{wall: at.Unix(), nano: int64(at.Nanosecond()), zoned: true}, rest, err == nil
	}
	const size = len(time.Stamp)
	if len(line) <= size || line[size] != ' ' {
		return t, "", false
	}
	at, err := time.Parse(time.Stamp, line[:size])
	if err != nil {
		return t, "", false
	}
	latest := now.In(c.location).AddDate(0, 0, 1)
	at = at.AddDate(latest.Year()-at.Year(), 0, 0)
	if at.After(time.Date(latest.Year(), latest.Month(), latest.Day(), 23, 59, 59, 0, time.UTC)) {
		at = at.AddDate(-1, 0, 0)
	}
	return stamp{wall: at.Unix()}, line[size+1:], true
}
