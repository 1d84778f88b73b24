package sidecar

import "time"

// Tend is what Run does every second.
func (p *Policy) Tend(now time.Time) { p.tend(now) }
