package operator

import (
	"time"

	"sluice/sidecar/attribution"
)

// topAuthors is how many authors the status of a domain has.
const topAuthors = 3

// WhoSends returns who sends of a scope, as attribution.Attribution.Scope does. The error wraps
// ErrNotFound if nothing is known of it.
func (o *Operator) WhoSends(now time.Time, scope string, n int) (attribution.Who, error) {
	settings := o.settings.Load()
	w := attribution.Who{Node: settings.Node, Now: now, Seconds: settings.Window.Seconds(), Domains: o.who.Scope(now, scope, n), Uncounted: []attribution.Share{}}
	if scope == "" {
		w.Uncounted = o.who.Uncounted(now, "")
	}
	if len(w.Domains) == 0 && scope != "" {
		return w, o.notFound(now, scope)
	}
	return w, nil
}

// addAuthors adds to the status of one domain who sends most of it.
func (o *Operator) addAuthors(now time.Time, scope string, s Status) {
	for i := range s.Domains {
		d := &s.Domains[i]
		if d.Authors = []attribution.Author{}; d.Domain == scope {
			r, _ := o.who.Of(now, scope)
			d.Authors = append(d.Authors, r.Authors[:min(topAuthors, len(r.Authors))]...)
		}
	}
}
