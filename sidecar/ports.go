package sidecar

import (
	"context"
	"time"

	"sluice/ratelimit"
)

// Counts are what a store counts, to look at.
type Counts interface {
	// Standing is what is counted for one subject.
	Standing(now time.Time, subject string) ratelimit.Standing
	// Standings calls f for every subject that is counted now.
	Standings(now time.Time, f func(ratelimit.Standing) bool)
}

// A Reconciler has domains looked at again, and resets them: a reconcile.Loop.
type Reconciler interface {
	// Look has domains looked at soon. It never waits.
	Look(domains ...string)
	// LookAtNextTick has them looked at within a second.
	LookAtNextTick(domains ...string)
	// Reset lets a domain start at zero, everywhere, unless its epoch is past seen. A
	// negative seen always resets.
	Reset(ctx context.Context, now time.Time, domain string, seen int64) error
}

// Notes are small values that survive a crash together with the counts.
type Notes interface {
	Note(key string, value []byte) error
	Forget(key string) error
	// Notes calls f for every key that begins with prefix, in the order of keys.
	Notes(prefix string, f func(key string, value []byte))
}

// A Board has small values that all nodes see within a second. That of a node
// by itself is made of its Notes.
type Board interface {
	// Post writes a value under a key that has none, and returns what stands
	// there then: value, or what another node was first to write. From then on
	// Entries has it. To repeat it, where the answer was lost, is no harm.
	Post(ctx context.Context, key string, value []byte) (stands []byte, err error)
	Remove(ctx context.Context, key string) error
	// Entries calls f for every value whose key begins with prefix, in the
	// order of keys.
	Entries(prefix string, f func(key string, value []byte))
	// Changed has an element after another node has changed something.
	Changed() <-chan struct{}
}

// A LeftBoard is what is known of the Board that store.url named before.
type LeftBoard interface {
	// Entries calls f for each value that was posted under a key with a prefix.
	Entries(prefix string, f func(key string, value []byte))
}

// A LockKind is one of the two lock files that a domain can have.
type LockKind string

// The kinds of lock, named like their files.
const (
	LockHourly    LockKind = "max_hourly"
	LockDeferFail LockKind = "max_deferfail"
)

// LockUsage is the kind of a domain's usage file, which locks nothing: it
// occurs in LockEvents only. Its name is the domain.
const LockUsage LockKind = "usage"

// A Lock is one lock file of a domain.
type Lock struct {
	Kind   LockKind
	Domain string // lower-case A-label
}

// A LockFile is a lock that stands in the directory.
type LockFile struct {
	Lock
	Operator bool      // made, touched or edited by a hand: only a hand removes it
	Since    time.Time // modification time of the file
	Epoch    int64     // epoch of the domain when Sluice made it
	Content  string
}

// A Usage is what a domain's usage file tells.
type Usage struct {
	Domain  string // lower-case A-label
	Content string // "15/20 (75%)", as in a lock file
	Epoch   int64  // epoch of the domain
}

// A LockDir is the email_send_limits directory.
type LockDir interface {
	// Make makes a lock file of Sluice's unless one of that name stands.
	Make(l Lock, content string, epoch int64) error
	// MakeOperator makes a lock file that only a hand removes.
	MakeOperator(l Lock, content string) error
	// Unmake removes a lock file if Sluice made it and nobody touched it.
	Unmake(l Lock) error
	// Remove removes a lock file whoever made it. It is no hand: no LockEvent follows.
	Remove(l Lock) error
	// Files lists the lock files of a domain, or of all domains for "".
	Files(domain string) []LockFile
	// ShowUsage has the directory hold these usage files, in the order of
	// importance, and no others of ours. What fails is a LockTrouble.
	ShowUsage(files []Usage)
	// Failure tells why lock files could not be made or removed now, if so.
	Failure() error
}

// A LockEventKind is what happened in the lock directory without Sluice.
type LockEventKind int

// The kinds of LockEvent.
const (
	LockReleased  LockEventKind = iota // a hand removed a lock or usage file: release and reset the domain
	LockMade                           // a hand made a lock file
	LockTaken                          // a hand touched or edited a file of ours: it is the operator's now
	LockDirLost                        // the directory is missing or another one: our locks were made anew
	LockTrouble                        // a lock or usage file could not be made, removed or read: Err
	LockMended                         // nothing is in trouble any more
	LockDirShared                      // cPanel's own limiter uses the directory too: Err
	LockIgnored                        // files are named nearly like locks, and have no effect: Err
)

// A LockEvent is something that happened in the lock directory without Sluice.
type LockEvent struct {
	Kind LockEventKind
	File LockFile // as last seen; the zero value if it is about the whole directory
	Err  error
}

// A Queue is Exim's.
type Queue interface {
	// Deliver has Exim try the messages now, one after the other, and returns
	// when it has, or when ctx is done: what was begun then goes on. Messages
	// that are not in the queue are no error.
	Deliver(ctx context.Context, ids []string) error
}
