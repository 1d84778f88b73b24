package policy

import (
	"maps"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/identity"
)

// noticesPerHour is how many recipients of Sluice's own notices pass in an hour. It is far more
// than alert.per_hour allows; what goes beyond that, such as a notice to a tenant's address with
// a thousand forwards, is charged and blocked like all mail.
const noticesPerHour = 100

// notices are the recipients of Sluice's own notices that no limit and no block may stop: what
// they tell of may be that this very host or domain is stopped, and over every limit.
type notices struct {
	mu     sync.Mutex
	passed map[ratelimit.Token]time.Time // in the last hour, and when
}

// pass reports whether a question is about a notice that passes. One that does not is charged
// from then on.
func (n *notices) pass(q *question) bool {
	if q.who.Class != sidecar.Notice {
		return false
	}
	if q.Charged && identity.Redirected(&q.Request) == "" {
		return true // counted when it came
	}
	if n.count(q) {
		return true
	}
	q.who.Class = sidecar.Charged
	return false
}

// count counts the recipients of a question, each once, unless they are too many. At rcpt it
// only looks.
func (n *notices) count(q *question) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	maps.DeleteFunc(n.passed, func(_ ratelimit.Token, at time.Time) bool { return q.now.Sub(at) >= time.Hour })
	if q.Stage == sidecar.StageRcpt {
		return len(n.passed)+q.Sent < noticesPerHour
	}
	more := map[ratelimit.Token]time.Time{}
	for _, token := range q.AppendTokens(nil, q.ID, q.to) {
		if _, known := n.passed[token]; !known {
			more[token] = q.now
		}
	}
	if len(n.passed)+len(more) > noticesPerHour {
		return false
	}
	if n.passed == nil {
		n.passed = map[ratelimit.Token]time.Time{}
	}
	maps.Copy(n.passed, more)
	return true
}
