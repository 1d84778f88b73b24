package storetest

import (
	"context"
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/ratelimit"
)

// A Store is the store that is tested.
type Store interface {
	Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error)
	Known(now time.Time, token ratelimit.Token) bool
	Settle(ctx context.Context, now time.Time, reports []ratelimit.Report) error
	Uncharge(ctx context.Context, now time.Time, tokens []ratelimit.Token) error
	Reset(ctx context.Context, now time.Time, subject string, seen int64) (int64, error)
	Standing(now time.Time, subject string) ratelimit.Standing
}

// T is what testing.T and rapid.T have in common.
type T interface {
	Helper()
	Fatalf(format string, args ...any)
	Logf(format string, args ...any)
}

// Property compares the store with an exact log in random histories, as many as the
// flag -rapid.checks says. open is called for each.
func Property(t *testing.T, open func() Store) {
	rapid.Check(t, func(rt *rapid.T) {
		h := newHistory(rt, borrowing{open()})
		for range rapid.IntRange(1, 60).Draw(rt, "steps") {
			h.advance()
			switch rapid.IntRange(0, 19).Draw(rt, "step") {
			default:
				h.take()
			case 0, 1:
				h.look()
			case 2:
				h.takeAgain()
			case 3:
				h.uncharge()
			case 4:
				h.reset()
			case 5:
				h.standing()
			case 6, 7:
				h.settle()
			}
		}
	})
}

// A charged is a charged send in the exact log.
type charged struct {
	token    ratelimit.Token
	when     int64 // milliseconds
	subjects []string
	outcome  ratelimit.Outcome
}

// A history calls one store at random, and logs exactly what it accepted.
type history struct {
	*rapid.T
	store    Store
	clock    int64 // the time that the test passes to the store, milliseconds; it may go back
	last     int64 // the greatest of them: the store's clock
	subjects []ratelimit.Subject
	log      []charged
	epochs   map[string]int64
	sinces   map[string]map[time.Duration]int64 // since when a subject is counted in a window; 0: since its first send
	next     ratelimit.Token
}

var windows = []time.Duration{time.Second, 7 * time.Second, 1234 * time.Millisecond,
	time.Hour, 24 * time.Hour, ratelimit.MaxWindow}

func newHistory(rt *rapid.T, s Store) *history {
	h := &history{T: rt, store: s, epochs: map[string]int64{}, sinces: map[string]map[time.Duration]int64{}, clock: 1_800_000_000_000}
	for _, name := range []string{"a.example", "b.example", "account:bob"}[:rapid.IntRange(1, 3).Draw(rt, "subjects")] {
		sub := ratelimit.Subject{Name: name}
		for _, w := range rapid.SliceOfNDistinct(rapid.SampledFrom(windows), 1, 2, rapid.ID).Draw(rt, "windows") {
			sub.Limits = append(sub.Limits, ratelimit.Limit{Window: w, Max: h.max()})
		}
		h.subjects = append(h.subjects, sub)
	}
	return h
}

func (h *history) max() int64 { return rapid.Int64Range(0, 12).Draw(h.T, "max") }

// now is the time to pass to the store, which sets its clock by it.
func (h *history) now() time.Time {
	h.last = max(h.last, h.clock)
	return time.UnixMilli(h.clock)
}

// advance lets the clock stand still, step, jump to the edge of a bucket or
// of the window, or go back. Often a limit changes too.
func (h *history) advance() {
	sub := h.subjects[rapid.IntRange(0, len(h.subjects)-1).Draw(h.T, "clockof")]
	limit := &sub.Limits[rapid.IntRange(0, len(sub.Limits)-1).Draw(h.T, "clocklimit")]
	window := limit.Window.Milliseconds()
	bucket := bucketOf(limit.Window) // microseconds
	switch rapid.IntRange(0, 9).Draw(h.T, "clock") {
	case 0, 1, 2: // stands still
	case 3:
		h.clock += rapid.Int64Range(0, 3).Draw(h.T, "ms")
	case 4, 5: // an edge of a bucket
		edge := ((h.clock*1000/bucket + rapid.Int64Range(1, 62).Draw(h.T, "buckets")) * bucket) / 1000
		h.clock = edge + rapid.Int64Range(-1, 1).Draw(h.T, "off")
	case 6:
		h.clock += window + rapid.Int64Range(-2, 2).Draw(h.T, "off")
	case 7:
		h.clock += rapid.Int64Range(0, window).Draw(h.T, "ms")
	case 8:
		h.clock -= rapid.Int64Range(0, 2*window).Draw(h.T, "back")
	case 9:
		limit.Max = h.max()
	}
}

// bucketOf is the width of a bucket in microseconds, from the definition.
func bucketOf(w time.Duration) int64 { return (w.Microseconds() + 59) / 60 }

// payers draws who is to be charged, sometimes by one of its limits only, as
// when a limit was taken out of a configuration and comes back, sometimes
// watched, and sometimes with a part of the limit withheld.
func (h *history) payers() []ratelimit.Subject {
	var subs []ratelimit.Subject
	for _, s := range h.subjects {
		if len(subs) == 0 || rapid.Bool().Draw(h.T, "also") {
			s.Limits = slices.Clone(s.Limits)
			if rapid.IntRange(0, 3).Draw(h.T, "fewer") == 0 {
				i := rapid.IntRange(0, len(s.Limits)-1).Draw(h.T, "left")
				s.Limits = s.Limits[i : i+1]
			}
			s.Watched = rapid.IntRange(0, 3).Draw(h.T, "watched") == 0
			s.Limits[0].Withheld = rapid.SampledFrom([]int64{0, 0, 0, 0, 1, 3, 12, -2, math.MaxInt64, math.MinInt64}).Draw(h.T, "withheld")
			subs = append(subs, s)
		}
	}
	return subs
}

func (h *history) draw(n int) (tokens []ratelimit.Token) {
	for range n {
		h.next++
		tokens = append(tokens, h.next)
	}
	return tokens
}

func (h *history) take() {
	t := ratelimit.Take{Subjects: h.payers(), Tokens: h.draw(rapid.IntRange(1, 6).Draw(h.T, "sends"))}
	t.Force = rapid.IntRange(0, 7).Draw(h.T, "force") == 0
	if t.Force {
		t.Outcome = h.outcome()
	}
	if rapid.IntRange(0, 5).Draw(h.T, "aged") == 0 {
		t.Age = time.Duration(rapid.Int64Range(0, 90).Draw(h.T, "age")) * windows[rapid.IntRange(0, 4).Draw(h.T, "ageof")] / 60
	}
	h.charge(t)
}

// takeAgain offers tokens of which some may be charged already.
func (h *history) takeAgain() {
	if h.next == 0 {
		return
	}
	t := ratelimit.Take{Subjects: h.payers(), Outcome: h.outcome()}
	for range rapid.IntRange(1, 4).Draw(h.T, "sends") {
		t.Tokens = append(t.Tokens, ratelimit.Token(rapid.Uint64Range(1, uint64(h.next)).Draw(h.T, "token")))
	}
	h.charge(t)
}

func (h *history) charge(t ratelimit.Take) {
	if h.startsEmpty(t.Subjects) && slices.ContainsFunc(t.Subjects, func(s ratelimit.Subject) bool { return s.Watched }) {
		// The new window moves the clock on, and so the room of a watched subject: do that first.
		h.checkClock(h.store.Look(context.Background(), h.now(), ratelimit.Take{Subjects: t.Subjects}))
		h.addWindows(t.Subjects)
	}
	var fresh []ratelimit.Token
	for _, token := range t.Tokens {
		if !h.store.Known(h.now(), token) && !slices.Contains(fresh, token) {
			fresh = append(fresh, token)
		} else if !h.logged(token) && !slices.Contains(fresh, token) {
			h.Fatalf("token %d is known and was never charged", token)
		}
	}
	var known []ratelimit.Token
	for _, token := range t.Tokens {
		if h.store.Known(h.now(), token) {
			known = append(known, token)
		}
	}
	before := h.standings(t)
	r, err := h.store.Take(context.Background(), h.now(), t)
	h.checkClock(r, err)
	if r.Charged > len(fresh) {
		known, fresh = h.forgetNow(t.Tokens, known)
	}
	admitted, within := h.admitted(t, before, r, len(fresh))
	moved := h.settleLog(known, t.Outcome)
	if t.Outcome != 0 {
		moved += r.Charged
	}
	if r.Moved != moved {
		h.Fatalf("outcome %d moved %d sends of %v, not %d", t.Outcome, r.Moved, t.Tokens, moved)
	}
	when := h.last - t.Age.Milliseconds()
	if (!r.OK || r.Charged > 0) && h.addWindows(t.Subjects) && t.Age.Milliseconds() > 0 {
		when-- // dated before the new window moved the clock on
	}
	if r.Charged > 0 {
		h.startCounting(h.charged(t, admitted, 0))
	}
	switch {
	case !r.OK:
		h.checkRefusal(t, r, int64(len(fresh)))
		return
	case r.Charged == 0: // all known, or too old to matter
		return
	case r.Charged != len(fresh):
		h.Fatalf("%d sends charged of %d that were not known", r.Charged, len(fresh))
	}
	for i, token := range fresh {
		c := charged{token: token, when: when, outcome: t.Outcome}
		for _, s := range h.charged(t, admitted, i) {
			c.subjects = append(c.subjects, s.Name)
		}
		h.log = append(h.log, c)
	}
	h.checkUses(t, r, when, admitted, within)
}

// since is the date from which sends of a subject count in a window.
func (h *history) since(subject string, window time.Duration) int64 {
	if since, counted := h.sinces[subject][window]; counted || h.sinces[subject] == nil {
		return since
	}
	return math.MaxInt64
}

// checkClock fails on an error, and reads the store's clock, which may be a millisecond
// ahead where resets follow each other closely.
func (h *history) checkClock(r ratelimit.Result, err error) {
	if err != nil {
		h.Fatalf("%v", err)
	}
	at := r.At.UnixMilli()
	if at < h.last {
		h.Fatalf("the store's clock went back from %d to %d", h.last, at)
	}
	h.last = at
}

func (h *history) logged(token ratelimit.Token) bool {
	return slices.ContainsFunc(h.log, func(c charged) bool { return c.token == token })
}

// count is the exact number of sends of a subject in a window that is longer by more
// microseconds, since its last reset and since it is counted in that window.
func (h *history) count(subject string, window time.Duration, more int64) (n int64) {
	return h.counts(subject, window, more)[0]
}

// counts is count, then how many of these sends are delivered, deferred, failed, and
// excused.
func (h *history) counts(subject string, window time.Duration, more int64) (n [5]int64) {
	from := max(h.epochs[subject]+1, h.since(subject, window))
	span := window.Microseconds() + more
	for _, c := range h.log {
		if !slices.Contains(c.subjects, subject) || c.when < from || c.when*1000 <= h.last*1000-span {
			continue
		}
		n[0]++
		if c.outcome > 0 {
			n[c.outcome&3]++
		}
		if c.outcome > 3 {
			n[4]++
		}
	}
	return n
}

// checkUses checks that no more than the limit is accepted in a window, and that each
// reported use is between the exact count in the window and that in the window and one
// bucket. within is what would have been admitted if nothing were withheld.
func (h *history) checkUses(t ratelimit.Take, r ratelimit.Result, when int64, admitted, within map[string]int) {
	for _, u := range r.Uses {
		span := u.Limit.Window.Microseconds()
		low, high := h.count(u.Subject, u.Limit.Window, 0), h.count(u.Subject, u.Limit.Window, bucketOf(u.Limit.Window))
		if over := int64(r.Charged - within[u.Subject]); u.Over != over {
			h.Fatalf("%s: %d sends are said to be over a watched limit, it was %d of %d", u.Subject, u.Over, over, r.Charged)
		}
		if u.Used < low || u.Used > high {
			h.Fatalf("%s used %d in %v, the exact log has %d to %d", u.Subject, u.Used, u.Limit.Window, low, high)
		}
		counts := when*1000 > h.last*1000-span && when > h.epochs[u.Subject] && when >= h.since(u.Subject, u.Limit.Window)
		if counts && !t.Force && admitted[u.Subject] > 0 && u.Limit.Max > 0 && low > left(u.Limit) {
			h.Fatalf("%s: %d accepted within %v, the limit is %+v", u.Subject, low, u.Limit.Window, u.Limit)
		}
	}
}

// checkRefusal checks that a refusal was right, which limit is full, and when there is
// room.
func (h *history) checkRefusal(t ratelimit.Take, r ratelimit.Result, n int64) {
	full := false
	for _, u := range r.Uses {
		if !u.Full {
			continue
		}
		full = full || !u.Watched
		high := h.count(u.Subject, u.Limit.Window, bucketOf(u.Limit.Window))
		if u.Limit.Max == 0 || high+t.Ahead+n <= left(u.Limit) {
			h.Fatalf("%s refused %d sends, though %d in %v and a bucket leave room below %+v",
				u.Subject, n, high, u.Limit.Window, u.Limit)
		}
		if withheld := u.Used+t.Ahead+n <= u.Limit.Max; u.Withheld != withheld {
			h.Fatalf("%s has %d of %+v for %d sends; that it is full only by what is withheld is said to be %v", u.Subject, u.Used, u.Limit, n, u.Withheld)
		}
		if never := t.Ahead+n > left(u.Limit); never != u.Frees.IsZero() {
			h.Fatalf("%s frees at %v for %d sends of %d", u.Subject, u.Frees, t.Ahead+n, left(u.Limit))
		}
	}
	if !full || t.Force {
		h.Fatalf("refused, though no limit is full or it was forced: %+v", r)
	}
}

// look asks without charging, then checks Frees to the millisecond.
func (h *history) look() {
	t := ratelimit.Take{Subjects: h.payers()[:1], Marks: h.draw(rapid.IntRange(1, 3).Draw(h.T, "sends")),
		Ahead: rapid.Int64Range(0, 3).Draw(h.T, "ahead")}
	before := h.standings(t)
	r, err := h.store.Look(context.Background(), h.now(), t)
	h.checkClock(r, err)
	h.addWindows(t.Subjects)
	h.checkMarks(before, r)
	if r.OK {
		return
	}
	h.checkRefusal(t, r, int64(len(t.Marks)))
	idle, err := h.store.Look(context.Background(), h.now(), ratelimit.Take{Subjects: t.Subjects})
	h.checkClock(idle, err)
	for i, u := range idle.Uses {
		if was := r.Uses[i].Refused; u.Refused != was {
			h.Fatalf("a Look without marks left %d of %d refused sends of %s", u.Refused, was, u.Subject)
		}
	}
	frees := time.Time{}
	for _, u := range r.Uses {
		if u.Full && u.Frees.IsZero() {
			return
		}
		if u.Full && u.Frees.After(frees) {
			frees = u.Frees
		}
	}
	if frees.UnixMilli() <= h.last {
		h.Fatalf("frees at %v, which is past", frees)
	}
	for ms, want := range []bool{false, true} {
		h.clock = frees.UnixMilli() - 1 + int64(ms)
		r, err = h.store.Look(context.Background(), h.now(), t)
		h.checkClock(r, err)
		if r.OK != want {
			h.Fatalf("said to free at %v; asked at %v the answer is %v", frees, h.now(), r.OK)
		}
	}
}

// outcome draws an outcome; often none.
func (h *history) outcome() ratelimit.Outcome {
	return rapid.SampledFrom([]ratelimit.Outcome{0, 0, 0, ratelimit.Delivered, ratelimit.Deferred, ratelimit.Failed,
		ratelimit.Deferred | ratelimit.Excused, ratelimit.Failed | ratelimit.Excused}).Draw(h.T, "outcome")
}

// settleLog changes outcomes in the exact log: from delivered or failed never, from
// deferred only to those two.
func (h *history) settleLog(tokens []ratelimit.Token, o ratelimit.Outcome) (moved int) {
	seen := map[ratelimit.Token]bool{}
	for i := len(h.log) - 1; i >= 0; i-- {
		c := &h.log[i]
		if !slices.Contains(tokens, c.token) || seen[c.token] {
			continue
		}
		seen[c.token] = true // an older send with that token was forgotten
		before := c.outcome
		switch kind := c.outcome & 3; {
		case o == ratelimit.Excused:
			if kind == ratelimit.Deferred || kind == ratelimit.Failed {
				c.outcome |= ratelimit.Excused
			}
		case kind == 0, kind == ratelimit.Deferred && o&3 != ratelimit.Deferred:
			c.outcome = o
		}
		if o != 0 && c.outcome != before {
			moved++
		}
		if o == 0 {
			c.outcome = before
		}
	}
	return moved
}

func (h *history) uncharge() {
	if len(h.log) == 0 {
		return
	}
	i := rapid.IntRange(0, len(h.log)-1).Draw(h.T, "which")
	token := h.log[i].token
	known := h.store.Known(h.now(), token)
	if err := h.store.Uncharge(context.Background(), h.now(), []ratelimit.Token{token, token, h.next + 1}); err != nil {
		h.Fatalf("%v", err)
	}
	if h.store.Known(h.now(), token) {
		h.Fatalf("token %d is known after it was uncharged", token)
	}
	if !known {
		return
	}
	// A token that was forgotten and charged again is uncharged once.
	for i = len(h.log) - 1; h.log[i].token != token; i-- {
	}
	h.log = slices.Delete(h.log, i, i+1)
}

func (h *history) reset() {
	s := h.subjects[rapid.IntRange(0, len(h.subjects)-1).Draw(h.T, "whom")].Name
	stale := h.epochs[s] > 0 && rapid.Bool().Draw(h.T, "stale")
	seen := int64(-1)
	if stale {
		seen = h.epochs[s] - 1
	}
	epoch, err := h.store.Reset(context.Background(), h.now(), s, seen)
	switch {
	case err != nil:
		h.Fatalf("%v", err)
	case stale && epoch != h.epochs[s]:
		h.Fatalf("a stale hand moved the epoch of %s from %d to %d", s, h.epochs[s], epoch)
	case !stale && epoch <= h.epochs[s]:
		h.Fatalf("reset moved the epoch of %s from %d to %d", s, h.epochs[s], epoch)
	}
	h.epochs[s] = epoch
	h.last = max(h.last, epoch)
}

func (h *history) standing() {
	s := h.subjects[rapid.IntRange(0, len(h.subjects)-1).Draw(h.T, "whom")].Name
	for _, w := range h.store.Standing(h.now(), s).Windows {
		low := h.counts(s, w.Window, 0)
		// The store's clock may be a millisecond ahead of the last one seen.
		high := h.counts(s, w.Window, bucketOf(w.Window)+2000)
		for i, n := range []int64{w.Sent, w.Delivered, w.Deferred, w.Failed, w.Excused} {
			if n < low[i] || n > high[i] {
				h.Fatalf("%s stands at %+v in %v, the exact log has %v to %v", s, w.Counts, w.Window, low, high)
			}
		}
	}
}
