package deferfail

import (
	"maps"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// When a domain has bad sends to a destination, the outcomes that other domains had there
// tell whether the destination fails for everybody. It does if at least outagePercent of
// these are bad, and if there are at least outageLeast, of at least outageOthers domains.
const (
	outageSeen    = 64 // outcomes kept of a destination
	outageOthers  = 2
	outageLeast   = 3
	outagePercent = 80
	// maxDestinations bounds those that are kept; an outage of another one is not noticed.
	maxDestinations = 10_000
)

// destinations keeps the last outcomes at each destination that had a bad one.
type destinations map[string]*destination

type destination struct {
	name string
	seen [outageSeen]seenOutcome // a ring
	n    int                     // observed so far
}

type seenOutcome struct {
	domain string // that sent it
	when   time.Time
	bad    bool
}

// observe takes in an outcome, and returns the name of its destination, which the caller
// may keep. It is empty for a delivery to a destination of which no bad outcome is kept. An
// address that does not exist is not kept: it is no sign of an outage.
func (d destinations) observe(o *sidecar.Outcome) (name string) {
	to, bad := d[o.To], o.Result != ratelimit.Delivered
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
		to.seen[to.n%outageSeen] = seenOutcome{o.Payer.Subject(), o.When, bad}
		to.n++
	}
	return to.name
}

func (d destinations) prune(since time.Time) {
	maps.DeleteFunc(d, func(_ string, to *destination) bool {
		return to.seen[(to.n-1)%outageSeen].when.Before(since)
	})
}

// failsForOthers reports whether a destination fails for others than this domain.
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

// outage returns the destination of more than half of a domain's bad sends, if it fails
// for everybody on this node, and those sends, which it marks as excused.
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
