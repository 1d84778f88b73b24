package storetest

import (
	"context"
	"slices"
	"time"

	"pgregory.net/rapid"

	"sluice/ratelimit"
)

// settle reports sends of which some are not known; some of those are reported more
// than once, and some have Subjects to charge.
func (h *history) settle() {
	payers := [][]ratelimit.Subject{nil, h.payers(), h.payers()}
	reports := make([]ratelimit.Report, rapid.IntRange(1, 6).Draw(h.T, "reports"))
	known := map[ratelimit.Token]bool{}
	fresh := h.next + 3
	for i := range reports {
		r := &reports[i]
		r.Token = ratelimit.Token(rapid.Uint64Range(1, uint64(fresh)).Draw(h.T, "token"))
		if r.Outcome = h.outcome(); r.Outcome == 0 && rapid.Bool().Draw(h.T, "excused") { // else nothing is known yet
			r.Outcome = ratelimit.Excused
		}
		r.Subjects = rapid.SampledFrom(payers).Draw(h.T, "charged")
		if rapid.IntRange(0, 2).Draw(h.T, "aged") == 0 {
			r.Age = time.Duration(rapid.Int64Range(0, 90).Draw(h.T, "age")) * windows[rapid.IntRange(0, 4).Draw(h.T, "ageof")] / 60
		}
		known[r.Token] = h.store.Known(h.now(), r.Token)
	}
	h.next = fresh
	h.checkClock(h.store.Look(context.Background(), h.now(), ratelimit.Take{})) // reads the store's clock, which dates what is charged
	if err := h.store.Settle(context.Background(), h.now(), reports); err != nil {
		h.Fatalf("%v", err)
	}
	began := h.last
	for i := range reports {
		r := &reports[i]
		if !r.Known && h.last > began && h.justForgotten(r.Token) {
			known[r.Token] = false // a new window has moved the clock on
		}
		h.checkReport(r, known)
	}
}

// forgetNow moves sends that were forgotten in this very millisecond from known to
// fresh: a new window may have moved the clock on in Redis before it did in the node's
// own ledger.
func (h *history) forgetNow(tokens, known []ratelimit.Token) (stillKnown, fresh []ratelimit.Token) {
	for _, token := range tokens {
		if slices.Contains(known, token) && !h.justForgotten(token) {
			stillKnown = append(stillKnown, token)
		} else if !slices.Contains(fresh, token) {
			fresh = append(fresh, token)
		}
	}
	return stillKnown, fresh
}

// justForgotten reports whether a send may have been known until the clock's last
// millisecond.
func (h *history) justForgotten(token ratelimit.Token) bool {
	return slices.ContainsFunc(h.log, func(c charged) bool {
		return c.token == token && slices.ContainsFunc(windows, func(w time.Duration) bool {
			return h.last-c.when == (w.Microseconds()+bucketOf(w)+999)/1000
		})
	})
}

// checkReport checks the answer to one report, and puts it in the log.
func (h *history) checkReport(r *ratelimit.Report, known map[ratelimit.Token]bool) {
	switch {
	case r.Known != known[r.Token]:
		h.Fatalf("token %d: known %v, not %v", r.Token, r.Known, known[r.Token])
	case r.Known:
		moved := h.settleLog([]ratelimit.Token{r.Token}, r.Outcome)
		if r.Charged || r.Moved != (moved == 1) {
			h.Fatalf("outcome %d told of the known token %d: %+v, and it moves %d", r.Outcome, r.Token, *r, moved)
		}
	case !r.Charged: // nobody pays, or it is too old to matter
		if recent := r.Age < time.Second; r.Moved || recent && len(r.Subjects) > 0 {
			h.Fatalf("%+v", *r)
		}
	default:
		h.logLateCharge(r)
		known[r.Token] = true
	}
}

// logLateCharge puts a send that was charged by a report in the log.
func (h *history) logLateCharge(r *ratelimit.Report) {
	if len(r.Subjects) == 0 || r.Moved != (r.Outcome.Kind() != 0) {
		h.Fatalf("%+v", *r)
	}
	when := h.last - r.Age.Milliseconds()
	if h.startsEmpty(r.Subjects) {
		h.last++ // as the store does, so that earlier sends are not in the new window
		if when == h.last-1 {
			when++
		}
	}
	h.addWindows(r.Subjects)
	h.startCounting(r.Subjects)
	c := charged{token: r.Token, when: when}
	for _, s := range r.Subjects {
		c.subjects = append(c.subjects, s.Name)
	}
	h.log = append(h.log, c)
	if r.Outcome.Kind() != 0 {
		h.settleLog([]ratelimit.Token{r.Token}, r.Outcome)
	}
	for _, s := range r.Subjects {
		h.checkStanding(s)
	}
}

// checkStanding checks that a subject's sends are counted in the windows of its limits.
func (h *history) checkStanding(s ratelimit.Subject) {
	for _, w := range h.store.Standing(h.now(), s.Name).Windows {
		if !slices.ContainsFunc(s.Limits, func(l ratelimit.Limit) bool { return l.Window == w.Window }) {
			continue
		}
		if low := h.count(s.Name, w.Window, 0); w.Sent < low {
			h.Fatalf("%s stands at %d in %v, and %d were charged", s.Name, w.Sent, w.Window, low)
		}
	}
}
