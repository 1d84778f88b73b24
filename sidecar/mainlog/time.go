package mainlog

import (
	"math"
	"strings"
	"time"

	"sluice/sidecar/envelope"
)

// A stamp is the time at the beginning of a line, as a clock on the wall would
// show it.
type stamp struct {
	wall   int64 // seconds since 1970 if the wall's clock were UTC
	nano   int64 // of a second
	zoned  bool  // offset is known (log_timezone, or syslog's RFC 3339)
	offset int64 // seconds east of UTC
}

// stampSize is that of "2026-11-24 01:02:03".
const stampSize = 19

// hasStamp tells whether a line begins with Exim's own time.
func (c *clock) hasStamp(s string) bool {
	return len(s) > stampSize && (s[:stampSize] == c.stamp || s[10] == ' ' && isDate(s) && isTime(s[11:]))
}

func isDate(s string) bool {
	return s[4] == '-' && s[7] == '-' && digits(s[:4]) && digits(s[5:7]) && digits(s[8:10])
}

func isTime(s string) bool {
	return s[2] == ':' && s[5] == ':' && digits(s[:2]) && digits(s[3:5]) && digits(s[6:8])
}

func digits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func number(s string) (n int64) {
	for i := range len(s) {
		n = n*10 + int64(s[i]-'0')
	}
	return n
}

// wall is what a wall's clock shows at "2026-11-24 01:02:03". Most lines of a busy
// log have the same as the line before.
func (c *clock) wall(s string) int64 {
	if s != c.stamp {
		c.stamp = strings.Clone(s)
		c.shows = c.day(s[:10]) + timeOfDay(s[11:])
	}
	return c.shows
}

// cutStamp takes the time and the space behind it from a line that has one, with
// milliseconds (+millisec) and a zone (log_timezone) where they are logged.
func (c *clock) cutStamp(s string) (t stamp, rest string) {
	t.wall = c.wall(s[:stampSize])
	rest = s[stampSize:]
	if len(rest) > 4 && rest[0] == '.' && digits(rest[1:4]) {
		t.nano, rest = number(rest[1:4])*int64(time.Millisecond), rest[4:]
	}
	if len(rest) > 6 && rest[6] == ' ' && (rest[1] == '+' || rest[1] == '-') && digits(rest[2:6]) {
		t.zoned, t.offset = true, number(rest[2:4])*3600+number(rest[4:6])*60
		if rest[1] == '-' {
			t.offset = -t.offset
		}
		rest = rest[6:]
	}
	return t, strings.TrimPrefix(rest, " ")
}

func timeOfDay(s string) int64 {
	return number(s[:2])*3600 + number(s[3:5])*60 + number(s[6:8])
}

// A clock tells which instants the times of a log are. It remembers where the
// last line was, for a local time without a zone comes twice in the hour that is
// repeated when summer time ends.
type clock struct {
	location *time.Location
	last     int64 // when the last line was logged; 0 if there was none

	// Wall clocks from from to until are offset ahead of UTC; they are days away
	// from a change.
	from, until, offset int64

	date  string // the last date
	start int64  // and when it began on the wall
	stamp string // the last time
	shows int64  // and when it was on the wall
}

// slack is how much earlier a line may be than the line before, and than its
// message's id: Exim's processes take the time just before they write, and
// somebody may set the clock. Seconds.
const slack = 30

// day is when a date begins on the wall.
func (c *clock) day(date string) int64 {
	if date != c.date {
		c.date = strings.Clone(date)
		c.start = time.Date(int(number(date[:4])), time.Month(number(date[5:7])), int(number(date[8:10])), 0, 0, 0, 0, time.UTC).Unix()
	}
	return c.start
}

// at is when a line about a message was logged. Of two times in the repeated hour
// it is the first that is neither before the time in its id nor before the line
// above: so the id decides for arrivals, and for lines about older messages it is
// the second hour as soon as the log goes back in time or any id is of the second
// hour.
func (c *clock) at(t stamp, id string) time.Time {
	if !t.zoned {
		t.offset = c.offsetOf(t.wall, id)
	}
	seconds := t.wall - t.offset
	c.last = seconds
	return time.Unix(seconds, t.nano).In(c.location)
}

// offsetOf finds the offset from UTC of a time on the wall.
func (c *clock) offsetOf(wall int64, id string) int64 {
	if c.from <= wall && wall < c.until {
		return c.offset
	}
	const apart = 30 * 3600 // no zone changes twice within
	before, after := c.offsetAt(wall-apart), c.offsetAt(wall+apart)
	if before == after {
		c.remember(wall, before)
		return before
	}
	first, second := max(before, after), min(before, after)
	switch {
	case c.offsetAt(wall-first) != first:
		if c.offsetAt(wall-second) != second {
			return before // an hour that was left out: clocks there still show the old one
		}
		return second
	case c.offsetAt(wall-second) != second:
		return first
	}
	began, _ := envelope.IDTime(id) // cutID has seen to it
	if wall-first+slack < max(began.Unix(), c.last) {
		return second
	}
	return first
}

// offsetAt is the offset from UTC at an instant.
func (c *clock) offsetAt(unix int64) int64 {
	_, offset := time.Unix(unix, 0).In(c.location).Zone()
	return int64(offset)
}

// remember that the offset is the same from a day behind the last change to a day
// before the next, so that most lines need no search in the zone's table.
func (c *clock) remember(wall, offset int64) {
	const day = 24 * 3600
	start, end := time.Unix(wall-offset, 0).In(c.location).ZoneBounds()
	c.offset, c.from, c.until = offset, math.MinInt64, math.MaxInt64
	if !start.IsZero() {
		c.from = start.Unix() + offset + 2*day
	}
	if !end.IsZero() {
		c.until = end.Unix() + offset - 2*day
	}
}
