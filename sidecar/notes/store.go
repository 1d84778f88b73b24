package notes

import (
	"context"
	"time"
)

// A Store keeps notes: small values that survive a crash together with the counts.
type Store interface {
	Note(key string, value []byte) error
	Forget(key string) error
	// Notes calls f for every key that begins with prefix, in the order of keys.
	Notes(prefix string, f func(key string, value []byte))
}

// A Board has small values that all nodes see within a second. A node without others
// keeps them in its Store.
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
