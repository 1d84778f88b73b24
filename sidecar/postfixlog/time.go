package postfixlog

import (
	"strings"
	"time"
)

// A clock tells which instants the times of a log are. It remembers the last, for
// a local time comes twice in the hour that is repeated when summer time ends.
type clock struct {
	location *time.Location
	last     time.Time
}

// slack is how much earlier a line may be than the line before.
const slack = 30 * time.Second

// cutStamp takes the time and the space behind it: as RFC 3339 has it, or "Nov 24
// 00:15:29" (RFC 3164) without a year, which is the last in which it is not in the
// future.
func (c *clock) cutStamp(now time.Time, line string) (at time.Time, rest string, ok bool) {
	if len(line) > 10 && line[4] == '-' && line[10] == 'T' {
		word, rest, _ := strings.Cut(line, " ")
		at, err := time.Parse(time.RFC3339Nano, word)
		return at, rest, err == nil
	}
	const size = len(time.Stamp)
	if len(line) <= size || line[size] != ' ' {
		return at, "", false
	}
	// With a leap year, for February has 29 days in some.
	bare, err := time.Parse("2006 "+time.Stamp, "2000 "+line[:size])
	if err != nil {
		return at, "", false
	}
	year := now.In(c.location).Year()
	if at = c.at(bare, year); at.After(now.Add(24 * time.Hour)) {
		at = c.at(bare, year-1)
	}
	if again := at.Add(time.Hour); at.Before(c.last.Add(-slack)) && sameWall(at, again) {
		at = again
	}
	c.last = at
	return at, line[size+1:], true
}

// at is the first time at which a clock on the wall looks so.
func (c *clock) at(bare time.Time, year int) time.Time {
	at := time.Date(year, bare.Month(), bare.Day(), bare.Hour(), bare.Minute(), bare.Second(), 0, c.location)
	if first := at.Add(-time.Hour); sameWall(first, at) {
		return first
	}
	return at
}

// sameWall tells whether two instants look the same on the wall.
func sameWall(a, b time.Time) bool { return a.Format(time.DateTime) == b.Format(time.DateTime) }
