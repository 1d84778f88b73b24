package operator

import (
	"time"

	"sluice/sidecar/incident"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/stop"
)

// Measures are what metrics show of a node: counters since its start, and states of now.
type Measures struct {
	Totals
	Refusals  map[string]int64 // recipients that were refused or held, by reason
	HeldEver  int64            // of Refusals: those that were held
	Overshoot int64            // see totals.Totals.Overshoot
	LockFiles map[lockfile.Kind]int
	StopsBy   map[stop.Cause]int // in force
	Open      map[string]int     // incidents that are open, by severity
}

// Measures returns the measures of now.
func (o *Operator) Measures(now time.Time) Measures {
	m := Measures{Totals: o.totals(), Overshoot: o.policy.Totals.Overshoot(),
		LockFiles: map[lockfile.Kind]int{lockfile.Hourly: 0, lockfile.DeferFail: 0},
		StopsBy:   map[stop.Cause]int{stop.Operator: 0, stop.Deferfail: 0}}
	m.Refusals, m.HeldEver = o.policy.Totals.Refusals()
	for _, f := range o.dir.Files("") {
		m.LockFiles[f.Kind]++
	}
	for _, st := range o.owners.Stopped.List(now, "", false) {
		m.StopsBy[st.Cause]++
	}
	m.Open = o.openIncidents()
	return m
}

func (p *past) openIncidents() map[string]int {
	open := map[string]int{}
	for s := incident.Info; s <= incident.Critical; s++ {
		open[s.String()] = 0
	}
	if p.incidents != nil {
		p.incidents.List(func(i *incident.Incident) bool {
			if i.Open() {
				open[i.Severity.String()]++
			}
			return false // a copy of none is needed
		})
	}
	return open
}
