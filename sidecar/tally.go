package sidecar

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
)

// A SimulationReport is what a Simulation has found.
type SimulationReport struct {
	From    time.Time         `json:"from,omitzero"` // of the first line; zero: there is none
	To      time.Time         `json:"to,omitzero"`   // of the last one
	Senders int64             `json:"senders"`       // domains that have sent
	Sent    int64             `json:"sent"`
	Refused int64             `json:"refused"`
	Watched int64             `json:"watched"` // sent only because a limit is watched
	Bad     int64             `json:"bad"`
	Domains []SimulatedDomain `json:"domains"` // those with any Refused or Watched, the most first
}

// A SimulatedDomain is what would have become of the mail of one domain.
type SimulatedDomain struct {
	Domain   string    `json:"domain"`
	Sent     int64     `json:"sent"`                   // sends that were let through
	Refused  int64     `json:"refused"`                // sends that were refused or held, each once
	Watched  int64     `json:"watched"`                // of Sent: over a limit that is only watched
	Bad      int64     `json:"bad"`                    // of Sent: deferred or failed in the end
	First    time.Time `json:"first_refused,omitzero"` // when one was refused first; zero: none was
	Last     time.Time `json:"last_refused,omitzero"`
	Seconds  float64   `json:"seconds_at_limit"` // for how long it was at a limit or tripped
	Tripped  bool      `json:"tripped"`          // it had too many bad sends, at least once
	Peak     int64     `json:"peak"`             // most sends in the window of the hourly limit
	Mostly   string    `json:"mostly"`           // the mailbox, script, login or client that sent most
	MostlyOf int64     `json:"mostly_sent"`      // how much of Sent and Refused that was
}

// tally counts what a Simulation decides.
type tally struct {
	settings  *Settings
	began     time.Time
	ended     time.Time
	domains   map[string]*domainTally
	last      *domainTally   // that was decided on
	unsettled []*domainTally // that have anything pending
	settling  []*domainTally // who pays for each outcome that is settled next; empty: to be found by name
	bad       []*domainTally // that may have as many bad sends as trip them
	higher    []*domainTally // that may have reached a new peak since the last slice of the window
}

type domainTally struct {
	SimulatedDomain
	by        map[string]*int64 // sends that were tried, by mailbox or what else tells authors apart
	spare     int64             // for how many sends its limits have room at least
	atMost    int64             // how many there are in the hourly window at most
	higher    bool              // that may be more than ever before
	pending                     // what the ledger does not have yet
	deferfail deferfail         // what trips it, with nothing counted
	manyBad   bool              // it is in tally.bad
	locks     int               // that stand
	since     time.Time         // when the first of them was made
	limited   time.Duration     // for how long there were any before
}

// pending is what of a domain the ledger does not have yet.
type pending struct {
	any     bool
	trips   bool  // it may trip or release the domain
	charges int64 // sends that passed
	bad     int64 // outcomes
}

// unsettle is what of a domain is pending, to be added to.
func (t *tally) unsettle(d *domainTally) *pending {
	if !d.pending.any {
		d.pending.any = true
		t.unsettled = append(t.unsettled, d)
	}
	return &d.pending
}

// maxBy bounds the authors of a domain that are told apart.
const maxBy = 200

func newTally() tally { return tally{domains: map[string]*domainTally{}} }

func (t *tally) domain(name string) *domainTally {
	d := t.domains[name]
	if d == nil {
		name = strings.Clone(name)
		d = &domainTally{SimulatedDomain: SimulatedDomain{Domain: name}, by: map[string]*int64{}, deferfail: t.settings.tripsAt(name)}
		t.domains[name] = d
	}
	return d
}

// An author is who sends messages, with what is counted of it.
type author struct {
	payer
	*domainTally        // of the domain that pays; nil if nobody does
	tried        *int64 // in domainTally.by; nil if there are too many
}

// authorOf finds who sends a message.
func (s *Simulation) authorOf(m *message) *author {
	if m.authors != nil && m.authors[s.number] != nil {
		return m.authors[s.number]
	}
	r := m.request()
	a := s.authorBy(&r)
	if m.authors != nil {
		m.authors[s.number] = a
	}
	return a
}

// authorBy finds who pays for what is asked about.
func (s *Simulation) authorBy(r *Request) *author {
	who := s.settings.identify(r)
	if who.class != charged {
		return s.unpaid[who.class]
	}
	who = who.clone()
	a := &author{payer: s.settings.paying(who), domainTally: s.domain(who.domain)}
	by := who.mailbox
	switch {
	case by != "":
	case r.CWD != "":
		by = r.CWD
	case r.Login != "":
		by = "login " + r.Login
	case r.Auth != "":
		by = "login " + r.Auth
	default:
		by = "client " + r.ClientAddress
	}
	if a.tried = a.by[by]; a.tried == nil && len(a.by) < maxBy {
		a.tried = new(int64)
		a.by[strings.Clone(by)] = a.tried
	}
	return a
}

// tries notes that some sends are tried.
func (a *author) tries(n int) {
	if a.tried != nil {
		*a.tried += int64(n)
	}
}

// hasRoom tells without asking that there is room for some sends, and then some.
func (a *author) hasRoom(n int) bool {
	return len(a.subjects) == 1 && a.locks == 0 && int64(n) < a.spare-a.pending.charges
}

// sentOne notes a send that is counted and was not decided on.
func (t *tally) sentOne(d *domainTally) {
	d.Sent++
	d.spare--
	if d.atMost++; d.atMost > d.Peak && !d.higher {
		d.higher = true
		t.higher = append(t.higher, d)
	}
}

func (d *domainTally) refuse(n int, now time.Time) {
	if d.Refused == 0 {
		d.First = now
	}
	d.Refused += int64(n)
	d.Last = now
}

// outcome notes what became of a send of a domain.
func (p *passage) outcome(d *domainTally, to string, bad bool) {
	if !bad && p.exceptions == nil {
		return
	}
	x := p.except()
	i := slices.Index(x.bad, to)
	switch {
	case bad && i < 0:
		x.bad = append(x.bad, strings.Clone(to))
		d.Bad++
	case !bad && i >= 0:
		x.bad = slices.Delete(x.bad, i, i+1)
		d.Bad--
	}
}

func (t *tally) end(now time.Time) {
	t.ended = now
	for _, d := range t.domains {
		if d.locks > 0 {
			d.limited += now.Sub(d.since)
			d.locks = 0
		}
	}
}

// Report is what was found up to the end of the log.
func (s *Simulation) Report() SimulationReport {
	r := SimulationReport{From: s.began, To: s.ended, Domains: []SimulatedDomain{}}
	for _, d := range s.domains {
		r.Senders++
		r.Sent, r.Refused, r.Watched, r.Bad = r.Sent+d.Sent, r.Refused+d.Refused, r.Watched+d.Watched, r.Bad+d.Bad
		if d.Refused > 0 || d.Watched > 0 {
			r.Domains = append(r.Domains, d.result())
		}
	}
	slices.SortFunc(r.Domains, func(a, b SimulatedDomain) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), cmp.Compare(b.Watched, a.Watched), cmp.Compare(a.Domain, b.Domain))
	})
	return r
}

func (d *domainTally) result() SimulatedDomain {
	one := d.SimulatedDomain
	one.Seconds = d.limited.Seconds()
	for _, by := range slices.Sorted(maps.Keys(d.by)) {
		if *d.by[by] > one.MostlyOf {
			one.Mostly, one.MostlyOf = by, *d.by[by]
		}
	}
	return one
}

// Suggest is the least hourly limit of the default scope that would have refused
// something of at most so many domains, given a simulation without one. Domains
// that have a limit of their own are not among them.
//
// Up to its first refusal a domain sends under a limit what it sends without. So
// it meets the limits below its peak, and no other.
func (s *Simulation) Suggest(domains int) int64 {
	var peaks []int64
	for name, d := range s.domains {
		if own := s.settings.scopes[name]; own == nil || own.Hourly == nil {
			peaks = append(peaks, d.Peak)
		}
	}
	slices.SortFunc(peaks, func(a, b int64) int { return cmp.Compare(b, a) })
	if domains >= len(peaks) {
		return 1 // 0 would be none
	}
	return max(1, peaks[domains])
}

// A tallyStore is a ledger in memory that notes what is charged.
type tallyStore struct {
	*ratelimit.Ledger
	tally *tally
}

func (s tallyStore) Take(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	watched := s.watchedRoom(now, t)
	r := s.Ledger.Take(now, t)
	if r.Charged == 0 {
		return r, nil
	}
	var d *domainTally
	for _, u := range r.Uses {
		if d == nil || d.Domain != u.Subject {
			if !isDomain(u.Subject) {
				continue
			}
			if d = s.tally.last; d == nil || d.Domain != u.Subject {
				d = s.tally.domain(u.Subject)
			}
			d.Sent += int64(r.Charged)
			d.Watched += max(0, int64(r.Charged)-watched)
			d.spare = RoomUnlimited
		}
		if u.Limit.Window == s.tally.settings.window {
			d.atMost, d.Peak = u.Used, max(d.Peak, u.Used)
		}
		if u.Limit.Max > 0 {
			d.spare = min(d.spare, u.Limit.Max-u.Used)
		}
	}
	return r, nil
}

// watchedRoom is for how many sends the watched limits of a Take have room.
func (s tallyStore) watchedRoom(now time.Time, t ratelimit.Take) int64 {
	room := int64(RoomUnlimited)
	for _, sub := range t.Subjects {
		if !sub.Watched {
			continue
		}
		standing := s.Standing(now, sub.Name)
		for _, limit := range sub.Limits {
			if limit.Max > 0 {
				room = min(room, max(0, limit.Max-standing.Sent(limit.Window)))
			}
		}
	}
	return room
}

func (s tallyStore) Look(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return s.Ledger.Look(now, t), nil
}

func (s tallyStore) Settle(_ context.Context, now time.Time, reports []ratelimit.Report) error {
	s.Ledger.Settle(now, reports)
	for i := range reports {
		if !reports[i].Charged {
			continue
		}
		if len(s.tally.settling) == len(reports) {
			s.tally.sentOne(s.tally.settling[i])
			continue
		}
		for _, sub := range reports[i].Subjects {
			if isDomain(sub.Name) {
				s.tally.sentOne(s.tally.domain(sub.Name))
			}
		}
	}
	return nil
}

func (s tallyStore) Reset(_ context.Context, now time.Time, subject string, seen int64) (int64, error) {
	return s.Ledger.Reset(now, subject, seen), nil
}

func (tallyStore) Failure() error { return nil }

// tallyLocks is a lock directory that is none: it notes for how long there would
// have been a lock.
type tallyLocks struct {
	sim   *Simulation
	files map[string][]LockFile // by domain
}

func (l *tallyLocks) Make(lock Lock, content string, epoch int64) error {
	d := l.sim.domain(lock.Domain)
	if d.locks == 0 {
		d.since = l.sim.now
	}
	d.locks++
	d.Tripped = d.Tripped || lock.Kind == LockDeferFail
	l.files[lock.Domain] = append(l.files[lock.Domain], LockFile{Lock: lock, Since: l.sim.now, Epoch: epoch, Content: content})
	return nil
}

func (l *tallyLocks) Unmake(lock Lock) error {
	files := l.files[lock.Domain]
	i := slices.IndexFunc(files, func(f LockFile) bool { return f.Lock == lock })
	if i < 0 {
		return nil
	}
	if l.files[lock.Domain] = slices.Delete(files, i, i+1); len(files) == 1 {
		delete(l.files, lock.Domain)
	}
	d := l.sim.domain(lock.Domain)
	if d.locks--; d.locks == 0 {
		d.limited += l.sim.now.Sub(d.since)
	}
	return nil
}

func (l *tallyLocks) Files(domain string) []LockFile {
	if domain != "" {
		return l.files[domain]
	}
	return slices.Concat(slices.Collect(maps.Values(l.files))...)
}

func (l *tallyLocks) MakeOperator(Lock, string) error { return nil }
func (l *tallyLocks) Remove(lock Lock) error          { return l.Unmake(lock) }
func (l *tallyLocks) ShowUsage([]Usage)               {}
func (l *tallyLocks) Failure() error                  { return nil }

// noNotes keeps nothing.
type noNotes struct{}

func (noNotes) Note(string, []byte) error          { return nil }
func (noNotes) Forget(string) error                { return nil }
func (noNotes) Notes(string, func(string, []byte)) {}

// noQueue has nothing to deliver.
type noQueue struct{}

func (noQueue) Deliver(context.Context, []string) error { return nil }
