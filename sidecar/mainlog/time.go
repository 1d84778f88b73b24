package mainlog

import (
	"math"
	"strings"
	"time"

	"sluice/sidecar/envelope"
)

// A stamp is the time at the beginning of a line, as a wall clock shows it.
type stamp struct {
	wall   int64 // seconds since 1970, as if the wall clock showed UTC
	nano   int64 // nanoseconds
	zoned  bool  // offset is known (log_timezone, or syslog's RFC 3339)
	offset int64 // seconds east of UTC
}

// stampSize is the length of "2026-11-24 01:02:03".
const stampSize = 19

// hasStamp reports whether a line begins with Exim's own time.
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

// wall is the wall-clock time of "2026-11-24 01:02:03". Most lines of a busy log have the
// same as the line before.
func (c *clock) wall(s string) int64 {
	if s != c.stamp {
		c.stamp = strings.Clone(s)
		c.stampWall = c.day(s[:10]) + timeOfDay(s[11:])
	}
	return c.stampWall
}

// cutStamp cuts the time and the space after it from a line that hasStamp, with
// milliseconds (+millisec) and a zone (log_timezone) if they are logged.
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

// A clock turns the times of a log into instants. It remembers the time of the last line,
// because when summer time ends, an hour of local times without a zone comes twice.
type clock struct {
	location *time.Location
	last     int64 // when the last line was logged; 0 if there was none

	// Wall-clock times between from and until are offset seconds ahead of UTC; both are
	// days away from a change of the offset.
	from, until, offset int64

	date      string // the last date
	dateWall  int64  // its beginning, as wall-clock time
	stamp     string // the last time
	stampWall int64  // the same as wall-clock time
}

// slack is how many seconds a line may be earlier than the line before, and than the time
// in its message's id: Exim's processes take the time just before they write, and somebody
// may set the clock.
const slack = 30

// day is the beginning of a date, as wall-clock time.
func (c *clock) day(date string) int64 {
	if date != c.date {
		c.date = strings.Clone(date)
		c.dateWall = time.Date(int(number(date[:4])), time.Month(number(date[5:7])), int(number(date[8:10])), 0, 0, 0, 0, time.UTC).Unix()
	}
	return c.dateWall
}

// at is when a line about a message was logged. In the repeated hour it is the first of
// the two instants that is before neither the time in the id nor the line above. So the id
// decides for arrivals. Lines about older messages are of the second hour as soon as the
// log goes back in time or an id is of the second hour.
func (c *clock) at(t stamp, id string) time.Time {
	if !t.zoned {
		t.offset = c.offsetOf(t.wall, id)
	}
	seconds := t.wall - t.offset
	c.last = seconds
	return time.Unix(seconds, t.nano).In(c.location)
}

// offsetOf finds the offset from UTC of a wall-clock time.
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
			return before // an hour that the clocks skipped: use the old offset
		}
		return second
	case c.offsetAt(wall-second) != second:
		return first
	}
	began, _ := envelope.IDTime(id) // cutID has checked the id
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

// remember notes that the offset is the same from a day after its last change to a day
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
