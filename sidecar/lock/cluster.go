package lock

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// An order is a lock that `sluice lock` made, which stands on all nodes until it
// is removed on one. On the board is who made it and its mark; each node notes
// how far it is with its own file, before it touches that: a crash in between
// leaves no file that nobody would remove.
type clusterLock struct {
	State state  `json:"state,omitempty"` // not on the board
	Who   string `json:"who"`
	Mark  string `json:"mark"` // random: tells it from an earlier one of the domain
}

// An orderState is how far a node is with an order.
type state string

const (
	making   state = "making"   // to be made here; whether it is on the board, that tells
	unposted state = "new"      // made here, and not on the board yet
	stands   state = "stands"   // on the board, and made here
	removing state = "removing" // to be removed here, then on the board
	removed  state = "removed"  // removed here, and still on the board
)

// lockKeys begin the keys of locks on the board; a domain follows.
const lockKeys = "lock/"

// in is the order in another state.
func (o clusterLock) in(s state) clusterLock {
	o.State = s
	return o
}

// follow makes true what the board says of locks, and tells it what it does
// not know yet.
func (l *Locks) Follow(ctx context.Context, _ time.Time) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	known, board := l.clusterLocks(), l.posted()
	for domain, o := range known {
		switch stands, ok := board[domain]; {
		case o.State == unposted:
			l.postLock(ctx, domain, o)
		case ok && stands.Mark != o.Mark: // a later one
		case o.State == removed && ok:
			l.withdrawLock(ctx, domain, o)
		case o.State == removed:
			l.forgetClusterLock(domain)
		case !ok: // another node has released it
			l.events.Emit(event.Event{Kind: event.UnlockedElsewhere, Domain: domain})
			l.logTrouble(domain, l.dir.Remove(sidecar.Lock{Kind: sidecar.LockHourly, Domain: domain}))
			l.forgetClusterLock(domain)
			l.reconciler.Look(domain)
		}
	}
	for domain, o := range board {
		if mine, ok := known[domain]; ok && (mine.Mark == o.Mark || mine.State == unposted) {
			continue
		}
		l.events.Emit(event.Event{Kind: event.LockedElsewhere, Domain: domain, Attrs: event.Attrs("who", o.Who)})
		l.noteClusterLock(domain, o.in(making))
		l.logTrouble(domain, l.makeClusterLock(domain, o))
		l.noteClusterLock(domain, o.in(stands))
	}
}

// resumeOrders completes what a crash has interrupted.
func (l *Locks) resume() {
	for domain, o := range l.clusterLocks() {
		switch o.State {
		case making:
			l.logTrouble(domain, l.makeClusterLock(domain, o))
			l.noteClusterLock(domain, o.in(stands))
		case removing:
			l.logTrouble(domain, l.dir.Remove(sidecar.Lock{Kind: sidecar.LockHourly, Domain: domain}))
			l.noteClusterLock(domain, o.in(removed))
		}
	}
}

// LockForAll locks a domain here, and has all nodes do so, at once or as soon as
// they can be told.
func (l *Locks) LockForAll(ctx context.Context, domain, who string) error {
	o := clusterLock{Who: who, Mark: rand.Text()}
	if l.board == nil {
		return l.makeClusterLock(domain, o)
	}
	l.cluster.Lock()
	defer l.cluster.Unlock()
	l.noteClusterLock(domain, o.in(making))
	if err := l.makeClusterLock(domain, o); err != nil {
		l.forgetClusterLock(domain)
		return err
	}
	l.postLock(ctx, domain, o)
	return nil
}

func (l *Locks) makeClusterLock(domain string, o clusterLock) error {
	return l.dir.MakeOperator(sidecar.Lock{Kind: sidecar.LockHourly, Domain: domain}, "locked by "+o.Who)
}

// postLock puts a lock that was made here on the board. ordering is held.
func (l *Locks) postLock(ctx context.Context, domain string, o clusterLock) {
	value, err := json.Marshal(o.in(""))
	if err == nil {
		value, err = l.board.Post(ctx, lockKeys+domain, value)
	}
	if err != nil {
		l.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		l.noteClusterLock(domain, o.in(unposted))
		return
	}
	l.noteClusterLock(domain, readClusterLock(value).in(stands))
}

// UnlockForAll removes every lock file of a domain here, and has all nodes do so
// with one of orderLock, likewise.
func (l *Locks) UnlockForAll(ctx context.Context, domain string) (err error) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	o, ordered := l.clusterLocks()[domain]
	if ordered {
		l.noteClusterLock(domain, o.in(removing))
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
func (l *Locks) endClusterLock(ctx context.Context, domain string) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	stands := slices.ContainsFunc(l.dir.Files(domain), func(f sidecar.LockFile) bool { return f.Kind == sidecar.LockHourly && f.Operator })
	if o, ordered := l.clusterLocks()[domain]; ordered && !stands {
		l.withdrawLock(ctx, domain, o)
	}
}

// withdrawLock takes a lock that was removed here off the board. ordering is held.
func (l *Locks) withdrawLock(ctx context.Context, domain string, o clusterLock) {
	if l.board == nil { // others knew of it once
		l.forgetClusterLock(domain)
		return
	}
	if err := l.board.Remove(ctx, lockKeys+domain); err != nil {
		l.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		l.noteClusterLock(domain, o.in(removed))
		return
	}
	l.forgetClusterLock(domain)
}

// Unposted reports whether a domain is locked here for all nodes, and the others do not
// know yet.
func (l *Locks) Unposted(domain string) bool { return l.clusterLocks()[domain].State == unposted }

// ordered are the orders on the board, by domain.
func (l *Locks) posted() map[string]clusterLock {
	all := map[string]clusterLock{}
	l.board.Entries(lockKeys, func(key string, value []byte) { all[strings.TrimPrefix(key, lockKeys)] = readClusterLock(value) })
	return all
}

// readOrder reads an order from the board. An earlier version wrote only who
// made it.
func readClusterLock(value []byte) (o clusterLock) {
	if json.Unmarshal(value, &o) != nil {
		o.Who = string(value)
	}
	return o
}

// orders are those that this node knows, by domain.
func (l *Locks) clusterLocks() map[string]clusterLock {
	all := map[string]clusterLock{}
	l.known.Load(func(name []string, o clusterLock) error {
		all[name[0]] = o
		return nil
	})
	return all
}

func (l *Locks) noteClusterLock(domain string, o clusterLock) { l.tellFailure(l.known.Put(o, domain)) }

func (l *Locks) forgetClusterLock(domain string) { l.tellFailure(l.known.Drop(domain)) }

func (l *Locks) tellFailure(err error) {
	if err != nil {
		l.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}
