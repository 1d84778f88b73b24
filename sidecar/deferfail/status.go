package deferfail

import (
	"cmp"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// A TripStatus is the trip of a subject.
type TripStatus struct {
	Since time.Time `json:"since"`
	By    string    `json:"by"`   // deferrals, which let some be tried again, or failures
	Ends  time.Time `json:"ends"` // at the latest: by then enough of what is bad has left the window
}

// Tripped lists the subjects that are tripped.
func (d *Breaker) Tripped() []string { return d.trips.subjects() }

// IsTripped reports whether a subject is.
func (d *Breaker) IsTripped(subject string) bool { return d.trips.has(subject) }

// Trip returns the trip of a subject; nil if it is not tripped.
func (d *Breaker) Trip(now time.Time, subject string) *TripStatus {
	return d.statusOf(now, subject, d.trips)
}

func (d *Breaker) statusOf(now time.Time, subject string, trips *trips) *TripStatus {
	trip, tripped := trips.of(subject)
	if !tripped {
		return nil
	}
	t := &TripStatus{Since: trip.Since, By: "failures", Ends: d.endOf(now, subject, trip)}
	if trip.Deferrals {
		t.By = "deferrals"
	}
	return t
}

// endOf returns when a trip ends at the latest. Nothing new can go wrong meanwhile, for
// nothing new is sent.
func (d *Breaker) endOf(now time.Time, subject string, tripped trip) time.Time {
	s := d.Settings()
	counted := s.Window + s.Window/60 // for so long at most
	f := rateOf(s, d.Store.Standing(d.Clock.Store(now), subject)).enforced()
	earliest := tripped.Since.Add(s.Window / 60)
	if f.calm() {
		return earliest
	}
	var sent []time.Time
	d.badSends.each(subject, func(b badSend) {
		if !b.Excused {
			sent = append(sent, b.When)
		}
	})
	if int64(len(sent)) < f.Bad { // some of them are not known here
		return now.Add(counted)
	}
	slices.SortFunc(sent, time.Time.Compare)
	sent = sent[int64(len(sent))-f.Bad:]
	last := sent[f.Bad-f.min].Add(counted) // then fewer than min are left
	if last.Before(earliest) {
		return earliest
	}
	return last
}

// A CauseStatus is how many sends of a domain were bad for one cause.
type CauseStatus struct {
	Cause    sidecar.Cause `json:"cause"`
	Count    int64         `json:"count"`
	LastLine string        `json:"last_line"` // of the log
}

// LeftOut are bad sends that do not count towards a trip: their cause is in
// deferfail_ignore, or others had the fault too.
type LeftOut struct {
	Destination string        `json:"destination"` // the remote host, else the recipient's domain
	Cause       sidecar.Cause `json:"cause"`
	Count       int64         `json:"count"`
}

// Causes returns why sends of a subject were bad, the most frequent cause first, and which
// of them do not count towards a trip.
func (d *Breaker) Causes(subject string) ([]CauseStatus, []LeftOut) {
	return d.badSends.causes(subject)
}

// mainCause returns the most frequent cause of a subject's bad sends that are held against it.
func (d *Breaker) mainCause(subject string) sidecar.Cause {
	counts := map[sidecar.Cause]int64{}
	d.badSends.each(subject, func(s badSend) {
		if !s.Excused {
			counts[s.Cause]++
		}
	})
	most := sidecar.OtherCause
	for cause, n := range counts {
		if n > counts[most] || n == counts[most] && cause < most {
			most = cause
		}
	}
	return most
}

// each calls f for the bad sends of a subject that are kept.
func (b *badSends) each(subject string, f func(badSend)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.subjects[subject]; d != nil {
		for _, s := range d.Sends {
			f(s)
		}
	}
}

func (b *badSends) causes(subject string) (causes []CauseStatus, leftOut []LeftOut) {
	causes, leftOut = []CauseStatus{}, []LeftOut{}
	counts, out := map[sidecar.Cause]int64{}, map[LeftOut]int64{}
	b.each(subject, func(s badSend) {
		counts[s.Cause]++
		if s.Excused {
			out[LeftOut{Destination: s.Place, Cause: s.Cause}]++
		}
	})
	for cause, n := range counts {
		causes = append(causes, CauseStatus{Cause: cause, Count: n, LastLine: b.lastLine(subject, cause)})
	}
	for l, n := range out {
		l.Count = n
		leftOut = append(leftOut, l)
	}
	slices.SortFunc(causes, func(a, b CauseStatus) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Cause, b.Cause))
	})
	slices.SortFunc(leftOut, func(a, b LeftOut) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Destination+string(a.Cause), b.Destination+string(b.Cause)))
	})
	return causes, leftOut
}

// lastLine returns the last line of the log with a cause.
func (b *badSends) lastLine(subject string, cause sidecar.Cause) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.subjects[subject]; d != nil {
		return d.Last[cause]
	}
	return ""
}

// hasBad reports whether anything at all counts towards a trip.
func hasBad(s ratelimit.Standing) bool {
	return slices.ContainsFunc(s.Windows, func(w ratelimit.WindowCounts) bool { return w.Bad() > 0 })
}
