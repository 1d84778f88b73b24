package sidecar

import (
	"context"
	"time"

	"sluice/ratelimit"
)

// Counts reads the counters of a store.
type Counts interface {
	// Standing returns the counters of one subject.
	Standing(now time.Time, subject string) ratelimit.Standing
	// Standings calls f for every subject that is counted now.
	Standings(now time.Time, f func(ratelimit.Standing) bool)
}

// A Reconciler checks domains in the background, and resets them: a reconcile.Loop.
type Reconciler interface {
	// ReconcileSoon has domains checked as soon as possible. It never waits.
	ReconcileSoon(domains ...string)
	// ReconcileAtTick has domains checked within a second. It never waits.
	ReconcileAtTick(domains ...string)
	// Reset starts the counts of a domain at zero, on all nodes, unless the domain was
	// reset already after the epoch seen; see Reset.Epoch. A negative seen always resets.
	Reset(ctx context.Context, now time.Time, domain string, seen int64) error
}

// A Reset says that the counts of a subject have started at zero. Each owner of state
// drops what it has recorded of the subject under an earlier epoch. It may get the same
// Reset twice.
type Reset struct {
	Subject   string
	Epoch     int64 // time of the reset by the store's clock, in Unix milliseconds: the counts since then carry it
	Elsewhere bool  // another node has reset it, and informed all others
}

// Notes are small values that survive a crash together with the counts.
type Notes interface {
	Note(key string, value []byte) error
	Forget(key string) error
	// Notes calls f for every key that begins with prefix, in the order of keys.
	Notes(prefix string, f func(key string, value []byte))
}

// A Board has small values that all nodes see within a second. A node without others
// keeps them in its Notes.
type Board interface {
	// Post writes a value under a key that has none, and returns the value that the
	// key then has: this one, or that of another node that was first. It may be
	// repeated when its answer was lost.
	Post(ctx context.Context, key string, value []byte) (stands []byte, err error)
	Remove(ctx context.Context, key string) error
	// Tell has all other nodes see a value within a second, in place of what was told under
	// its key before. It does not wait, and is lost with the nodes: no value that is told is
	// among the Entries of a later start.
	Tell(key string, value []byte, lives time.Duration)
	// Entries calls f for every key that begins with prefix, in the order of keys.
	Entries(prefix string, f func(key string, value []byte))
	// Watch calls f for every key that begins with prefix, in the order of keys, and
	// from then on after one was written or removed, by whatever node; value is nil if it
	// was removed. f must not call the Board.
	Watch(prefix string, f func(key string, value []byte))
	// Changed has an element after another node has changed something.
	Changed() <-chan struct{}
}

// A LockKind is the kind of a lock file. A domain can have one file of each kind.
type LockKind string

// The kinds of lock, named like their files.
const (
	LockHourly    LockKind = "max_hourly"
	LockDeferFail LockKind = "max_deferfail"
)

// LockStopped is the kind of the files in the directory "stopped" of the lock directory, which
// are named after an author alone: its key is in the place of the domain.
const LockStopped LockKind = "stopped"

// LockUsage is the kind of a domain's usage file, which locks nothing and is named
// after the domain alone. It occurs in LockEvents only.
const LockUsage LockKind = "usage"

// A Lock is one lock file of a domain.
type Lock struct {
	Kind   LockKind
	Domain string // lower-case A-label; of LockStopped the key of an author
}

// A LockFile is a lock that is in the directory.
type LockFile struct {
	Lock
	Operator bool      // made, touched or edited by an operator: Sluice leaves it alone
	Since    time.Time // modification time of the file
	Epoch    int64     // the epoch of the domain, as in Reset, when Sluice made the file
	Content  string
}

// A Usage is the content of a domain's usage file.
type Usage struct {
	Domain  string // lower-case A-label
	Content string // "15/20 (75%)", as in a lock file
	Epoch   int64  // the epoch of the domain, as in Reset
}

// A LockDir is the email_send_limits directory.
type LockDir interface {
	// Make makes a lock file of Sluice's unless there is one of that name.
	Make(l Lock, content string, epoch int64) error
	// MakeOperator makes a lock file that Sluice leaves alone.
	MakeOperator(l Lock, content string) error
	// Unmake removes a lock file if Sluice made it and nobody touched it.
	Unmake(l Lock) error
	// Remove removes a lock file whoever made it. No LockEvent follows.
	Remove(l Lock) error
	// Files lists the lock files of a domain, or of all domains for "".
	Files(domain string) []LockFile
	// ShowUsage writes these usage files, the most important first, and removes all
	// others that Sluice made. Errors come as a LockTrouble.
	ShowUsage(files []Usage)
	// Failure is why lock files cannot be made or removed now; nil if they can.
	Failure() error
}

// A LockEventKind is what has happened in the lock directory without Sluice.
type LockEventKind int

// The kinds of LockEvent.
const (
	LockRemovedByHand LockEventKind = iota // an operator removed a lock or usage file: release and reset the domain
	LockMade                               // an operator made a lock file
	LockTakenOver                          // an operator touched or edited a file of Sluice's, which now is the operator's
	LockDirLost                            // the directory is missing or another one: our locks were made anew
	LockTrouble                            // a lock or usage file could not be made, removed or read: Err
	LockDirMended                          // nothing is in trouble any more
	LockDirShared                          // cPanel's own limiter uses the directory too: Err
	LockIgnored                            // files are named nearly like locks, and have no effect: Err
)

// A LockEvent is something that has happened in the lock directory without Sluice.
type LockEvent struct {
	Kind LockEventKind
	File LockFile // as last seen; the zero value if it is about the whole directory
	Err  error
}

// A Queue is Exim's.
type Queue interface {
	// Deliver has Exim try the messages now, one after the other, and returns when it
	// has, or when ctx is done: a delivery that has begun then goes on. Messages that
	// are not in the queue are no error.
	Deliver(ctx context.Context, ids []string) error
}
