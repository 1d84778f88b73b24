package simulate

import (
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/delivery"
)

// An author is who sends messages, with what is counted of them.
type author struct {
	*delivery.Source
	delivery.PayerLimits
	*domainTally        // of the domain that pays; nil if nobody does
	tried        *int64 // in domainTally.by; nil if there are too many
}

// maxBy bounds the authors of a domain that are counted apart.
const maxBy = 200

// authorOf returns the author of a message that arrives. Those that have logged in are kept:
// they send most messages.
func (s *Simulation) authorOf(from *delivery.Source) *author {
	if a := s.authors[from]; a != nil {
		return a
	}
	r := from.Request()
	a := s.authorBy(&r)
	a.Source = from
	if from.Client == "" { // else it is anybody in the world
		if len(s.authors) >= delivery.MaxSenders {
			clear(s.authors)
		}
		s.authors[from] = a
	}
	return a
}

// authorBy returns who pays for what is asked about, and who of them sends it.
func (s *Simulation) authorBy(r *sidecar.Request) *author {
	limits := delivery.NewPayerLimits(s.settings, r)
	who := limits.Who.Clone() // or the request stays in memory
	if who.Class != sidecar.Charged {
		return &author{PayerLimits: delivery.PayerLimits{Who: sidecar.Payer{Class: who.Class}}}
	}
	s.addPayer(&who)
	limits.Who, limits.Author = who, limits.Author.Clone()
	a := &author{PayerLimits: *limits, domainTally: s.domain(who.Subject())}
	by := limits.Author.Key
	if a.tried = a.by[by]; a.tried == nil && len(a.by) < maxBy {
		a.tried = new(int64)
		a.by[by] = a.tried
	}
	return a
}

// countTries counts sends that an author has tried.
func (a *author) countTries(n int) {
	if a.tried != nil {
		*a.tried += int64(n)
	}
}

// subjectIn is the subject in the line of an arrival, T="..." where Exim logs it (+subject).
// In it a backslash escapes the next byte.
func subjectIn(line string) string {
	_, rest, _ := strings.Cut(line, ` T="`)
	var b strings.Builder
	for i := 0; i < len(rest) && rest[i] != '"'; i++ {
		if rest[i] == '\\' && i+1 < len(rest) {
			i++
		}
		b.WriteByte(rest[i])
	}
	return b.String()
}
