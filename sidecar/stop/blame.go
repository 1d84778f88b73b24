package stop

import (
	"context"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// Blame stops an author in place of a subject of whose mail too much was deferred or failed,
// and which would go on without that. Mail of the author at the expense of others goes on.
func (s *Stops) Blame(ctx context.Context, now time.Time, scope, subject, why, text string) {
	at := now.Round(0).UTC().Truncate(time.Millisecond)
	st := &Stop{Mark: newMark(at), Scope: scope, Since: at, Cause: Deferfail, Who: "sluice", Node: s.Settings().Node, Why: why, Of: subject, Text: text}
	s.post(ctx, keys+st.Mark, st)
}

// Forgive ends what Blame has begun. A stop by an operator stays.
func (s *Stops) Forgive(ctx context.Context, now time.Time, scope, subject string) {
	if st := s.view.Load().blamed(now, scope, subject); st != nil {
		s.post(ctx, keys+st.Mark+endKey, end{Ended: now.Round(0).UTC().Truncate(time.Millisecond), EndedBy: "sluice", EndedOn: s.Settings().Node})
	}
}

// Blamed returns whom Blame has stopped, where nobody has ended that.
func (s *Stops) Blamed(now time.Time) (all []sidecar.Blamed) {
	for scope, stops := range *s.view.Load() {
		for _, st := range stops {
			if st.Cause == Deferfail && st.active(now) {
				all = append(all, sidecar.Blamed{Key: scope, Subject: st.Of, Node: st.Node, Since: st.Since})
			}
		}
	}
	return all
}

// LastBlame returns when an author was last blamed, also where that is over; zero: not in the
// last weeks.
func (s *Stops) LastBlame(scope, subject string) (at time.Time) {
	for _, st := range (*s.view.Load())[scope] {
		if st.Cause == Deferfail && st.Of == subject && st.Since.After(at) {
			at = st.Since
		}
	}
	return at
}

// blamed returns the stop by Blame that is in force; nil if none is.
func (v view) blamed(now time.Time, scope, subject string) *Stop {
	for _, st := range v[scope] {
		if st.Cause == Deferfail && st.Of == subject && st.active(now) {
			return st
		}
	}
	return nil
}

// retryEvery is how often one send may be tried again that was charged before its author was
// blamed: what becomes of it may end the stop.
const retryEvery = time.Minute

// retries are the last ones, by the marks of stops.
type retries struct {
	mu   sync.Mutex
	last map[string]lastRetry
}

type lastRetry struct {
	at    time.Time
	token ratelimit.Token
}

// A retry implements sidecar.Retries.
type retry struct {
	*retries
	mark string
	now  time.Time
}

// Left implements sidecar.Retries.
func (r *retry) Left() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.now.Sub(r.last[r.mark].at) < retryEvery {
		return 0
	}
	return 1
}

// Allow implements sidecar.Retries. The router may ask more than once in an attempt.
func (r *retry) Allow(_ string, token ratelimit.Token) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if last := r.last[r.mark]; r.now.Sub(last.at) < retryEvery {
		return last.token == token
	}
	if r.last == nil || len(r.last) > mostOver {
		r.last = map[string]lastRetry{}
	}
	r.last[r.mark] = lastRetry{r.now, token}
	return true
}

var _ sidecar.Retries = (*retry)(nil)
