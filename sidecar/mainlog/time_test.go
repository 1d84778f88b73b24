package mainlog_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/sidecar/mainlog"
)

// zone loads a zone that changes its clocks.
func zone(t *testing.T, name string) *time.Location {
	t.Helper()
	location, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return location
}

// Lines about a message of yesterday do not have their time in the id. There
// the lines before decide in which of the two hours they are:
//
//	02:10 02:59 | 02:00 02:59 | 03:00
func TestOldMessagesInTheHourThatIsRepeated(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	first := time.Date(2026, 10, 25, 0, 0, 0, 0, time.UTC) // 02:00 for the first time
	for _, syslog := range []bool{false, true} {
		p := mainlog.NewParser(berlin)
		for _, minute := range []int{-1, 10, 30, 30, 59, 60, 61, 90, 119, 120, 121} {
			want := first.Add(time.Duration(minute) * time.Minute)
			line := want.In(berlin).Format("2006-01-02 15:04:05 ")
			if syslog {
				line = want.In(berlin).Format(time.Stamp) + " mx1 exim[77]: "
			}
			e, ok := parse(p, want, line+idOf(first.Add(-24*time.Hour))+" == u@x.test R=r T=t defer (-44): 450 later")
			if !ok || !e.At.Equal(want) {
				t.Errorf("%d min (syslog %v): %v %v, want %v", minute, syslog, ok, e.At.UTC(), want)
			}
		}
	}
}

// An id of the second hour says that it is the second hour, for the lines that
// follow as well; a line that comes a moment late changes nothing.
func TestAnArrivalTellsTheHour(t *testing.T) {
	berlin := zone(t, "Europe/Berlin")
	p := mainlog.NewParser(berlin)
	second := time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC) // 02:00 for the second time
	for i, id := range []time.Time{second.Add(30 * time.Minute), second.Add(-24 * time.Hour)} {
		want := second.Add(30*time.Minute - time.Duration(i)*time.Second)
		e, ok := parse(p, noon, want.In(berlin).Format("2006-01-02 15:04:05 ")+idOf(id)+" => u@x.test R=r T=t")
		if !ok || !e.At.Equal(want) {
			t.Errorf("line %d: %v %v, want %v", i, ok, e.At.UTC(), want)
		}
	}
}

// Any log without gaps of nearly an hour is dated right to the second, in zones
// with changes of an hour and of half an hour, and in both directions.
func TestTimesOfAnyLog(t *testing.T) {
	changes := map[string][]time.Time{
		"Europe/Berlin":       {time.Date(2026, 3, 29, 1, 0, 0, 0, time.UTC), time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)},
		"America/New_York":    {time.Date(2026, 3, 8, 7, 0, 0, 0, time.UTC), time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC)},
		"Australia/Lord_Howe": {time.Date(2026, 10, 3, 15, 30, 0, 0, time.UTC), time.Date(2026, 4, 4, 15, 0, 0, 0, time.UTC)},
		"UTC":                 {time.Date(2026, 10, 25, 1, 0, 0, 0, time.UTC)},
	}
	for name, times := range changes {
		location := zone(t, name)
		for _, change := range times {
			t.Run(fmt.Sprint(name, change.Month()), rapid.MakeCheck(func(t *rapid.T) {
				p := mainlog.NewParser(location)
				now := change.Add(-4 * time.Hour)
				for now.Before(change.Add(4 * time.Hour)) {
					now = now.Add(time.Duration(rapid.IntRange(0, 20*60).Draw(t, "gap")) * time.Second)
					id := now.Add(-time.Duration(rapid.IntRange(0, 300000).Draw(t, "age")) * time.Second)
					line := now.In(location).Format("2006-01-02 15:04:05 ") + idOf(id) + " Completed"
					if e, ok := parse(p, now, line); !ok || !e.At.Equal(now) {
						t.Fatalf("%s is %v, want %v", line, e.At.UTC(), now)
					}
				}
			}))
		}
	}
}

// A year that is not told is the last one in which the day is not to come.
func TestTheYearOfSyslog(t *testing.T) {
	for _, c := range []struct{ now, stamp, want string }{
		{"2027-01-01 00:05", "Dec 31 23:59:59", "2026-12-31 23:59:59"},
		{"2026-12-31 23:59", "Jan  1 00:00:01", "2027-01-01 00:00:01"}, // its clock is a bit ahead
		{"2026-06-01 00:00", "May 31 12:00:00", "2026-05-31 12:00:00"},
		{"2026-06-01 00:00", "Jun  3 12:00:00", "2025-06-03 12:00:00"},
		{"2028-02-29 12:00", "Feb 29 11:00:00", "2028-02-29 11:00:00"},
	} {
		now, err := time.Parse("2006-01-02 15:04", c.now)
		if err != nil {
			t.Fatal(err)
		}
		e, ok := parse(mainlog.NewParser(time.UTC), now, c.stamp+" mx1 exim[1]: 1xUzQe-0004wm-37 Completed")
		if got := e.At.Format(time.DateTime); !ok || got != c.want {
			t.Errorf("%s read at %s: %v %s, want %s", c.stamp, c.now, ok, got, c.want)
		}
	}
}

// Other programs' lines are no entries, nor are lines of syslog that tell of none.
func TestOthersInSyslog(t *testing.T) {
	for _, line := range []string{
		"Nov 22 04:43:53 mx1 dovecot[9]: 1xUzQe-0004wm-37 Completed",
		"Nov 22 04:43:53 mx1 exim[9]: 1xUzQe-0004wm-37 removed by root",
		"Nov 22 04:43:53 mx1 exim[9] 1xUzQe-0004wm-37 Completed",
		"Nov 32 04:43:53 mx1 exim[9]: 1xUzQe-0004wm-37 Completed",
		"Nov 22 04:43:53",
		"2026-11-22T04:43:53 mx1 exim[9]: 1xUzQe-0004wm-37 Completed", // without a zone it is no RFC 3339
		"2026-11-22T04:43:53Z mx1 exim[9]: ",
	} {
		if e, ok := parse(mainlog.NewParser(time.UTC), noon, line); ok {
			t.Errorf("%q: %+v", line, e)
		}
	}
}
