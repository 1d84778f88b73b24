package web

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// thresholds are the percentages of sluice_domains_over.
var thresholds = [...]struct {
	percent int64
	label   string
}{{50, "50"}, {80, "80"}, {100, "100"}}

// found is what a look at all subjects has found.
type found struct {
	domains      int   // that have sent something
	unattributed int64 // sends in the window that no author is known of
	over         [len(thresholds)]int
	top          []busy // the busiest first
}

// busy is a domain with its sends in the window of hourly limits.
type busy struct {
	domain string
	sent   int64
}

// A survey keeps what the last look has found.
type survey struct {
	mu sync.Mutex
	found
}

func (s *survey) last() found {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.found
}

// Survey begins a look at all subjects, for a reconcile.Owner: so a scrape need not look at
// them, however many there are.
func (m *Metrics) Survey(now time.Time) (each func(ratelimit.Standing), done func()) {
	in, f := m.options.Settings(), found{}
	each = func(st ratelimit.Standing) {
		sent := st.Sent(in.Window)
		if sent > 0 && sidecar.AlwaysCounted(st.Name) { // not by a mailbox or account of the same sends
			f.unattributed += max(0, sent-m.options.Attributed(now, st.Name))
		}
		if !sidecar.IsDomain(st.Name) || sent == 0 {
			return
		}
		f.domains++
		used := int64(0) // percent of the fullest limit
		for _, l := range in.LimitsOf(st.Name) {
			if l.Max > 0 {
				used = max(used, st.Sent(l.Window)*100/l.Max)
			}
		}
		for i, t := range thresholds {
			if used >= t.percent {
				f.over[i]++
			}
		}
		if n := m.options.Top; n > 0 && in.Names(st.Name) {
			f.addBusiest(busy{st.Name, sent}, n)
		}
	}
	return each, func() {
		m.survey.mu.Lock()
		defer m.survey.mu.Unlock()
		m.survey.found = f
	}
}

// addBusiest adds a domain if it is one of the n busiest so far.
func (f *found) addBusiest(b busy, n int) {
	if len(f.top) == n && f.top[n-1].sent >= b.sent {
		return
	}
	i, _ := slices.BinarySearchFunc(f.top, b, func(a, b busy) int { return cmp.Compare(b.sent, a.sent) })
	f.top = slices.Insert(f.top, i, b)
	f.top = f.top[:min(len(f.top), n)]
}
