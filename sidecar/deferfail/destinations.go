package deferfail

import (
	"maps"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// A destination is failing for everybody if of the last outcomes there, those of
// at least two other domains and outageLeast in number, outagePercent are bad.
const (
	outageSeen    = 64 // outcomes remembered of a destination
	outageOthers  = 2
	outageLeast   = 3
	outagePercent = 80
	// maxDestinations bounds those that are watched; beyond, none is excused.
	maxDestinations = 10_000
)

// destinations remembers the last outcomes at each domain that had a bad one.
type destinations map[string]*destination

type destination struct {
	name string
	seen [outageSeen]seenOutcome
	n    int // told so far
}

type seenOutcome struct {
	domain string // whose send it was
	when   time.Time
	bad    bool
}

// tell takes in an outcome, and returns where it was, to be kept. That an address
// does not exist says nothing about how the destination is.
func (d destinations) tell(o *sidecar.Outcome) (name string) {
	to, bad := d[o.To], o.Kind != ratelimit.Delivered
	switch {
	case to == nil && !bad:
		return ""
	case to == nil && (o.Cause == sidecar.NoSuchUser || len(d) >= maxDestinations):
		return strings.Clone(o.To)
	case to == nil:
		to = &destination{name: strings.Clone(o.To)}
		d[to.name] = to
	}
	if o.Cause != sidecar.NoSuchUser {
		to.seen[to.n%outageSeen] = seenOutcome{o.Payer.Domain, o.When, bad}
		to.n++
	}
	return to.name
}

func (d destinations) prune(since time.Time) {
	maps.DeleteFunc(d, func(_ string, to *destination) bool {
		return to.seen[(to.n-1)%outageSeen].when.Before(since)
	})
}

// failsForOthers tells whether a destination fails for others than a domain too.
func (d destinations) failsForOthers(name, domain string, since time.Time) bool {
	to := d[name]
	if to == nil {
		return false
	}
	others, total, bad := map[string]bool{}, 0, 0
	for _, s := range to.seen[:min(to.n, outageSeen)] {
		if s.domain == domain || s.when.Before(since) {
			continue
		}
		others[s.domain] = true
		total++
		if s.bad {
			bad++
		}
	}
	return len(others) >= outageOthers && total >= outageLeast && bad*100 >= outagePercent*total
}

// outage finds the destination to which most of a domain's bad outcomes go, if
// it fails for everybody on this node, and the sends there that are held
// against the domain.
func (b *bads) outage(domain string, since time.Time) (name string, sends []ratelimit.Token) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.domains[domain]
	if d == nil {
		return "", nil
	}
	total, per := 0, map[string]int{}
	for _, s := range d.Sends {
		if !s.Excused && !s.When.Before(since) {
			total++
			per[s.To]++
		}
	}
	for to, n := range per {
		if n*2 > total {
			name = to
		}
	}
	if name == "" || !b.destinations.failsForOthers(name, domain, since) {
		return "", nil
	}
	for t, s := range d.Sends {
		if s.To == name && !s.Excused && s.Cause != sidecar.NoSuchUser {
			s.Excused, d.dirty = true, true
			d.Sends[t] = s
			sends = append(sends, t)
		}
	}
	return name, sends
}
