package mainlog

import (
	"strings"
	"time"
)

// A split is a line of which syslog has brought some parts.
type split struct {
	line  string // the parts joined, with the prefix of the first
	text  string // the same without the prefix
	n     int64  // parts so far
	ended bool   // the line ended within the parts so far: the rest is ignored
}

// Bounds on the number of lines of which parts are still to come, and on their length in
// bytes. Exim writes at most 8 KiB.
const (
	maxSplit     = 64
	maxSplitLine = 64 << 10
)

// syslog cuts the prefix of syslog(3) from a line: the time, the host and the program,
// which has to begin with "exim" (syslog_processname). It reports false while parts of a
// split line are still to come; with the last part, whole is all of the line.
//
// Exim splits what it writes to syslog in parts of 870 bytes, "[1/3] ...", and where that
// has several lines, "[1\3] ..." (log.c). Only the first of those lines matters.
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
	n, of, multiline, rest := cutPart(text)
	if of == 0 {
		return t, line, text, true
	}
	if n == 1 {
		if len(p.split) >= maxSplit {
			clear(p.split)
		}
		p.split[program] = split{line: line[:len(line)-len(text)]}
	}
	whole, text, ok = p.join(program, rest, n, of, multiline)
	return t, whole, text, ok
}

// join adds a part to those before, and reports whether it was the last one. If a part is
// missing, the line ends before it: fields come first.
func (p *Parser) join(program, part string, n, of int64, multiline bool) (line, text string, last bool) {
	s, begun := p.split[program]
	if !begun {
		return "", "", false
	}
	s.ended = s.ended || n != s.n+1
	if !s.ended && len(s.text) < maxSplitLine {
		s.line, s.text = s.line+part, s.text+part
	}
	s.n, s.ended = n, s.ended || multiline
	if n < of {
		p.split[program] = s
		return "", "", false
	}
	delete(p.split, program)
	return s.line, s.text, true
}

// cutPart cuts "[2/3] " from a line; of is 0 if there is none. multiline reports a
// backslash instead of the slash.
func cutPart(s string) (n, of int64, multiline bool, rest string) {
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

// syslogStamp cuts the time: in the form of RFC 3339, or "Nov 24 00:15:29" (RFC 3164)
// without a year, which is the last year in which that is not in the future.
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
	day, err := time.Parse(time.Stamp, line[:size]) // of the year 0, which has a February 29
	if err != nil {
		return t, "", false
	}
	latest := now.In(c.location).AddDate(0, 0, 1)
	at := day.AddDate(latest.Year(), 0, 0)
	if at.After(time.Date(latest.Year(), latest.Month(), latest.Day(), 23, 59, 59, 0, time.UTC)) {
		at = day.AddDate(latest.Year()-1, 0, 0)
	}
	return stamp{wall: at.Unix()}, line[size+1:], true
}
