package attribution

import (
	"fmt"
	"math"
	"testing"
	"time"

	"sluice/sidecar"
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

// What is usual is the second-highest of the busiest hours of the days: a weekly newsletter is,
// within a month; what was sent on one day is not.
func TestWhatIsUsual(t *testing.T) {
	const today = 20_500
	for name, c := range map[string]struct {
		sent        map[uint16]int64 // by days ago
		week, month int64
	}{
		"nothing":             {nil, 0, 0},
		"one day":             {map[uint16]int64{3: 500}, 0, 0},
		"two days":            {map[uint16]int64{3: 500, 2: 8}, 8, 8},
		"every day, one more": {map[uint16]int64{6: 8, 5: 8, 4: 500, 3: 8, 0: 8}, 8, 8},
		"a weekly newsletter": {map[uint16]int64{28: 512, 21: 512, 14: 512, 7: 512, 1: 4, 2: 4, 3: 4}, 4, 512},
		"too long ago":        {map[uint16]int64{35: 64, 36: 64, 8: 8, 7: 8}, 0, 8},
		"the edges":           {map[uint16]int64{34: 64, 33: 64, 6: 8, 5: 8}, 8, 64},
	} {
		t.Run(name, func(t *testing.T) {
			u := usual{first: today - 40, last: today - 40}
			for ago := range uint16(41) {
				if n := c.sent[40-ago]; n > 0 {
					u.note(today-40+ago, n)
					u.note(today-40+ago, n-1) // not its busiest
				}
			}
			if week, month := u.in(week, today), u.in(month, today); week != c.week || month != c.month {
				t.Errorf("%d in a week, %d in a month", week, month)
			}
			if u.in(month, today+month) != 0 {
				t.Error("after a month of nothing something is usual")
			}
		})
	}
}

// A day that is noted late, or after a gap, is that day's.
func TestDaysAreTheirOwn(t *testing.T) {
	u := usual{first: 100, last: 100}
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

// days has mailboxes of x.example send for so many days, at noon, and goes on to the next noon.
func (b *bench) days(days int, sent map[string]int) {
	for range days {
		for mailbox, n := range sent {
			b.send(mailbox+"@x.example", n)
		}
		b.now = b.now.Add(24 * time.Hour)
	}
}

func (b *bench) wantShare(author string, free, others int64) {
	b.t.Helper()
	if f, o := b.Share(b.now, sidecar.Author{Key: author}, "x.example", 500, 125); f != free || o != others {
		b.t.Errorf("%s: free %d, others %d, want %d and %d", author, f, o, free, others)
	}
}

func TestShare(t *testing.T) {
	b := newBench(t, hour)
	b.wantShare("a@x.example", math.MaxInt64, 0) // nothing is known
	b.days(1, map[string]int{"a": 8, "c": 5})
	b.send("a@x.example", 1)
	b.wantShare("a@x.example", math.MaxInt64, 0) // of one day
	b.now = b.now.Add(2 * time.Hour)
	b.days(2, map[string]int{"a": 8, "c": 5, "big": 32})
	b.send("a@x.example", 1) // else the last hour is not over
	b.now = b.now.Add(2 * time.Hour)
	b.send("new@x.example", 1)

	b.wantShare("new@x.example", 0, 12+8+48)  // known today
	b.wantShare("else@x.example", 0, 12+8+48) // unknown
	b.wantShare("a@x.example", 25, 8+48)      // a twentieth of 500
	b.wantShare("big@x.example", 48, 12+8)    // 1.5 of 32
	b.send("c@x.example", 3)                  // which leaves 5 of its 8
	b.send("big@x.example", 40)               // 8 of 48
	b.wantShare("else@x.example", 0, 12+5+8)  //
	b.wantShare("big@x.example", 8, 12+5)     //
	b.send("a@x.example", 20)                 // more than usual
	b.wantShare("a@x.example", 5, 5+8)        //
	b.wantShare("else@x.example", 0, 5+8)     //
	b.now = b.now.Add(55 * time.Minute)       // five panes later all of it counts still
	b.wantShare("big@x.example", 8, 5)        //
	b.now = b.now.Add(10 * time.Minute)       // six: of the author, but not of the others
	b.wantShare("big@x.example", 8, 12+8)     //
	b.now = b.now.Add(10 * time.Minute)       // seven
	b.wantShare("big@x.example", 48, 12+8)    //
	if _, others := b.Share(b.now, sidecar.Author{Key: "else@x.example"}, "x.example", 500, 30); others != 30 {
		t.Errorf("more than at most: %d", others)
	}
	b.wantShare("loopback", 0, 12+8+48)
	if free, _ := b.Share(b.now, sidecar.Author{Key: "a@x.example"}, "y.example", 500, 125); free != math.MaxInt64 {
		t.Errorf("another domain: %d", free)
	}
	b.restart()
	b.wantShare("big@x.example", 48, 12+8)
	b.wantShare("a@x.example", 25, 8+48)
	if err := b.Reset(t.Context(), b.now, sidecar.Reset{Domain: "x.example", Epoch: b.now.UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	b.wantShare("big@x.example", 48, 12+8) // what is usual stays
	b.broken.Store(new(error))
	b.wantShare("else@x.example", math.MaxInt64, 0)
}

// Whom strangers make send has no usual hour, nor has what is no domain.
func TestWhoHasUsualHours(t *testing.T) {
	b := newBench(t, hour)
	for range 3 {
		for _, key := range []string{"forward:info@x.example", "loopback", "script:/home/bob/wp", "login:bob"} {
			b.Charged(b.now, &Message{Subject: "x.example", Author: sidecar.Author{Key: key}}, 10)
			b.Charged(b.now, &Message{Subject: "system", Author: sidecar.Author{Key: key}}, 10)
		}
		b.now = b.now.Add(24 * time.Hour)
	}
	b.Tick(t.Context(), b.now)
	if h := b.usual.domains["x.example"]; len(b.usual.domains) != 1 || len(h.of) != 2 || h.find("login:bob") == nil || h.find("script:/home/bob/wp") == nil {
		t.Errorf("%+v", b.usual.domains)
	}
}

// What is sent at once around midnight is busy on one day only.
func TestMidnight(t *testing.T) {
	for minutes := -25; minutes <= 25; minutes += 5 {
		b := newBench(t, hour)
		b.now = time.Date(2026, 3, 2, 0, minutes, 0, 0, time.Local)
		b.send("a@x.example", 480)
		for range 12 {
			b.now = b.now.Add(10 * time.Minute)
			b.send("a@x.example", 1)
		}
		if u := b.usual.domains["x.example"].find("a@x.example"); u.in(month, u.last) > 20 {
			t.Errorf("at %d minutes: %d", minutes, u.in(month, u.last))
		}
	}
}

// Who has sent nothing for a month makes room for others, and memory is bounded.
func TestUsualHoursAreBounded(t *testing.T) {
	b := newBench(t, Options{Window: time.Hour, MaxAuthors: 1000, Memory: 1 << 20})
	many := func(name string) {
		for i := range 2000 {
			b.send(fmt.Sprintf("%s%d@x%d.example", name, i, i%100), 1)
		}
		b.now = b.now.Add(2 * time.Hour)
		b.Tick(t.Context(), b.now)
		b.Tick(t.Context(), b.now)
	}
	many("a")
	first := b.usual.authors
	if first == 0 || first > 1000 || b.Status().Memory > 1<<20 {
		t.Fatalf("%d authors, %+v", first, b.Status())
	}
	many("b")
	if h := b.usual.domains["x0.example"]; h.find("b0@x0.example") != nil && b.usual.authors > 1000 {
		t.Error("there is no bound")
	}
	b.now = b.now.Add(month * 24 * time.Hour)
	many("c")
	if b.usual.authors > 1000 || b.usual.size != int64(b.usual.authors)*usualSize {
		t.Errorf("%d authors, %d bytes", b.usual.authors, b.usual.size)
	}
	for _, h := range b.usual.domains {
		for _, u := range h.of {
			if u.author[0] != 'c' {
				t.Fatalf("%s is kept for more than a month", u.author)
			}
		}
	}
}
