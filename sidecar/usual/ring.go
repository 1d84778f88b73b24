package usual

import "math"

const (
	// month and week are how many days, today's included, show what is usual.
	month = 35
	week  = 7
)

// A ring has the busiest hour of each of the last days of an author. What it has reached on two
// days is usual, so that a weekly newsletter is, and what one day's attack has sent is not.
type ring struct {
	author      string
	first, last uint16       // days since 1970: of its first send, and the newest in busiest
	busiest     [month]uint8 // by day modulo month, as pack has it
}

// pack puts a number of sends into a byte, and unpack takes it out, at most 4.5% off and
// rounded.
func pack(n int64) uint8 {
	if n <= 0 {
		return 0
	}
	return uint8(min(255, 1+math.Round(8*math.Log2(float64(n)))))
}

func unpack(b uint8) int64 {
	if b == 0 {
		return 0
	}
	return int64(math.Round(math.Exp2(float64(b-1) / 8)))
}

// note takes in that n sends were made in an hour of a day.
func (r *ring) note(day uint16, n int64) (changed bool) {
	for r.last < day {
		r.last++
		r.busiest[r.last%month] = 0
		r.last = max(r.last, day-min(day, month)) // all before is zeroed by the rest
	}
	if r.last-day >= month {
		return false
	}
	b := &r.busiest[day%month]
	changed, *b = *b < pack(n), max(*b, pack(n))
	return changed
}

// has reports whether a day has a place.
func (r *ring) has(day uint16) bool { return day <= r.last && r.last-day < month }

// in is the second-highest of the busiest hours of the days up to a day.
func (r *ring) in(days, day uint16) int64 {
	var highest, second uint8
	for d := day; d > 0 && day-d < days; d-- {
		if !r.has(d) {
			continue
		}
		b := r.busiest[d%month]
		second = max(second, min(b, highest))
		highest = max(highest, b)
	}
	return unpack(second)
}

// apart is what was reached on two days between which there was another, of the days up to a day.
// An attack that goes on over midnight has only two that follow each other.
func (r *ring) apart(days, day uint16) int64 {
	var most, before, last uint8 // before is the highest until two days after this one, last that of the day after it
	for d := day; d > 0 && day-d < days; d-- {
		var b uint8
		if r.has(d) {
			b = r.busiest[d%month]
		}
		most = max(most, min(b, before))
		before, last = max(before, last), b
	}
	return unpack(most)
}

// quota is for how many sends an hour others leave room: half as much again as is usual in a
// week.
func (r *ring) quota(day uint16) int64 { return (3*r.in(week, day) + 1) / 2 }

// free is how many sends an hour need leave no room for others of a domain with this limit.
func (r *ring) free(day uint16, limit int64) int64 {
	if r == nil || r.first >= day {
		return 0
	}
	return max(3*r.apart(month, day)/2, limit/20)
}
