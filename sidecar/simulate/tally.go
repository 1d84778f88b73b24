package simulate

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/event"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/settings"
)

// A Report is what a Simulation has found.
type Report struct {
	From    time.Time      `json:"from,omitzero"` // of the first line; zero: there is none
	To      time.Time      `json:"to,omitzero"`   // of the last one
	Senders int64          `json:"senders"`       // domains that have sent
	Sent    int64          `json:"sent"`
	Refused int64          `json:"refused"`
	Watched int64          `json:"watched"` // sent only because a limit is watched
	Bad     int64          `json:"bad"`
	Domains []DomainReport `json:"domains"` // those with any Refused or Watched, the most first

	// UsualFrom is from when on anything was known of what authors usually send: until then
	// none leaves room for others. Zero: never.
	UsualFrom time.Time `json:"usual_from,omitzero"`

	Spikes []Spike `json:"spikes,omitempty"` // with Options.Spikes; the first first
}

// A Spike is one that operators would have been told of.
type Spike struct {
	At      time.Time `json:"at"`
	Domain  string    `json:"domain"`
	Author  string    `json:"author"`
	Sends   int64     `json:"sends"`        // in the hour then
	Busiest int64     `json:"busiest_hour"` // sends in the author's busiest hour of 35 days
}

// A DomainReport is what would have become of the mail of one domain.
type DomainReport struct {
	Domain   string    `json:"domain"`
	Sent     int64     `json:"sent"`                   // sends that were let through; not Exim's own bounces, which count towards limits and are always let through
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

// A tally counts what a Simulation decides.
type tally struct {
	settings *settings.Settings
	share    int64 // as mostShare says
	began    time.Time
	ended    time.Time
	domains  map[string]*domainTally
	suspects map[*domainTally]bool // domains with enough bad sends to trip, if those are also a large enough share of all
	spikes   []Spike
	bounces  map[ratelimit.Token]bool // sends of bounces that wait to be counted
	unseen   map[string]bool          // scopes for which something is set, and of which nothing is charged so far
}

type domainTally struct {
	DomainReport
	by           map[string]*int64 // sends that were tried, by mailbox or what else tells authors apart
	awaitedFlush uint64            // number of the last flush for which something of it waits, or has waited
	waitingBad   int64             // sends of what waits that are bad
	deferfail    deferfail.Rate    // what trips it, with nothing counted
	spare        int64             // sends for which its limits have room, at least
	locks        int               // that stand
	since        time.Time         // when the first of them was made
	limited      time.Duration     // for how long there were any before
}

func newTally() tally {
	return tally{domains: map[string]*domainTally{}, suspects: map[*domainTally]bool{}, bounces: map[ratelimit.Token]bool{}, unseen: map[string]bool{}}
}

func (t *tally) domain(name string) *domainTally {
	d := t.domains[name]
	if d == nil {
		name = strings.Clone(name)
		d = &domainTally{DomainReport: DomainReport{Domain: name}, by: map[string]*int64{}, deferfail: deferfail.TripsAt(t.settings, name)}
		t.domains[name] = d
	}
	return d
}

func (d *domainTally) refuse(n int, now time.Time) {
	if d.Refused == 0 {
		d.First = now
	}
	d.Refused += int64(n)
	d.Last = now
}

// outcome counts what became of a send of a domain. A bad send that is delivered later is
// bad no more.
func (p *state) outcome(d *domainTally, to string, bad bool) {
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

// Domains returns those that were charged, sorted.
func (s *Simulation) Domains() []string { return slices.Sorted(maps.Keys(s.domains)) }

// addPayer notes who is charged, for Unseen.
func (t *tally) addPayer(who *sidecar.Payer) {
	if len(t.unseen) == 0 {
		return
	}
	for _, scope := range [...]string{who.Domain, who.Mailbox, who.Special, sidecar.AccountPrefix + who.Account} {
		delete(t.unseen, scope)
	}
}

// Unseen returns the scopes in Options.Set of which nothing was charged, sorted.
func (s *Simulation) Unseen() []string { return slices.Sorted(maps.Keys(s.unseen)) }

// Report returns what was found up to the end of the log.
func (s *Simulation) Report() Report {
	r := Report{From: s.began, To: s.ended, Domains: []DomainReport{}, Spikes: s.spikes}
	if s.engine != nil {
		r.UsualFrom = s.engine.Who.UsualFrom()
	}
	for _, d := range s.domains {
		r.Senders++
		r.Sent, r.Refused, r.Watched, r.Bad = r.Sent+d.Sent, r.Refused+d.Refused, r.Watched+d.Watched, r.Bad+d.Bad
		if d.Refused > 0 || d.Watched > 0 {
			r.Domains = append(r.Domains, d.result())
		}
	}
	slices.SortFunc(r.Domains, func(a, b DomainReport) int {
		return cmp.Or(cmp.Compare(b.Refused, a.Refused), cmp.Compare(b.Watched, a.Watched), cmp.Compare(a.Domain, b.Domain))
	})
	return r
}

func (d *domainTally) result() DomainReport {
	one := d.DomainReport
	one.Seconds = d.limited.Seconds()
	for _, by := range slices.Sorted(maps.Keys(d.by)) {
		if *d.by[by] > one.MostlyOf {
			one.Mostly, one.MostlyOf = by, *d.by[by]
		}
	}
	return one
}

// A Suggestion is the least hourly limit of the default scope by which at most so many
// domains would have been refused anything.
type Suggestion struct {
	Domains int    `json:"domains"` // at most
	Hourly  *int64 `json:"hourly"`  // null: there is none, for Anyway is more
	Anyway  int    `json:"anyway"`  // domains that are refused something whatever it is: for defers and failures, or by other limits
}

// Suggest finds a Suggestion by a simulation without such a limit.
//
// Until its first refusal, a domain sends the same with a limit as without. So it is
// refused something by every limit below its peak, and by no other; but for those that
// are refused something here, which are so by every limit.
func (s *Simulation) Suggest(domains int) Suggestion {
	found := Suggestion{Domains: domains}
	var peaks []int64
	for name, d := range s.domains {
		if d.Refused+d.Watched > 0 {
			found.Anyway++
		} else if own := s.settings.Scope(name); own == nil || own.Hourly == nil {
			peaks = append(peaks, d.Peak)
		}
	}
	more := domains - found.Anyway
	if more < 0 {
		return found
	}
	slices.SortFunc(peaks, func(a, b int64) int { return cmp.Compare(b, a) })
	found.Hourly = new(int64(1)) // 0 would be none
	if more < len(peaks) {
		*found.Hourly = max(1, peaks[more])
	}
	return found
}

// A tallyStore is a store in memory that counts in a tally what is charged.
type tallyStore struct {
	*ratelimit.Ledger
	tally *tally
}

// Uncharge does nothing: a simulation asks only about messages that have arrived.
func (s tallyStore) Uncharge(context.Context, time.Time, []ratelimit.Token) error { return nil }

func (s tallyStore) Take(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	r := s.Ledger.Take(now, t)
	if r.Charged == 0 {
		return r, nil
	}
	over := int64(0) // sends that only watched limits would have refused
	for _, u := range r.Uses {
		over = max(over, u.Over)
	}
	for i, u := range r.Uses {
		if !sidecar.AlwaysCounted(u.Subject) {
			continue
		}
		d := s.tally.domain(u.Subject)
		if i == 0 || r.Uses[i-1].Subject != u.Subject {
			d.Sent += int64(r.Charged)
			d.Watched += over
			d.spare = sidecar.RoomUnlimited
		}
		if u.Limit.Window == s.tally.settings.Window {
			d.Peak = max(d.Peak, u.Used)
		}
		if u.Limit.Max > 0 {
			d.spare = min(d.spare, u.Limit.Max-u.Limit.Max*s.tally.share/100-u.Used)
		}
	}
	return r, nil
}

func (s tallyStore) Look(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return s.Ledger.Look(now, t), nil
}

func (s tallyStore) Settle(_ context.Context, now time.Time, reports []ratelimit.Report) error {
	s.Ledger.Settle(now, reports)
	charged := map[*domainTally]bool{}
	for i := range reports {
		bounce := s.tally.bounces[reports[i].Token]
		delete(s.tally.bounces, reports[i].Token)
		if !reports[i].Charged {
			continue
		}
		for _, sub := range reports[i].Subjects {
			if sidecar.AlwaysCounted(sub.Name) {
				d := s.tally.domain(sub.Name)
				if !bounce {
					d.Sent++
				}
				if reports[i].Outcome != 0 { // else passUnasked has done it
					d.spare--
				}
				charged[d] = true
			}
		}
	}
	for d := range charged {
		d.Peak = max(d.Peak, s.Standing(now, d.Domain).Sent(s.tally.settings.Window))
	}
	return nil
}

func (s tallyStore) Reset(_ context.Context, now time.Time, subject string, seen int64) (int64, error) {
	return s.Ledger.Reset(now, subject, seen), nil
}

func (tallyStore) Failure() error { return nil }

// tallyLocks is a lock directory without files: it counts for how long there would have been
// a lock.
type tallyLocks struct {
	sim   *Simulation
	files map[string][]lockfile.File // by domain
}

func (l *tallyLocks) Make(lock lockfile.Lock, content string, epoch int64) error {
	d := l.sim.domain(lock.Domain)
	if d.locks == 0 {
		d.since = l.sim.now
	}
	d.locks++
	l.files[lock.Domain] = append(l.files[lock.Domain], lockfile.File{Lock: lock, Since: l.sim.now, Epoch: epoch, Content: content})
	return nil
}

func (l *tallyLocks) Unmake(lock lockfile.Lock) error {
	files := l.files[lock.Domain]
	i := slices.IndexFunc(files, func(f lockfile.File) bool { return f.Lock == lock })
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

func (l *tallyLocks) Files(domain string) []lockfile.File {
	if domain != "" {
		return l.files[domain]
	}
	return slices.Concat(slices.Collect(maps.Values(l.files))...)
}

func (l *tallyLocks) MakeOperator(lockfile.Lock, string) error { return nil }
func (l *tallyLocks) Remove(lock lockfile.Lock) error          { return l.Unmake(lock) }
func (l *tallyLocks) ShowUsage([]lockfile.Usage)               {}
func (l *tallyLocks) Failure() error                           { return nil }

// tallyTrips follows which subjects are tripped: not all of them get a lock file for it.
type tallyTrips struct {
	tally   *tally
	tripped map[string]bool // now
}

// Enabled implements event.Sink.
func (tallyTrips) Enabled(k event.Kind) bool {
	return k == event.Tripped || k == event.TripEnded || k == event.TripExcused || k == event.Spike
}

// Emit implements event.Sink.
func (t tallyTrips) Emit(e event.Event) {
	switch e.Kind {
	case event.Tripped:
		t.tripped[e.Domain], t.tally.domain(e.Domain).Tripped = true, true
	case event.TripEnded, event.TripExcused:
		delete(t.tripped, e.Domain)
	case event.Spike:
		sends, _ := strconv.ParseInt(e.Attr("sends"), 10, 64)
		busiest, _ := strconv.ParseInt(e.Attr("busiest_hour"), 10, 64)
		t.tally.spikes = append(t.tally.spikes, Spike{e.At, e.Domain, e.Attr("scope"), sends, busiest})
	}
}

// noNotes keeps nothing.
type noNotes struct{}

func (noNotes) Note(string, []byte) error          { return nil }
func (noNotes) Forget(string) error                { return nil }
func (noNotes) Notes(string, func(string, []byte)) {}

// noQueue has nothing to deliver.
type noQueue struct{}

func (noQueue) Deliver(context.Context, []string) error { return nil }
