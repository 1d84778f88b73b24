package mainlog

import (
	"strings"
	"time"
)

// A stamp is the time at the beginning of a line.
type stamp struct {
	text string // "2026-11-24 01:02:03", empty if there is none
	nano int    // of its milliseconds
	zone string // "+0200", empty if local
}

// hasStamp tells whether a line begins with Exim's own time.
func hasStamp(s string) bool {
	return len(s) >= 20 && s[4] == '-' && s[7] == '-' && s[10] == ' ' && s[13] == ':' && s[16] == ':' &&
		digits(s[:4]) && digits(s[5:7]) && digits(s[8:10]) && digits(s[11:13]) && digits(s[14:16]) && digits(s[17:19])
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func number(s string) (n int) {
	for i := range len(s) {
		n = n*10 + int(s[i]-'0')
	}
	return n
}

// cutStamp takes the time from a line, with milliseconds (+millisec) and a zone
// (log_timezone) where they are logged.
func cutStamp(s string) (t stamp, rest string) {
	if !hasStamp(s) {
		return t, s
	}
	t.text, rest = s[:19], s[19:]
	if len(rest) > 4 && rest[0] == '.' && digits(rest[1:4]) {
		t.nano, rest = number(rest[1:4])*int(time.Millisecond), rest[4:]
	}
	if len(rest) > 6 && (rest[1] == '+' || rest[1] == '-') && digits(rest[2:6]) && rest[6] == ' ' {
		t.zone, rest = rest[1:6], rest[6:]
	}
	return t, strings.TrimPrefix(rest, " ")
}

// time is when a line about a message was logged. A local time in the hour that
// is repeated when summer time ends could be two; then it is the first that is
// not before the message's id was made.
func (t stamp) time(location *time.Location, id string) time.Time {
	if t.zone != "" {
		offset := number(t.zone[1:3])*3600 + number(t.zone[3:5])*60
		if t.zone[0] == '-' {
			offset = -offset
		}
		return t.in(time.FixedZone("", offset))
	}
	at := t.in(location)
	began := idTime(id)
	for _, shift := range [...]time.Duration{-time.Hour, time.Hour} {
		other := at.Add(shift)
		if other.Hour() != at.Hour() || other.Minute() != at.Minute() { // nearly always
			continue
		}
		first, second := at, other
		if shift < 0 {
			first, second = other, at
		}
		if began.After(first.Add(time.Minute)) {
			return second
		}
		return first
	}
	return at
}

func (t stamp) in(location *time.Location) time.Time {
	s := t.text
	return time.Date(number(s[:4]), time.Month(number(s[5:7])), number(s[8:10]),
		number(s[11:13]), number(s[14:16]), number(s[17:19]), t.nano, location)
}

const base62Digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// idTime is when an id was made: its first six characters are the seconds since
// 1970 in base 62 (Exim specification, "Message identification").
func idTime(id string) time.Time {
	seconds := int64(0)
	for i := range 6 {
		seconds = seconds*62 + int64(strings.IndexByte(base62Digits, id[i]))
	}
	return time.Unix(seconds, 0)
}
