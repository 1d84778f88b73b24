package postfixlog

import (
	"strings"
	"time"
)

// A clock turns the times of a log into instants. It remembers the last one, because when
// summer time ends, an hour of local times comes twice.
type clock struct {
	location *time.Location
	last     time.Time
}

// slack is how much earlier a line may be than the line before.
const slack = 30 * time.Second

// cutStamp cuts the time and the space after it: in the form of RFC 3339, or "Nov 24
// 00:15:29" (RFC 3164) without a year, which is the last year in which that is not in the
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
	// 2000 is a leap year, so that February 29 parses.
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

// at is the first instant at which a wall clock in the zone shows this time.
func (c *clock) at(bare time.Time, year int) time.Time {
	at := time.Date(year, bare.Month(), bare.Day(), bare.Hour(), bare.Minute(), bare.Second(), 0, c.location)
	if first := at.Add(-time.Hour); sameWall(first, at) {
		return first
	}
	return at
}

// sameWall reports whether a wall clock shows the same time at two instants.
func sameWall(a, b time.Time) bool { return a.Format(time.DateTime) == b.Format(time.DateTime) }
