package sidecar

import (
	"context"
	"encoding/json"
	"net/url"
	"strings"
	"time"
)

// What nodes share beside the counts is on the Board: the locks made with
// `sluice lock`, and the domains over their percentage of bad sends. Each node
// makes the board come true in its own directory when it changes, and looks
// once a second: what it has missed costs only time. The locks that Sluice makes
// at a limit need no word between nodes, each follows the shared counts; nor
// does a release, which is a new epoch of the counts.

// The keys of the board end in a domain.
const (
	lockKeys = "lock/"
	tripKeys = "trip/"
)

// orderNotes are the notes of this node about locks for all nodes.
const orderNotes = "order/"

// An orderState is how far a lock for all nodes is.
type orderState string

const (
	orderNew     orderState = "new"     // made here, and not on the board yet
	orderStands  orderState = "stands"  // on the board, and made here
	orderRemoved orderState = "removed" // removed here, and still on the board
)

// An order is a lock for all nodes.
type order struct {
	State orderState `json:"state"`
	Who   string     `json:"who"`
}

// Turned has a domain looked at: another node has brought it to a limit,
// released or reset it.
func (p *Policy) Turned(subject string) {
	if isDomain(subject) {
		p.due.add(subject)
	}
}

// followBoard makes true what the board says of locks and trips, and tells it
// what it does not know yet.
func (p *Policy) followBoard(ctx context.Context, now time.Time) {
	if !p.clustered {
		return
	}
	p.followLocks(ctx)
	p.followTrips(ctx, now)
	p.carry(ctx, now)
}

func (p *Policy) followLocks(ctx context.Context) {
	ordered := map[string]string{} // who
	p.board.Entries(lockKeys, func(key string, who []byte) { ordered[strings.TrimPrefix(key, lockKeys)] = string(who) })
	orders := p.orders()
	for domain, o := range orders {
		who, stands := ordered[domain]
		switch {
		case o.State == orderNew:
			p.orderLock(ctx, domain, o.Who)
		case o.State == orderRemoved && stands:
			p.withdrawLock(ctx, domain)
		case o.State == orderRemoved:
			p.forgetOrder(domain)
		case !stands: // another node has released it
			p.log.LockWithdrawn(domain)
			p.logLock(domain, p.locks.Remove(Lock{LockHourly, domain}))
			p.forgetOrder(domain)
			p.due.add(domain)
		case who != o.Who:
			p.noteOrder(domain, order{orderStands, who})
		}
	}
	for domain, who := range ordered {
		if _, known := orders[domain]; !known {
			p.log.LockOrdered(domain, who)
			p.noteOrder(domain, order{orderStands, who})
			p.logLock(domain, p.locks.MakeOperator(Lock{LockHourly, domain}, "locked by "+who))
		}
	}
}

func (p *Policy) logLock(domain string, err error) {
	if err != nil {
		p.log.LockTrouble(domain, err)
	}
}

// orders are the locks for all nodes that this one knows.
func (p *Policy) orders() map[string]order {
	all := map[string]order{}
	p.notes.Notes(orderNotes, func(key string, value []byte) {
		var o order
		domain, err := url.PathUnescape(strings.TrimPrefix(key, orderNotes))
		if err == nil {
			err = json.Unmarshal(value, &o)
		}
		if err != nil {
			p.log.NoteUnread(key, err)
			return
		}
		all[domain] = o
	})
	return all
}

func (p *Policy) noteOrder(domain string, o order) {
	value, err := json.Marshal(o)
	if err == nil {
		err = p.notes.Note(orderNotes+url.PathEscape(domain), value)
	}
	if err != nil {
		p.log.StoreFailed(err)
	}
}

func (p *Policy) forgetOrder(domain string) {
	if err := p.notes.Forget(orderNotes + url.PathEscape(domain)); err != nil {
		p.log.StoreFailed(err)
	}
}

// orderLock has all nodes lock a domain, at once or as soon as they can be told.
func (p *Policy) orderLock(ctx context.Context, domain, who string) {
	if !p.clustered {
		return
	}
	o := order{orderStands, who}
	if _, err := p.board.Post(ctx, lockKeys+domain, []byte(who)); err != nil {
		o.State = orderNew
		p.log.BoardFailed(err)
	}
	p.noteOrder(domain, o)
}

// withdrawLock has all nodes release a domain that was locked on all, likewise.
func (p *Policy) withdrawLock(ctx context.Context, domain string) {
	if _, ordered := p.orders()[domain]; !p.clustered || !ordered {
		return
	}
	if err := p.board.Remove(ctx, lockKeys+domain); err != nil {
		p.log.BoardFailed(err)
		p.noteOrder(domain, order{State: orderRemoved})
		return
	}
	p.forgetOrder(domain)
}

// followTrips trips domains that another node has tripped, and releases those
// that another one has released.
func (p *Policy) followTrips(ctx context.Context, now time.Time) {
	tripped := map[string]bool{}
	p.board.Entries(tripKeys, func(key string, _ []byte) { tripped[strings.TrimPrefix(key, tripKeys)] = true })
	for domain := range tripped {
		if !p.trips.has(domain) {
			p.log.TrippedElsewhere(domain)
			p.logLock(domain, p.trips.set(domain, now))
			p.due.add(domain)
		}
		p.trips.share(domain)
	}
	for _, domain := range p.trips.domains() {
		switch {
		case tripped[domain]:
		case p.trips.isShared(domain):
			p.logLock(domain, p.trips.clear(domain))
			p.due.add(domain)
		default:
			p.shareTrip(ctx, domain)
		}
	}
}

// shareTrip tells all nodes that a domain has tripped.
func (p *Policy) shareTrip(ctx context.Context, domain string) {
	if !p.clustered {
		return
	}
	if _, err := p.board.Post(ctx, tripKeys+domain, []byte(p.settings.Load().Node)); err != nil {
		p.log.BoardFailed(err)
		return
	}
	p.trips.share(domain)
}

// endTrip releases a domain here, and on all nodes.
func (p *Policy) endTrip(ctx context.Context, domain string) error {
	if p.clustered && p.trips.has(domain) {
		if err := p.board.Remove(ctx, tripKeys+domain); err != nil {
			p.log.BoardFailed(err) // the others find out by the counts
		}
	}
	return p.trips.clear(domain)
}

// restarted follows a reset that another node has made: locks of before it go.
func (p *Policy) restarted(domain string, epoch int64) {
	before := false
	for _, f := range p.locks.Files(domain) {
		if !f.Operator && f.Epoch < epoch {
			before = true
			p.logLock(domain, p.locks.Unmake(f.Lock))
		}
	}
	if before {
		p.log.ResetElsewhere(domain)
		p.bads.forget(domain)
		p.holds.leave(domain)
	}
}
