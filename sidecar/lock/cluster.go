package lock

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/lockfile"
)

// A clusterLock is a lock that `sluice lock` made, which stands on all nodes until it is
// removed on one. The board has who made it and its mark. Each node notes the lock before
// it makes or removes its own file, so that after a crash it can complete that.
type clusterLock struct {
	State state  `json:"state,omitempty"` // not on the board
	Who   string `json:"who"`
	Node  string `json:"node,omitempty"` // on which it was made
	Mark  string `json:"mark"`           // random, so that two locks of a domain differ
}

// A state is how far a node is with its own file of a clusterLock. "making", which an
// earlier version noted, is treated like stands.
type state string

const (
	stands   state = "stands"   // the file is made, after a crash by the next start; the lock is on the board
	unposted state = "new"      // the file is made, and the lock is to be put on the board
	removing state = "removing" // the file is to be removed, then the lock on the board
	removed  state = "removed"  // the file is removed, the lock is still on the board
)

// lockKeys begin the keys of locks on the board; a domain follows.
const lockKeys = "lock/"

// Follow makes and removes this node's files so that they match the locks on the board. It
// also puts on the board, or takes off it, what could not be while it was out of reach.
func (l *Locks) Follow(ctx context.Context, _ time.Time) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	here, board := l.clusterLocks(), map[string]clusterLock{}
	l.board.Entries(lockKeys, func(key string, value []byte) { board[strings.TrimPrefix(key, lockKeys)] = readClusterLock(value) })
	for domain, c := range here {
		switch posted, ok := board[domain]; {
		case c.State == unposted:
			l.post(ctx, domain, c)
		case ok && posted.Mark != c.Mark: // a later lock, made below
		case c.State == removed && ok:
			l.withdraw(ctx, domain, c)
		case c.State == removed:
			l.forget(domain)
		case !ok: // another node has unlocked the domain
			l.events.Emit(event.Event{Kind: event.UnlockedElsewhere, Domain: domain})
			l.logTrouble(domain, l.dir.Remove(hourly(domain)))
			l.forget(domain)
			l.reconciler.ReconcileSoon(domain)
		}
	}
	for domain, c := range board {
		if mine, ok := here[domain]; ok && (mine.Mark == c.Mark || mine.State == unposted) {
			continue
		}
		l.events.Emit(event.Event{Kind: event.LockedElsewhere, Domain: domain, Attrs: event.Attrs("who", c.Who, "node", c.Node)})
		l.note(domain, c, stands)
		l.logTrouble(domain, l.makeFile(domain, c))
	}
}

// resume completes what a crash has interrupted. The directory knows which files it has
// made: it makes none twice, nor one that an operator has removed.
func (l *Locks) resume() {
	for domain, c := range l.clusterLocks() {
		switch c.State {
		case removed:
		case removing:
			l.logTrouble(domain, l.dir.Remove(hourly(domain)))
			l.note(domain, c, removed)
		default:
			l.logTrouble(domain, l.makeFile(domain, c))
		}
	}
}

// LockForAll locks a domain on this node, and on all others at once or as soon as the
// board can be reached. After an error about its file it is locked all the same, if ByHand says so.
func (l *Locks) LockForAll(ctx context.Context, domain, who string) error {
	c := clusterLock{Who: who, Node: l.settings().Node, Mark: rand.Text()}
	if l.board == nil {
		return l.makeFile(domain, c)
	}
	l.cluster.Lock()
	defer l.cluster.Unlock()
	l.note(domain, c, stands)
	err := l.makeFile(domain, c)
	if !l.ByHand(domain) {
		l.forget(domain)
		return err
	}
	l.post(ctx, domain, c)
	return err
}

// ByHand reports whether an operator has locked a domain, also if its file could not be made yet.
func (l *Locks) ByHand(domain string) bool {
	return slices.ContainsFunc(l.dir.Files(domain), func(f lockfile.File) bool { return f.Operator })
}

func (l *Locks) makeFile(domain string, c clusterLock) error {
	return l.dir.MakeOperator(hourly(domain), "locked by "+c.Who)
}

// post puts a lock whose file was made here on the board. l.cluster is held.
func (l *Locks) post(ctx context.Context, domain string, c clusterLock) {
	c.State = ""
	value, err := json.Marshal(c)
	if err == nil {
		value, err = l.board.Post(ctx, lockKeys+domain, value)
	}
	if err != nil {
		l.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		l.note(domain, c, unposted)
		return
	}
	l.note(domain, readClusterLock(value), stands)
}

// UnlockForAll removes every lock file of a domain on this node. If LockForAll has locked
// it, all other nodes remove that lock, at once or as soon as the board can be reached.
func (l *Locks) UnlockForAll(ctx context.Context, domain string) (err error) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	c, locked := l.clusterLocks()[domain]
	if locked {
		l.note(domain, c, removing)
	}
	for _, f := range l.dir.Files(domain) {
		err = errors.Join(err, l.dir.Remove(f.Lock))
	}
	if locked {
		l.withdraw(ctx, domain, c)
	}
	return err
}

// fileRemoved is called when an operator has removed a lock file that an operator made. If
// the file belonged to a clusterLock, that lock ends on all nodes; unless there is such a
// file now, which was made since and goes on with the lock.
func (l *Locks) fileRemoved(ctx context.Context, domain string) {
	l.cluster.Lock()
	defer l.cluster.Unlock()
	again := slices.ContainsFunc(l.dir.Files(domain), func(f lockfile.File) bool { return f.Kind == lockfile.Hourly && f.Operator })
	if c, locked := l.clusterLocks()[domain]; locked && !again {
		l.withdraw(ctx, domain, c)
	}
}

// withdraw takes a lock off the board after its file was removed here. l.cluster is held.
func (l *Locks) withdraw(ctx context.Context, domain string, c clusterLock) {
	if l.board != nil { // nil: since the lock was made, this node stopped sharing with others
		if err := l.board.Remove(ctx, lockKeys+domain); err != nil {
			l.events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
			l.note(domain, c, removed)
			return
		}
	}
	l.forget(domain)
}

// Unposted reports whether a domain is locked here for all nodes, and the others do not
// know yet.
func (l *Locks) Unposted(domain string) bool { return l.clusterLocks()[domain].State == unposted }

// readClusterLock reads a lock from the board. An earlier version wrote only who made it.
func readClusterLock(value []byte) (c clusterLock) {
	if json.Unmarshal(value, &c) != nil {
		c.Who = string(value)
	}
	return c
}

// clusterLocks returns those that this node has noted, by domain.
func (l *Locks) clusterLocks() map[string]clusterLock {
	all := map[string]clusterLock{}
	l.noted.Load(func(name []string, c clusterLock) error {
		all[name[0]] = c
		return nil
	})
	return all
}

func (l *Locks) note(domain string, c clusterLock, s state) {
	c.State = s
	event.EmitError(l.events, event.StoreFailed, l.noted.Put(c, domain))
}

func (l *Locks) forget(domain string) {
	event.EmitError(l.events, event.StoreFailed, l.noted.Drop(domain))
}
