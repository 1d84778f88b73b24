package operator

import (
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/attribution"
	"sluice/sidecar/envelope"
	"sluice/sidecar/senders"
)

// topAuthors is how many authors the status of a domain has.
const topAuthors = 3

// WhoSends returns who sends of a scope on all nodes, as attribution.Attribution.Scope does. It waits for
// the other nodes, though not for long. The error wraps ErrNotFound if nothing is known of it.
func (o *Operator) WhoSends(now time.Time, scope string, n int) (senders.Who, error) {
	settings := o.settings.Load()
	w := senders.Who{Node: settings.Node, Now: now, Seconds: settings.Window.Seconds(), Domains: o.owners.Who.Scope(now, scope, n), Missing: []string{}, Uncounted: []senders.Unpaid{}}
	if o.owners.Feed != nil {
		o.owners.Feed.Gather(now, subjectsOf(scope, w.Domains)...)
		w.Domains, w.Missing = o.owners.Who.Scope(now, scope, n), append(w.Missing, o.owners.Feed.Missing()...)
	}
	for i := range w.Domains {
		w.Domains[i].Nodes = append([]string{w.Node}, w.Domains[i].Nodes...)
	}
	if scope == "" {
		w.Uncounted = o.owners.Who.Uncounted(now, "")
	}
	if len(w.Domains) == 0 && scope != "" {
		return w, o.scopes.nobodySends(now, scope)
	}
	return w, nil
}

// subjectsOf are those of whom other nodes are asked about a scope: it, or that of its mailbox,
// and those that are known of here.
func subjectsOf(scope string, known []senders.Report) []string {
	var all []string
	if _, domain, _ := strings.Cut(scope, "@"); domain != "" {
		all = append(all, domain)
	} else if sidecar.AlwaysCounted(scope) && scope != "" {
		all = append(all, scope)
	}
	for _, r := range known[:min(len(known), maxGathered)] {
		if !slices.Contains(all, r.Domain) {
			all = append(all, r.Domain)
		}
	}
	return all
}

// maxGathered is about how many subjects other nodes are asked for one command.
const maxGathered = 20

// SilentNodes returns the other nodes, with for how long nothing was heard of them.
func (o *Operator) SilentNodes() map[string]time.Duration {
	all := map[string]time.Duration{}
	if shared := o.shared.Load(); shared != nil {
		for _, n := range (*shared)().Nodes {
			if name := envelope.FoldDomain(n.Node); name != o.settings.Load().Node {
				all[name] = time.Duration(n.SignAge * float64(time.Second))
			}
		}
	}
	return all
}

// Learn adds what logs say of how much the authors of domains usually send.
func (o *Operator) Learn(now time.Time, all map[string]attribution.Hours) attribution.Learned {
	return o.owners.Who.LearnUsual(now, all)
}

// addAuthors adds to the status of one domain who sends most of it.
func (o *Operator) addAuthors(now time.Time, scope string, s Status) {
	for i := range s.Domains {
		d := &s.Domains[i]
		if d.Authors = []senders.Author{}; d.Domain == scope {
			r, _ := o.owners.Who.Of(now, scope)
			d.Authors = append(d.Authors, r.Authors[:min(topAuthors, len(r.Authors))]...)
		}
	}
}
