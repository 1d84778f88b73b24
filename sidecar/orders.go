package sidecar

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
)

// An order is a lock that `sluice lock` made, which stands on all nodes until it
// is removed on one. On the board is who made it and its mark; each node notes
// how far it is with its own file, before it touches that: a crash in between
// leaves no file that nobody would remove.
type order struct {
	State orderState `json:"state,omitempty"` // not on the board
	Who   string     `json:"who"`
	Mark  string     `json:"mark"` // random: tells it from an earlier one of the domain
}

// An orderState is how far a node is with an order.
type orderState string

const (
	orderMaking   orderState = "making"   // to be made here; whether it is on the board, that tells
	orderNew      orderState = "new"      // made here, and not on the board yet
	orderStands   orderState = "stands"   // on the board, and made here
	orderRemoving orderState = "removing" // to be removed here, then on the board
	orderRemoved  orderState = "removed"  // removed here, and still on the board
)

// in is the order in another state.
func (o order) in(s orderState) order {
	o.State = s
	return o
}

// followLocks makes true what the board says of locks, and tells it what it does
// not know yet.
func (p *Policy) followLocks(ctx context.Context) {
	p.ordering.Lock()
	defer p.ordering.Unlock()
	known, board := p.orders(), p.ordered()
	for domain, o := range known {
		switch stands, ok := board[domain]; {
		case o.State == orderNew:
			p.postLock(ctx, domain, o)
		case ok && stands.Mark != o.Mark: // a later one
		case o.State == orderRemoved && ok:
			p.withdrawLock(ctx, domain, o)
		case o.State == orderRemoved:
			p.forgetOrder(domain)
		case !ok: // another node has released it
			p.log.LockWithdrawn(domain)
			p.logLock(domain, p.locks.Remove(Lock{LockHourly, domain}))
			p.forgetOrder(domain)
			p.due.add(domain)
		}
	}
	for domain, o := range board {
		if mine, ok := known[domain]; ok && (mine.Mark == o.Mark || mine.State == orderNew) {
			continue
		}
		p.log.LockOrdered(domain, o.Who)
		p.noteOrder(domain, o.in(orderMaking))
		p.logLock(domain, p.makeOrdered(domain, o))
		p.noteOrder(domain, o.in(orderStands))
	}
}

// resumeOrders completes what a crash has interrupted.
func (p *Policy) resumeOrders() {
	for domain, o := range p.orders() {
		switch o.State {
		case orderMaking:
			p.logLock(domain, p.makeOrdered(domain, o))
			p.noteOrder(domain, o.in(orderStands))
		case orderRemoving:
			p.logLock(domain, p.locks.Remove(Lock{LockHourly, domain}))
			p.noteOrder(domain, o.in(orderRemoved))
		}
	}
}

// orderLock locks a domain here, and has all nodes do so, at once or as soon as
// they can be told.
func (p *Policy) orderLock(ctx context.Context, domain, who string) error {
	o := order{Who: who, Mark: rand.Text()}
	if !p.clustered {
		return p.makeOrdered(domain, o)
	}
	p.ordering.Lock()
	defer p.ordering.Unlock()
	p.noteOrder(domain, o.in(orderMaking))
	if err := p.makeOrdered(domain, o); err != nil {
		p.forgetOrder(domain)
		return err
	}
	p.postLock(ctx, domain, o)
	return nil
}

func (p *Policy) makeOrdered(domain string, o order) error {
	return p.locks.MakeOperator(Lock{LockHourly, domain}, "locked by "+o.Who)
}

// postLock puts a lock that was made here on the board. ordering is held.
func (p *Policy) postLock(ctx context.Context, domain string, o order) {
	value, err := json.Marshal(o.in(""))
	if err == nil {
		value, err = p.board.Post(ctx, lockKeys+domain, value)
	}
	if err != nil {
		p.log.BoardFailed(err)
		p.noteOrder(domain, o.in(orderNew))
		return
	}
	p.noteOrder(domain, readOrder(value).in(orderStands))
}

// unlockAll removes every lock file of a domain here, and has all nodes do so
// with one of orderLock, likewise.
func (p *Policy) unlockAll(ctx context.Context, domain string) (err error) {
	p.ordering.Lock()
	defer p.ordering.Unlock()
	o, ordered := p.orders()[domain]
	if ordered {
		p.noteOrder(domain, o.in(orderRemoving))
	}
	for _, f := range p.locks.Files(domain) {
		err = errors.Join(err, p.locks.Remove(f.Lock))
	}
	if ordered {
		p.withdrawLock(ctx, domain, o)
	}
	return err
}

// endOrder follows a hand that has removed the file of a lock: if it is one for
// all nodes, it goes on all. A file that stands was made after that hand.
func (p *Policy) endOrder(ctx context.Context, domain string) {
	p.ordering.Lock()
	defer p.ordering.Unlock()
	stands := slices.ContainsFunc(p.locks.Files(domain), func(f LockFile) bool { return f.Kind == LockHourly && f.Operator })
	if o, ordered := p.orders()[domain]; ordered && !stands {
		p.withdrawLock(ctx, domain, o)
	}
}

// withdrawLock takes a lock that was removed here off the board. ordering is held.
func (p *Policy) withdrawLock(ctx context.Context, domain string, o order) {
	if err := p.board.Remove(ctx, lockKeys+domain); err != nil {
		p.log.BoardFailed(err)
		p.noteOrder(domain, o.in(orderRemoved))
		return
	}
	p.forgetOrder(domain)
}

// ordered are the orders on the board, by domain.
func (p *Policy) ordered() map[string]order {
	all := map[string]order{}
	p.board.Entries(lockKeys, func(key string, value []byte) { all[strings.TrimPrefix(key, lockKeys)] = readOrder(value) })
	return all
}

// readOrder reads an order from the board. An earlier version wrote only who
// made it.
func readOrder(value []byte) (o order) {
	if json.Unmarshal(value, &o) != nil {
		o.Who = string(value)
	}
	return o
}

// orders are those that this node knows, by domain.
func (p *Policy) orders() map[string]order {
	all := map[string]order{}
	p.orderNotes.Load(func(name []string, o order) error {
		all[name[0]] = o
		return nil
	})
	return all
}

func (p *Policy) noteOrder(domain string, o order) { p.logNote(p.orderNotes.Put(o, domain)) }

func (p *Policy) forgetOrder(domain string) { p.logNote(p.orderNotes.Drop(domain)) }

func (p *Policy) logNote(err error) {
	if err != nil {
		p.log.StoreFailed(err)
	}
}
