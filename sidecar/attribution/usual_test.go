package attribution

import (
	"fmt"
	"math"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/usual"
)

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
	b.days(3, map[string]int{"a": 8, "c": 5, "big": 32})
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
	if err := b.Reset(t.Context(), b.now, sidecar.Reset{Subject: "x.example", Epoch: b.now.UnixMilli()}); err != nil {
		t.Fatal(err)
	}
	b.wantShare("big@x.example", 48, 12+8) // what is usual stays
	b.broken.Store(new(error))
	b.wantShare("else@x.example", math.MaxInt64, 0)
}

// Whom strangers make send has no usual hour, nor has what is no domain.
// Who sends more than it usually does is unusual, and who is new, in a domain that is known.
func TestUnusual(t *testing.T) {
	b := newBench(t, hour)
	want := func(author string, n, usual int64, want bool) {
		t.Helper()
		if got, is := b.Unusual(b.now, "x.example", author, n, 500); got != usual || is != want {
			t.Errorf("%s with %d: usual %d, unusual %v", author, n, got, is)
		}
	}
	want("big@x.example", 500, 0, false) // nothing is known
	b.send("big@x.example", 1)
	b.now = b.now.Add(2 * time.Hour)
	b.send("big@x.example", 1)
	want("new@x.example", 500, 0, false) // nobody since an earlier day
	b.days(3, map[string]int{"a": 8, "big": 32})
	b.send("new@x.example", 1)
	b.now = b.now.Add(2 * time.Hour)
	b.send("new@x.example", 1)
	want("big@x.example", 48, 32, false)
	want("big@x.example", 49, 32, true)
	want("a@x.example", 25, 8, false) // a twentieth of the limit
	want("a@x.example", 26, 8, true)
	want("new@x.example", 1, 0, true)
	want("loopback", 500, 0, false)
	b.broken.Store(new(error))
	want("big@x.example", 49, 0, false)
}

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
	x, day := b.usual.Of("x.example"), b.day(b.number(b.now, b.now))
	for key, want := range map[string]int64{"forward:info@x.example": 0, "loopback": 0, "script:/home/bob/wp": 15, "login:bob": 15} {
		if got := x.Quota(key, day); got != want {
			t.Errorf("%s: %d, want %d", key, got, want)
		}
	}
	if b.usual.Of("system") != nil || b.usual.Bytes() != 2*usual.AuthorSize {
		t.Errorf("%d bytes", b.usual.Bytes())
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
		tomorrow := b.day(b.number(b.now, b.now)) + 1
		if free := b.usual.Of("x.example").Free("a@x.example", tomorrow, 0); free > 30 {
			t.Errorf("at %d minutes: %d", minutes, free)
		}
	}
}

// What is usual takes a quarter of the memory at most.
func TestUsualHoursAreBounded(t *testing.T) {
	b := newBench(t, Options{Window: time.Hour, Memory: 1 << 20})
	for i := range 2000 {
		b.send(fmt.Sprintf("a%d@x%d.example", i, i%100), 1)
	}
	b.now = b.now.Add(2 * time.Hour)
	b.Tick(t.Context(), b.now)
	b.Tick(t.Context(), b.now)
	if n := b.usual.Bytes(); n == 0 || n > 1<<18 || b.Status().Memory > 1<<20 {
		t.Errorf("%d bytes, %+v", n, b.Status())
	}
}

// An hour far beyond all others is usual from then on, but not if much of it has gone wrong or
// was called spam.
func TestASpikeThatLooksLikeAThiefsIsNotUsual(t *testing.T) {
	for name, c := range map[string]struct {
		badSends int
		cause    sidecar.Cause
		usual    bool
	}{
		"clean": {0, "", true}, "some bad": {59, sidecar.NoSuchUser, true}, "much bad": {60, sidecar.NoSuchUser, false},
		"called spam": {5, sidecar.CalledSpam, false}, "once called spam": {1, sidecar.CalledSpam, true},
	} {
		b := newBench(t, hour)
		b.days(36, map[string]int{"a": 5})
		b.send("a@x.example", 300)
		s := b.subjects.byName["x.example"]
		s.badSends = map[ratelimit.Token]badSend{}
		for i := range c.badSends {
			b.authors.use(b.authors.numbers["a@x.example"])
			s.badSends[ratelimit.Token(i+1)] = badSend{b.authors.numbers["a@x.example"], s.last, c.cause}
		}
		b.now = b.now.Add(30 * time.Hour)
		b.Tick(t.Context(), b.now)
		if _, busiest, known := b.Threshold(b.now, "x.example", "a@x.example"); !known || (busiest > 5) != c.usual {
			t.Errorf("%s: %d, %t", name, busiest, known)
		}
	}
}
