package deferfail

import (
	"cmp"
	"slices"

	"sluice/ratelimit"
	"sluice/sidecar"
)

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
func (d *Breaker) Causes(subject string) ([]CauseStatus, []LeftOut) { return d.bads.causes(subject) }

// mainCause returns the most frequent cause of a subject's bad sends that are held against it.
func (d *Breaker) mainCause(subject string) sidecar.Cause {
	counts := map[sidecar.Cause]int64{}
	d.bads.each(subject, func(s badSend) {
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
func (b *bads) each(subject string, f func(badSend)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.subjects[subject]; d != nil {
		for _, s := range d.Sends {
			f(s)
		}
	}
}

func (b *bads) causes(subject string) (causes []CauseStatus, leftOut []LeftOut) {
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
func (b *bads) lastLine(subject string, cause sidecar.Cause) string {
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
