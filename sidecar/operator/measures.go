package operator

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/stop"
)

// Measures are what metrics show of a node: counters since its start, and states of now.
type Measures struct {
	Totals
	Refusals  map[string]int64 // recipients that were refused or held, by reason
	HeldEver  int64            // of Refusals: those that were held
	Overshoot int64            // see policy.Policy.Overshoot
	LockFiles map[sidecar.LockKind]int
	StopsBy   map[stop.Cause]int // in force
}

// Measures returns the measures of now.
func (o *Operator) Measures(now time.Time) Measures {
	m := Measures{Totals: o.totals(), Overshoot: o.policy.Overshoot(),
		LockFiles: map[sidecar.LockKind]int{sidecar.LockHourly: 0, sidecar.LockDeferFail: 0},
		StopsBy:   map[stop.Cause]int{stop.Operator: 0, stop.Deferfail: 0}}
	m.Refusals, m.HeldEver = o.policy.Refusals()
	for _, f := range o.dir.Files("") {
		m.LockFiles[f.Kind]++
	}
	for _, st := range o.stops.List(now, "", false) {
		m.StopsBy[st.Cause]++
	}
	return m
}
