package sidecar

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
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

// lockKeys begin the keys of locks on the board; a domain follows.
const lockKeys = "lock/"

// in is the order in another state.
func (o order) in(s orderState) order {
	o.State = s
	return o
}

// follow makes true what the board says of locks, and tells it what it does
// not know yet.
func (l *Locks) follow(ctx context.Context, _ time.Time) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	known, board := l.orders(), l.ordered()
	for domain, o := range known {
		switch stands, ok := board[domain]; {
		case o.State == orderNew:
			l.postLock(ctx, domain, o)
		case ok && stands.Mark != o.Mark: // a later one
		case o.State == orderRemoved && ok:
			l.withdrawLock(ctx, domain, o)
		case o.State == orderRemoved:
			l.forgetOrder(domain)
		case !ok: // another node has released it
			l.events.Emit(event.Event{Kind: event.UnlockedElsewhere, Domain: domain})
			l.logTrouble(domain, l.dir.Remove(Lock{Kind: LockHourly, Domain: domain}))
			l.forgetOrder(domain)
			l.reconciler.Look(domain)
		}
	}
	for domain, o := range board {
		if mine, ok := known[domain]; ok && (mine.Mark == o.Mark || mine.State == orderNew) {
			continue
		}
		l.events.Emit(event.Event{Kind: event.LockedElsewhere, Domain: domain, Attrs: event.Attrs("who", o.Who)})
		l.noteOrder(domain, o.in(orderMaking))
		l.logTrouble(domain, l.makeOrdered(domain, o))
		l.noteOrder(domain, o.in(orderStands))
	}
}

// resumeOrders completes what a crash has interrupted.
func (l *Locks) resumeOrders() {
	for domain, o := range l.orders() {
		switch o.State {
		case orderMaking:
			l.logTrouble(domain, l.makeOrdered(domain, o))
			l.noteOrder(domain, o.in(orderStands))
		case orderRemoving:
			l.logTrouble(domain, l.dir.Remove(Lock{Kind: LockHourly, Domain: domain}))
			l.noteOrder(domain, o.in(orderRemoved))
		}
	}
}

// LockForAll locks a domain here, and has all nodes do so, at once or as soon as
// they can be told.
func (l *Locks) LockForAll(ctx context.Context, domain, who string) error {
	o := order{Who: who, Mark: rand.Text()}
	if l.board == nil {
		return l.makeOrdered(domain, o)
	}
	l.cluster.Lock()
	defer l.cluster.Unlock()
	l.noteOrder(domain, o.in(orderMaking))
	if err := l.makeOrdered(domain, o); err != nil {
		l.forgetOrder(domain)
		return err
	}
	l.postLock(ctx, domain, o)
	return nil
}

func (l *Locks) makeOrdered(domain string, o order) error {
	return l.dir.MakeOperator(Lock{Kind: LockHourly, Domain: domain}, "locked by "+o.Who)
}

// postLock puts a lock that was made here on the board. ordering is held.
func (l *Locks) postLock(ctx context.Context, domain string, o order) {
	value, err := json.Marshal(o.in(""))
	if err == nil {
		value, err = l.board.Post(ctx, lockKeys+domain, value)
	}
	if err != nil {
		l.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		l.noteOrder(domain, o.in(orderNew))
		return
	}
	l.noteOrder(domain, readOrder(value).in(orderStands))
}

// UnlockForAll removes every lock file of a domain here, and has all nodes do so
// with one of orderLock, likewise.
func (l *Locks) UnlockForAll(ctx context.Context, domain string) (err error) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	o, ordered := l.orders()[domain]
	if ordered {
		l.noteOrder(domain, o.in(orderRemoving))
	}
	for _, f := range l.dir.Files(domain) {
		err = errors.Join(err, l.dir.Remove(f.Lock))
	}
	if ordered {
		l.withdrawLock(ctx, domain, o)
	}
	return err
}

// endOrder follows a hand that has removed the file of a lock: if it is one for
// all nodes, it goes on all. A file that stands was made after that hand.
func (l *Locks) endOrder(ctx context.Context, domain string) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	stands := slices.ContainsFunc(l.dir.Files(domain), func(f LockFile) bool { return f.Kind == LockHourly && f.Operator })
	if o, ordered := l.orders()[domain]; ordered && !stands {
		l.withdrawLock(ctx, domain, o)
	}
}

// withdrawLock takes a lock that was removed here off the board. ordering is held.
func (l *Locks) withdrawLock(ctx context.Context, domain string, o order) {
	if l.board == nil { // others knew of it once
		l.forgetOrder(domain)
		return
	}
	if err := l.board.Remove(ctx, lockKeys+domain); err != nil {
		l.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		l.noteOrder(domain, o.in(orderRemoved))
		return
	}
	l.forgetOrder(domain)
}

// Unposted reports whether a domain is locked here for all nodes, and the others do not
// know yet.
func (l *Locks) Unposted(domain string) bool { return l.orders()[domain].State == orderNew }

// ordered are the orders on the board, by domain.
func (l *Locks) ordered() map[string]order {
	all := map[string]order{}
	l.board.Entries(lockKeys, func(key string, value []byte) { all[strings.TrimPrefix(key, lockKeys)] = readOrder(value) })
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
func (l *Locks) orders() map[string]order {
	all := map[string]order{}
	l.known.Load(func(name []string, o order) error {
		all[name[0]] = o
		return nil
	})
	return all
}

func (l *Locks) noteOrder(domain string, o order) { l.tellFailure(l.known.Put(o, domain)) }

func (l *Locks) forgetOrder(domain string) { l.tellFailure(l.known.Drop(domain)) }

func (l *Locks) tellFailure(err error) {
	if err != nil {
		l.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}
