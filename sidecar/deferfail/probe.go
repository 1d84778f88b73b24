package deferfail

import (
	"maps"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/envelope"
)

// probes lets subjects that deferrals have tripped retry some of what was sent once: only
// what becomes of that can show that the trip should end, for nothing else goes.
type probes struct {
	mu       sync.Mutex
	subjects map[string]*subjectProbes
}

// subjectProbes are the probes of one subject.
type subjectProbes struct {
	sent  map[ratelimit.Token]time.Time // not delivered so far, in the last probeEvery
	asked map[ratelimit.Token]time.Time // when the router asked last
}

// probeEvery is in how much time deferfail_min probes are sent at most, not counting those
// that are delivered: these show that more can go.
const probeEvery = time.Minute

// maxAsked bounds the sends of a subject that are known to wait for a probe.
const maxAsked = 10_000

// of returns the probes of a subject without those that are too old. mu is held.
func (p *probes) of(subject string, now time.Time) *subjectProbes {
	x := p.subjects[subject]
	if x == nil {
		x = &subjectProbes{map[ratelimit.Token]time.Time{}, map[ratelimit.Token]time.Time{}}
		p.subjects[strings.Clone(subject)] = x // or the whole request stays in memory
	}
	for token, at := range x.sent {
		if now.Sub(at) >= probeEvery {
			delete(x.sent, token)
		}
	}
	if len(x.asked) > maxAsked {
		clear(x.asked)
	}
	return x
}

// left returns how many of most probes a subject may still send.
func (p *probes) left(now time.Time, subject string, most int64) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return max(0, int(most)-len(p.of(subject, now).sent))
}

// delivered takes in that a send was delivered.
func (p *probes) delivered(subject string, token ratelimit.Token) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x := p.subjects[subject]; x != nil {
		delete(x.sent, token)
		delete(x.asked, token)
	}
}

// forget forgets the probes of a subject that is not tripped any more.
func (p *probes) forget(subject string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.subjects, subject)
}

// dropExcept forgets the probes of all subjects that are not tripped any more: some trips are ended
// by another node.
func (p *probes) dropExcept(tripped func(subject string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	maps.DeleteFunc(p.subjects, func(subject string, _ *subjectProbes) bool { return !tripped(subject) })
}

// retries are the Retries of a tripped subject; see sidecar.Retries.
type retries struct {
	breaker *Breaker
	subject string
	most    int64
	now     time.Time
}

// Left implements sidecar.Retries.
func (r *retries) Left() int { return r.breaker.probes.left(r.now, r.subject, r.most) }

// Allow implements sidecar.Retries. The oldest sends go first: at its first question a send
// lets all go before it that are older, and later those that have asked just now too. So one
// that is never asked about again keeps nobody waiting.
func (r *retries) Allow(id string, token ratelimit.Token) bool {
	older := r.breaker.badSends.olderThan(r.subject, id, token)
	p := &r.breaker.probes
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.of(r.subject, r.now)
	if _, sent := x.sent[token]; sent {
		return true
	}
	_, again := x.asked[token]
	x.asked[token] = r.now
	before := int64(len(x.sent))
	for _, t := range older {
		_, sent := x.sent[t]
		if !sent && (!again || r.now.Sub(x.asked[t]) < probeEvery) {
			before++
		}
	}
	if before >= r.most {
		return false
	}
	x.sent[token] = r.now
	return true
}

// olderThan returns the deferred sends of a subject that are older than this one.
func (b *badSends) olderThan(subject, id string, token ratelimit.Token) (older []ratelimit.Token) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.subjects[subject]
	if d == nil {
		return nil
	}
	when, _ := envelope.IDTime(id)
	if s, known := d.Sends[token]; known {
		when = s.When
	}
	for t, s := range d.Sends {
		if !s.Failed && s.When.Before(when) {
			older = append(older, t)
		}
	}
	return older
}
