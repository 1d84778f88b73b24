package policy

import (
	"time"

	"sluice/sidecar"
)

// A Blocker knows a reason why nothing of somebody may go, whatever is counted.
type Blocker interface {
	// Block tells whether it has one now. a is who is known to send, who is who
	// pays. It is asked with every question, and must not wait.
	Block(now time.Time, a sidecar.Author, who sidecar.Payer) (sidecar.Block, bool)
}

// blockOf finds the first Block of somebody.
func (p *Policy) BlockOf(now time.Time, a sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	for _, blocker := range p.blockers {
		if b, blocked := blocker.Block(now, a, who); blocked {
			return b, true
		}
	}
	return sidecar.Block{}, false
}
