package notice

import (
	"maps"
	"sync"
	"time"

	"sluice/ratelimit"
)

// perHour is how many recipients of notices pass in an hour. It is far more than
// alert.per_hour allows; what goes beyond that, such as a notice to a tenant's address with a
// thousand forwards, is charged and blocked like all mail.
const perHour = 100

// Notices are the recipients of notices that have passed.
type Notices struct {
	mu     sync.Mutex
	passed map[ratelimit.Token]time.Time // in the last hour, and when
}

// Pass reports whether the recipients of a notice pass, all or none. Each is counted once,
// however often it is asked about.
func (n *Notices) Pass(now time.Time, recipients []ratelimit.Token) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(now)
	more := map[ratelimit.Token]time.Time{}
	for _, token := range recipients {
		if _, known := n.passed[token]; !known {
			more[token] = now
		}
	}
	if len(n.passed)+len(more) > perHour {
		return false
	}
	if n.passed == nil {
		n.passed = map[ratelimit.Token]time.Time{}
	}
	maps.Copy(n.passed, more)
	return true
}

// HasRoom reports whether one more recipient of a notice could pass behind as many as sent
// says. It counts none.
func (n *Notices) HasRoom(now time.Time, sent int) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.forget(now)
	return len(n.passed)+sent < perHour
}

// forget drops what has passed more than an hour ago. mu is held.
func (n *Notices) forget(now time.Time) {
	maps.DeleteFunc(n.passed, func(_ ratelimit.Token, at time.Time) bool { return now.Sub(at) >= time.Hour })
}
