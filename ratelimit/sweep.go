package ratelimit

import "time"

// sweepParts is how many calls of Sweep go through the whole state.
const sweepParts = 64

// idle is how long a subject is kept after its last send was forgotten. It is much
// longer than sweepParts seconds, so that by then no record of a send refers to the
// subject.
const idle = 10 * time.Minute

// Sweep frees the memory of what no longer counts by the Ledger's clock. Call it once
// a second: each call goes through a part of the state, and unlocks the Ledger
// between pieces of it.
func (l *Ledger) Sweep() {
	l.mu.Lock()
	l.swept = (l.swept + 1) % sweepParts
	part, pages := l.swept, len(l.subjects.pages)
	l.mu.Unlock()
	for i := part; i < sendShards; i += sweepParts {
		l.locked(func() { l.sweepShard(&l.sends[i], l.last) })
	}
	for i := part; i < pages; i += sweepParts {
		l.locked(func() { l.sweepPage(i, l.last) })
	}
	if part == 0 {
		l.locked(func() {
			if l.groups.sweep() {
				l.clearPayees()
			}
			l.subjects.trim()
		})
	}
}

func (l *Ledger) locked(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// sweepShard rebuilds a shard if more than a quarter of it is forgotten.
func (l *Ledger) sweepShard(sh *sendShard, at int64) {
	old := 0
	for i := range sh.slots {
		if s := &sh.slots[i]; s.token != 0 && !l.live(*s, at) {
			old++
		}
	}
	if old*4 > sh.n {
		l.rebuild(sh, at)
	}
}

// rebuild drops the forgotten sends of a shard and resizes it to the others.
func (l *Ledger) rebuild(sh *sendShard, at int64) {
	sh.rebuild(func(s send) bool {
		if l.live(s, at) {
			return true
		}
		l.groups.refer(s.payers, -1)
		return false
	})
}

func (l *Ledger) sweepPage(i int, at int64) {
	if i >= len(l.subjects.pages) {
		return
	}
	for j := range l.subjects.pages[i].places {
		s, id := &l.subjects.pages[i].places[j], uint32(i*pageSize+j)
		if s.name != "" && at-s.touched > l.keep+idle.Milliseconds() && empty(l.subjects.open(id, at)) {
			l.subjects.drop(id)
			l.clearPayees()
		}
	}
}

func empty(rings []ring) bool {
	for i := range rings {
		if len(rings[i].buckets) > 0 {
			return false
		}
	}
	return true
}
