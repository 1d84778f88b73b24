package ratelimit

import (
	"slices"
	"sync"
	"time"
)

// A Ledger is the embedded store: the counts of all subjects and the record
// of every send, in memory. Its methods may be called concurrently.
//
// Its clock has a resolution of a millisecond and never goes back, whatever
// times it is given.
type Ledger struct {
	mu       sync.Mutex
	options  Options
	last     int64 // the clock, Unix milliseconds
	keep     int64 // how long sends are kept, milliseconds
	cleaned  int64 // when all forgotten sends were dropped at once, Unix milliseconds
	complete int64 // Unix milliseconds: sends dated up to it were forgotten under a shorter keep
	subjects subjects
	groups   groups
	sends    sends

	seq       uint64 // number of the last change
	uncounted int64
	swept     int // where the next Sweep goes on

	space space
	entry []byte // for do
}

// Options are what a Ledger is made with.
type Options struct {
	// MaxSubjects is the memory ceiling: once so many subjects are counted,
	// new ones pass uncounted. 0 is no ceiling.
	MaxSubjects int
	// Keep is the longest limited window. A Take with a longer one extends it.
	Keep time.Duration
	// Record is called with every change in order, from within the call that
	// makes it, for Replay. It must not call the Ledger, nor keep the entry.
	Record func(seq uint64, entry []byte)
}

// NewLedger returns an empty Ledger.
func NewLedger(o Options) *Ledger {
	l := &Ledger{options: o, keep: newWindow(max(o.Keep, MinWindow)).span()}
	l.subjects.index = map[string]uint32{}
	l.groups.index = map[string]uint32{}
	return l
}

// Take charges what t asks for to all of its subjects, or to none.
//
// Of watched subjects, see Subject, those are left out that have no room.
// Sends with a known token are accepted and charge nothing. A Take older than
// the longest limited window is accepted and changes nothing. A subject that
// is new when the memory ceiling is reached passes uncounted.
func (l *Ledger) Take(now time.Time, t Take) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	l.extend(t.Subjects)
	tokens, marks := l.fresh(&t, at)
	moved := 0
	if t.Outcome != 0 && len(tokens) < len(t.Tokens) {
		moved = l.tell(at, t.Tokens, t.Outcome)
	}
	d := l.measure(&t, at, at-max(0, t.Age.Milliseconds()), int64(len(tokens)))
	d.result.Moved = moved
	if len(tokens) == 0 || d.when <= at-l.keep {
		d.result.OK = true
		return d.result
	}
	if d.gains {
		l.widen(t.Subjects)
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
	if d.passed {
		l.refuse(&d, marks)
	}
	l.forgive(&d, 0)
	return d.result
}

// Look decides like Take, for as many sends as t has marks and at least one,
// and charges nothing. The marks of what it refuses, or what a watched subject
// would, are counted as refused.
func (l *Ledger) Look(now time.Time, t Take) Result {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	d := l.measure(&t, at, at, max(1, int64(len(t.Marks))))
	if d.gains {
		l.widen(t.Subjects)
		d = l.measure(&t, l.last, l.last, max(1, int64(len(t.Marks))))
	}
	if d.full {
		l.refuse(&d, t.Marks)
		return d.result
	}
	d.result.OK = true
	if d.passed {
		l.refuse(&d, t.Marks)
	}
	l.forgive(&d, t.Ahead)
	return d.result
}

// Known tells whether a send was charged, and is still kept.
func (l *Ledger) Known(now time.Time, token Token) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.known(token, l.tick(now))
}

// Horizon is the time since when every send that was charged is still known.
func (l *Ledger) Horizon(now time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return time.UnixMilli(max(l.tick(now)-l.keep, l.complete))
}

// KeepFor has sends kept for the longest window that is limited now, which may
// be shorter than it was. What is older is forgotten.
func (l *Ledger) KeepFor(now time.Time, longest time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.tick(now)
	if span := newWindow(max(longest, MinWindow)).span(); span != l.keep {
		l.do(&keepFor{at: l.last, span: span})
	}
}

// Uncharge takes sends back. Tokens that are not known are passed over.
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

// Reset restarts a subject at zero under a new epoch, which it returns: sends
// dated before count nothing, if they come to be charged later. Where the
// subject's epoch is past seen already it changes nothing; a negative seen
// resets in any case.
func (l *Ledger) Reset(now time.Time, name string, seen int64) int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	id, s := l.subjects.named(name)
	if s != nil && seen >= 0 && s.epoch > seen {
		return s.epoch
	}
	if s == nil {
		if l.ceiling() {
			return 0
		}
		id = l.subjects.vacant()
		l.do(&newSubject{id: id, name: name, at: at})
	}
	l.do(&reset{id: id, at: at})
	return at
}

// ResetAsOf is Reset as of some time ago, for one that was made elsewhere: what
// was sent since stays counted. It changes nothing if there was a later one.
func (l *Ledger) ResetAsOf(now time.Time, name string, age time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now) - max(0, age.Milliseconds())
	if id, s := l.subjects.named(name); s != nil && s.epoch < at {
		l.do(&reset{id: id, at: at, rings: l.sentAfter(id, at)})
	}
}

// Standings calls f for every subject that has a count or an epoch, until f
// returns false.
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

// Standing returns what is counted for one subject; of one that is not
// counted, a Standing with the name alone.
func (l *Ledger) Standing(now time.Time, name string) Standing {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	if id, s := l.subjects.named(name); s != nil {
		return l.standing(id, s, at)
	}
	return Standing{Name: name}
}

// Size tells how many subjects and sends are kept, and how many sends were
// passed uncounted for the memory ceiling.
func (l *Ledger) Size() (subjects, sends, uncounted int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range l.sends {
		sends += int64(l.sends[i].n)
	}
	return int64(len(l.subjects.index)), sends, l.uncounted
}

// tick sets the clock to now, unless that would set it back, and reads it.
func (l *Ledger) tick(now time.Time) int64 {
	l.advance(now.UnixMilli())
	return l.last
}

// wrapMargin is how long a send may lie there unswept before its date, which
// wraps around after 49 days, could be taken for a recent one. In milliseconds.
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

// extend keeps sends for as long as the longest limited window.
func (l *Ledger) extend(subjects []Subject) {
	for _, s := range subjects {
		for _, lim := range s.Limits {
			if span := newWindow(lim.Window).span(); lim.Max > 0 && span > l.keep {
				l.do(&keepFor{at: l.last, span: span})
			}
		}
	}
}

func (l *Ledger) ceiling() bool {
	return l.options.MaxSubjects > 0 && len(l.subjects.index) >= l.options.MaxSubjects
}

// live tells whether a send is still kept; a Sweep removes it some time after.
func (l *Ledger) live(s send, now int64) bool {
	date := s.date(l.last)
	return now-date < l.keep && date > l.complete
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
