package storetest

import (
	"context"
	"slices"
	"time"

	"sluice/ratelimit"
)

// A borrowing store overwrites the slices of each call as soon as it returns, as
// callers may do.
type borrowing struct{ Store }

func (l borrowing) Take(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return lend(t, func(t ratelimit.Take) (ratelimit.Result, error) { return l.Store.Take(ctx, now, t) })
}

func (l borrowing) Look(ctx context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return lend(t, func(t ratelimit.Take) (ratelimit.Result, error) { return l.Store.Look(ctx, now, t) })
}

func lend(t ratelimit.Take, ask func(ratelimit.Take) (ratelimit.Result, error)) (ratelimit.Result, error) {
	t.Subjects, t.Tokens, t.Marks = slices.Clone(t.Subjects), slices.Clone(t.Tokens), slices.Clone(t.Marks)
	t.Uses = make([]ratelimit.Use, 2) // which some of the Takes have not room enough in
	r, err := ask(t)
	r.Uses = slices.Clone(r.Uses)
	for i := range t.Subjects {
		t.Subjects[i] = ratelimit.Subject{Name: "other.example"}
	}
	for i := range t.Tokens {
		t.Tokens[i] = ^t.Tokens[i]
	}
	for i := range t.Marks {
		t.Marks[i] = ^t.Marks[i]
	}
	clear(t.Uses)
	return r, err
}
