package usual

import (
	"math"
	"testing"
)

func TestPackIsAtMostFourAndAHalfPercentOff(t *testing.T) {
	for n := int64(0); n < 3_000_000_000; n += 1 + n/37 {
		got := unpack(pack(n))
		if off := math.Abs(float64(got - n)); off > 0.5+0.045*float64(n) {
			t.Errorf("%d becomes %d", n, got)
		}
		if n <= 8 && got != n {
			t.Errorf("%d becomes %d", n, got)
		}
	}
}

// What is usual was reached on two days: a weekly newsletter is, within a month; what was sent on
// one day is not, and where others would have to make room for it, nor is that of a day and the next.
func TestWhatIsUsual(t *testing.T) {
	const today = 20_500
	for name, c := range map[string]struct {
		sent               map[uint16]int64 // by days ago
		week, month, apart int64
	}{
		"nothing":             {nil, 0, 0, 0},
		"one day":             {map[uint16]int64{3: 500}, 0, 0, 0},
		"two days":            {map[uint16]int64{3: 500, 1: 8}, 8, 8, 8},
		"a day and the next":  {map[uint16]int64{3: 500, 2: 8}, 8, 8, 0},
		"over midnight":       {map[uint16]int64{6: 8, 5: 8, 4: 8, 3: 8, 2: 500, 1: 500}, 512, 512, 8},
		"three days":          {map[uint16]int64{3: 512, 2: 512, 1: 512}, 512, 512, 512},
		"every day, one more": {map[uint16]int64{6: 8, 5: 8, 4: 500, 3: 8, 0: 8}, 8, 8, 8},
		"a weekly newsletter": {map[uint16]int64{28: 512, 21: 512, 14: 512, 7: 512, 1: 4, 2: 4, 3: 4}, 4, 512, 512},
		"too long ago":        {map[uint16]int64{35: 64, 36: 64, 8: 8, 7: 8}, 0, 8, 0},
		"the edges":           {map[uint16]int64{34: 64, 33: 64, 6: 8, 5: 8}, 8, 64, 8},
	} {
		t.Run(name, func(t *testing.T) {
			u := ring{first: today - 40, last: today - 40}
			for ago := range uint16(41) {
				if n := c.sent[40-ago]; n > 0 {
					u.note(today-40+ago, n)
					u.note(today-40+ago, n-1) // not its busiest
				}
			}
			if week, month, apart := u.in(week, today), u.in(month, today), u.apart(month, today); week != c.week || month != c.month || apart != c.apart {
				t.Errorf("%d in a week, %d in a month, %d on days apart", week, month, apart)
			}
			if u.in(month, today+month) != 0 || u.apart(month, today+month) != 0 {
				t.Error("after a month of nothing something is usual")
			}
		})
	}
}

// A day that is noted late, or after a gap, is that day's.
func TestDaysAreTheirOwn(t *testing.T) {
	u := ring{first: 100, last: 100}
	u.note(100, 8)
	u.note(140, 16)
	u.note(138, 32)
	u.note(104, 64) // more than a month before the newest
	for day, want := range map[uint16]int64{140: 16, 139: 0, 138: 32, 104: 0} {
		if got := unpack(u.busiest[day%month]); got != want {
			t.Errorf("day %d: %d, want %d", day, got, want)
		}
	}
}
