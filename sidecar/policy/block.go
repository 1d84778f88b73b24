package policy

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/totals"
)

// A Blocker knows a reason for which an author, or all of a payer, may send nothing, whatever
// is counted: a panel's suspension, an operator's lock, too many bad sends.
type Blocker interface {
	// Block reports whether there is such a reason now. Without a key a is nobody in
	// particular. It is called with every question, and must not wait.
	Block(now time.Time, a sidecar.Author, who sidecar.Payer) (sidecar.Block, bool)
}

// BlockOf returns the Block of the first Blocker that has one.
func (p *Policy) BlockOf(now time.Time, a sidecar.Author, who sidecar.Payer) (sidecar.Block, bool) {
	for _, blocker := range p.blockers {
		if b, blocked := blocker.Block(now, a, who); blocked {
			return b, true
		}
	}
	return sidecar.Block{}, false
}

// blocked reports whether the author or payer of a question is blocked, and sets q.block then.
// What a stop has held may have to wait though the stop is over.
func (p *Policy) blocked(q *question) (blocked bool) {
	q.block, blocked = p.BlockOf(q.now, q.author, q.who)
	if !blocked && q.Stage == sidecar.StageRoute {
		q.block, blocked = p.Held.Kept(q.now, q.who.Subject(), q.ID, q.Token(q.ID, q.to[0], 0))
	}
	return blocked
}

// answerBlocked answers for a payer that is blocked.
func (p *Policy) answerBlocked(q *question) sidecar.Reply {
	switch q.Stage {
	case sidecar.StageRoute: // the message was accepted, so it is held and never bounced
		token := q.Token(q.ID, q.to[0], 0)
		charged := p.settled(q, token)
		if charged && q.block.Retries != nil && q.block.Retries.Allow(q.ID, token) {
			p.drop(q, token)
			return sidecar.Reply{}
		}
		return p.hold(q, token, charged, p.refuseBlocked(q, sidecar.Defer))
	case sidecar.StageLocal:
		if q.block.Local == sidecar.Accept {
			return sidecar.Reply{}
		}
		return p.refuseBlocked(q, q.block.Local)
	}
	return p.refuseBlocked(q, q.block.SMTP)
}

func (p *Policy) refuseBlocked(q *question, a sidecar.Action) sidecar.Reply {
	if q.Stage != sidecar.StageRoute {
		p.notify(q, Decision{Blocked: true, By: q.block.By})
	}
	return p.refuseWith(q, a, totals.ReasonOfBlock(q.block.By), q.block.Text(a))
}
