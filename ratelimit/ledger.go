package ratelimit

import (
	"slices"
	"sync"
	"time"
)

// A Ledger is a store in memory: it has the counts of all subjects and a record of
// every send. Its methods may be called concurrently.
//
// Its clock is the latest time that a caller gave it, in milliseconds. A call with an
// earlier time is treated as if it were made at the time of the clock.
type Ledger struct {
	mu      sync.Mutex
	options Options
	times

	subjects subjects
	groups   groups
	sends    sends

	seq       uint64 // number of the last change
	uncounted int64
	swept     int // part that the last Sweep went through

	space space
	entry []byte // for do
}

// times are the clock of a Ledger and what depends on it.
type times struct {
	last          int64 // the clock, Unix milliseconds
	keep          int64 // how long sends are kept, milliseconds
	cleaned       int64 // when all shards were last rebuilt, see wrapMargin; Unix milliseconds
	completeSince int64 // Unix milliseconds: sends dated up to it may be forgotten, as keep was shorter once
}

// Options are the options of NewLedger.
type Options struct {
	// MaxSubjects is the memory ceiling: when so many subjects are counted, sends
	// of new ones pass uncounted, unless an operator names them. 0: no ceiling.
	MaxSubjects int
	// Named reports whether an operator names a subject: it is counted past the
	// ceiling too, or whoever makes up names could have it pass uncounted. It is
	// asked at the ceiling only. It must not call the Ledger, nor keep the name. nil: none is named.
	Named func(subject string) bool
	// Keep is the longest limited window. A Take with a longer one extends it.
	Keep time.Duration
	// Record is given every change, encoded for Replay, in order, by the call that
	// makes it. It must not call the Ledger, nor keep the entry.
	Record func(seq uint64, entry []byte)
}

// NewLedger returns an empty Ledger.
func NewLedger(o Options) *Ledger {
	l := &Ledger{options: o, times: times{keep: newWindow(max(o.Keep, MinWindow)).span()}}
	l.subjects.index = map[string]uint32{}
	l.groups.index = map[string]uint32{}
	return l
}

// Take charges what t asks for to all of its subjects, or to none.
//
// Watched subjects are charged for as many sends as they have room for, see Subject.
// A token that is known is accepted and charges nothing. A Take older than the
// longest limited window is accepted and changes nothing. If the memory ceiling is
// reached, a new subject passes uncounted unless it is named.
func (l *Ledger) Take(now time.Time, t Take) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	l.extend(t.Subjects)
	tokens, marks := l.fresh(&t, at)
	moved := 0
	if t.Outcome != 0 && len(tokens) < len(t.Tokens) {
		moved = l.settleTokens(at, t.Tokens, t.Outcome)
	}
	d := l.measure(&t, at, at-max(0, t.Age.Milliseconds()), int64(len(tokens)))
	d.result.Moved = moved
	if len(tokens) == 0 || d.when <= at-l.keep {
		d.result.OK = true
		return d.result
	}
	if d.needsWindow {
		l.addWindows(t.Subjects)
		when := d.when
		if when == at {
			when = l.last
		}
		d = l.measure(&t, l.last, when, int64(len(tokens)))
		d.result.Moved = moved
	}
	if d.full && !t.Force {
		l.refuse(&d, marks)
		return d.result
	}
	l.charge(&d, &t, tokens)
	if d.watchedFull {
		l.refuse(&d, marks)
	}
	l.forgive(&d, 0)
	return d.result
}

// Look decides like Take but charges nothing. It asks about as many sends as t has
// marks, at least one. Sends that it refuses, or would refuse if a watched limit were
// not only watched, are counted as refused. Without marks it changes no count.
func (l *Ledger) Look(now time.Time, t Take) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	d := l.measure(&t, at, at, max(1, int64(len(t.Marks))))
	if d.needsWindow {
		l.addWindows(t.Subjects)
		d = l.measure(&t, l.last, l.last, max(1, int64(len(t.Marks))))
	}
	if d.full {
		l.refuse(&d, t.Marks)
		return d.result
	}
	d.result.OK = true
	if d.watchedFull {
		l.refuse(&d, t.Marks)
	}
	if len(t.Marks) > 0 {
		l.forgive(&d, t.Ahead)
	}
	return d.result
}

// Known reports whether a send was charged and is still kept.
func (l *Ledger) Known(now time.Time, token Token) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known(token, l.tick(now))
}

// Horizon is the time since which every charged send is still known.
func (l *Ledger) Horizon(now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.UnixMilli(max(l.tick(now)-l.keep, l.completeSince))
}

// KeepFor sets the longest limited window, which may be shorter than before. Older
// sends are forgotten.
func (l *Ledger) KeepFor(now time.Time, longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tick(now)
	if span := newWindow(max(longest, MinWindow)).span(); span != l.keep {
		l.do(&keepFor{at: l.last, span: span})
	}
}

// Uncharge takes sends off all counts and forgets them. Unknown tokens are ignored.
func (l *Ledger) Uncharge(now time.Time, tokens []Token) {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := uncharge{at: l.tick(now)}
	for _, t := range slices.Compact(slices.Sorted(slices.Values(tokens))) {
		sh := l.sends.shard(t)
		if i := sh.find(t); i >= 0 && l.live(sh.slots[i], c.at) {
			c.sends = append(c.sends, sh.slots[i])
		}
	}
	if len(c.sends) > 0 {
		l.do(&c)
	}
}

// Reset restarts a subject at zero and returns its new epoch, the time of the reset
// in Unix milliseconds: sends dated up to it do not count, also if they are charged
// later. seen is the epoch that the caller knows: if there was a reset since, nothing
// changes. A negative seen resets in any case.
func (l *Ledger) Reset(now time.Time, name string, seen int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	id, s := l.subjects.byName(name)
	if s != nil && seen >= 0 && s.epoch > seen {
		return s.epoch
	}
	if s == nil {
		if l.pastCeiling(name) {
			return 0
		}
		id = l.subjects.vacant()
		l.do(&newSubject{id: id, name: name, at: at})
	}
	l.do(&reset{id: id, at: at})
	return at
}

// ResetAsOf makes up for a Reset that another node has made some time ago: what was
// sent since stays counted. If there was a later one, nothing changes.
func (l *Ledger) ResetAsOf(now time.Time, name string, age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now) - max(0, age.Milliseconds())
	if id, s := l.subjects.byName(name); s != nil && s.epoch < at {
		l.do(&reset{id: id, at: at, rings: l.ringsAfter(id, at)})
	}
}

// Standings calls f for each subject that has a count or an epoch, until f returns
// false.
func (l *Ledger) Standings(now time.Time, f func(Standing) bool) {
	for p := 0; ; p++ {
		standings, ok := l.pageStandings(now, p)
		if !ok {
			return
		}
		for _, s := range standings {
			if !f(s) {
				return
			}
		}
	}
}

func (l *Ledger) pageStandings(now time.Time, p int) ([]Standing, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if p >= len(l.subjects.pages) {
		return nil, false
	}
	at := l.tick(now)
	var all []Standing
	for i := range l.subjects.pages[p].places {
		if s := &l.subjects.pages[p].places[i]; s.name != "" {
			all = append(all, l.standing(uint32(p*pageSize+i), s, at))
		}
	}
	return all, true
}

func (l *Ledger) standing(id uint32, s *subject, at int64) Standing {
	st := Standing{Name: s.name, Epoch: s.epoch, Refused: int64(len(s.marks))}
	rings := l.subjects.open(id, at)
	st.Windows = make([]WindowCounts, len(rings))
	for i := range rings {
		st.Windows[i] = WindowCounts{time.Duration(rings[i].window.length) * time.Microsecond, rings[i].total}
	}
	return st
}

// Epoch returns when a subject was last reset, as Standing does; 0 if it never was.
func (l *Ledger) Epoch(name string) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if _, s := l.subjects.byName(name); s != nil {
		return s.epoch
	}
	return 0
}

// Standing returns what is counted for a subject. If nothing is, it has only the
// name.
func (l *Ledger) Standing(now time.Time, name string) Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	if id, s := l.subjects.byName(name); s != nil {
		return l.standing(id, s, at)
	}
	return Standing{Name: name}
}

// Size is how many subjects and sends are kept, and how many sends have passed
// uncounted because of the memory ceiling.
func (l *Ledger) Size() (subjects, sends, uncounted int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.sends {
		sends += int64(l.sends[i].n)
	}
	return int64(len(l.subjects.index)), sends, l.uncounted
}

// tick sets the clock to now, unless that would set it back, and returns it.
func (l *Ledger) tick(now time.Time) int64 {
	l.advance(now.UnixMilli())
	return l.last
}

// wrapMargin is after how many milliseconds all forgotten sends must be dropped. The
// date of a send wraps around after 49 days: an older one would look like a recent one.
const wrapMargin = int64(15 * 24 * time.Hour / time.Millisecond)

// advance sets the clock to at, unless that would set it back.
func (l *Ledger) advance(at int64) {
	if at-l.cleaned > wrapMargin {
		for i := range l.sends {
			l.rebuild(&l.sends[i], at)
		}
		l.cleaned = at
	}
	l.last = max(l.last, at)
}

// extend has sends kept for longer if one of the subjects has a longer limited window.
func (l *Ledger) extend(subjects []Subject) {
	for _, s := range subjects {
		for _, lim := range s.Limits {
			if span := newWindow(lim.Window).span(); lim.Max > 0 && span > l.keep {
				l.do(&keepFor{at: l.last, span: span})
			}
		}
	}
}

// pastCeiling reports whether a new subject cannot be counted.
func (l *Ledger) pastCeiling(name string) bool {
	return l.options.MaxSubjects > 0 && len(l.subjects.index) >= l.options.MaxSubjects &&
		(l.options.Named == nil || !l.options.Named(name))
}

// live reports whether a send still counts as kept. Its record is removed some time
// later, by Sweep.
func (l *Ledger) live(s send, now int64) bool {
	date := s.date(l.last)
	return now-date < l.keep && date > l.completeSince
}

func (l *Ledger) known(token Token, now int64) bool {
	sh := l.sends.shard(token)
	i := sh.find(token)
	return i >= 0 && l.live(sh.slots[i], now)
}

// do makes a change and records it.
func (l *Ledger) do(c change) {
	l.seq++
	c.apply(l)
	if l.options.Record != nil {
		l.entry = c.encode(l.entry[:0])
		l.options.Record(l.seq, l.entry)
	}
}
