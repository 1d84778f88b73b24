// Package journal makes a ratelimit.Ledger survive a crash.
//
// Every change is written to a segment file before the call that made it
// returns, so that it survives kill -9. Once a second the segment is synced,
// which is what a power cut may cost. When the segments since the last snapshot
// have grown too long the Ledger is written anew as a snapshot, and the older
// files go.
//
// With the counts the Store keeps notes: small values of others that must
// survive with them.
//
// If the disk fails the answers go on. The Store says so, and as soon as the
// disk can be written again makes up for it with a fresh snapshot.
package journal

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"sluice/ratelimit"
)

// A Reporter is told what an operator should know.
type Reporter interface {
	// JournalCut: the last write before a crash was incomplete; nobody was
	// given an answer that rested on it.
	JournalCut(file string, at, bytes int64)
	// JournalDamaged: bytes of a file are not what was written; what they
	// held is lost, all else is there.
	JournalDamaged(file string, at, bytes int64, reason error)
	// JournalFailed: from now on answers do not survive a crash.
	JournalFailed(err error)
	// JournalMended: they do again, those given meanwhile included.
	JournalMended()
}

// nobody is a Reporter for a Store that is opened without one.
type nobody struct{}

func (nobody) JournalCut(string, int64, int64)            {}
func (nobody) JournalDamaged(string, int64, int64, error) {}
func (nobody) JournalFailed(error)                        {}
func (nobody) JournalMended()                             {}

// Options are what a Store is opened with.
type Options struct {
	Ledger   ratelimit.Options // Record is set by Open
	Reporter Reporter          // nil: nobody is told
	// MinTail is how long the segments since the last snapshot may at least
	// become, in bytes. 0 is 16 MiB.
	MinTail int64
}

// A Store is a Ledger and its notes, kept in a directory. Its methods may be
// called concurrently.
type Store struct {
	ledger  *ratelimit.Ledger
	dir     string
	lock    *os.File
	options Options

	notes notes

	mu      sync.Mutex // guards segment and what it points to
	segment *segment
	failure atomic.Pointer[error] // why answers would not survive a crash; nil if they would

	saving   sync.Mutex // held by the one snapshot at a time
	snapshot int64      // size of the last one
	retry    int        // seconds to wait until a failed one is tried again
	waited   int
	damaged  []string // files to be kept for a closer look
}

// Open reads back what the directory holds, or begins anew in an empty one,
// which is made if need be. Another process that has it open is an error.
func Open(dir string, o Options) (*Store, error) {
	if o.MinTail == 0 {
		o.MinTail = 16 << 20
	}
	o.Reporter = cmp.Or[Reporter](o.Reporter, nobody{})
	s := &Store{dir: dir, options: o}
	s.options.Ledger.Record = s.record
	s.segment = &segment{dead: true} // what is recorded before load is done is not lost: load reads it
	s.ledger = ratelimit.NewLedger(s.options.Ledger)
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		s.lock.Close()
		return nil, fmt.Errorf("read the ledger in %s: %w", dir, err)
	}
	return s, nil
}

// acquire makes sure that this process alone has the directory.
func (s *Store) acquire() error {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of the ledger (store.dir): %w", err)
	}
	lock, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("open the ledger (store.dir): %w", err)
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return fmt.Errorf("lock the ledger in %s: %w: another sluice has it; stop that one or set another store.dir", s.dir, err)
	}
	s.lock = lock
	return nil
}

// Run syncs, sweeps and snapshots until ctx is done.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.ledger.Sweep()
			s.tend()
		}
	}
}

// tend syncs the segment, and writes a snapshot if the segments have grown
// too long or failed.
func (s *Store) tend() {
	s.mu.Lock()
	n, file, size, dead, tail := s.segment.n, s.segment.file, s.segment.size, s.segment.dead, s.segment.before+s.segment.size
	s.mu.Unlock()
	if !dead {
		err := s.sync(file)
		s.mu.Lock()
		if s.segment.n == n {
			if err == nil {
				err = s.segment.relieve(size)
			}
			if err != nil {
				s.bury(err)
			}
		}
		s.mu.Unlock()
	}
	if s.Failure() == nil && tail <= s.maxTail() {
		return
	}
	if s.waited++; s.waited < s.retry {
		return
	}
	s.waited = 0
	if err := s.Save(); err != nil {
		s.retry = min(60, 2*s.retry+1)
		s.fail(err)
		return
	}
	s.retry = 0
}

// maxTail is how long the segments since the last snapshot may become. A quarter
// of that snapshot keeps the cost of writing snapshots a small multiple of that
// of writing segments.
func (s *Store) maxTail() int64 {
	return min(max(s.options.MinTail, s.snapshot/4), segmentSpan/2)
}

// bury gives up the segment. mu is held.
func (s *Store) bury(err error) {
	s.segment.dead = true
	s.fail(err)
}

// fail begins a time in which answers may not survive a crash.
func (s *Store) fail(err error) {
	if s.failure.Swap(&err) == nil {
		s.options.Reporter.JournalFailed(err)
	}
}

// sync brings the segment to the disk, and notices if it was taken away.
func (s *Store) sync(file *os.File) error {
	if err := file.Sync(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("sync the journal %s: %w", file.Name(), err)
	}
	named, err := os.Stat(file.Name())
	if err != nil {
		return fmt.Errorf("find the journal again: %w", err)
	}
	if open, err := file.Stat(); err == nil && !os.SameFile(open, named) {
		return fmt.Errorf("find the journal again: %s is another file now", file.Name())
	}
	return nil
}

// Close writes a last snapshot. No call may be under way any more.
func (s *Store) Close() error {
	err := s.Save()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segment.file != nil {
		err = errors.Join(err, s.segment.close())
	}
	return errors.Join(err, s.lock.Close())
}

// Failure tells why answers would not survive a crash now; nil if they would.
func (s *Store) Failure() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Take is Ledger.Take; when it returns, the charge survives a crash.
func (s *Store) Take(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return s.ledger.Take(now, t), nil
}

// Look is Ledger.Look. What it counts as refused survives a crash.
func (s *Store) Look(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return s.ledger.Look(now, t), nil
}

// Known is Ledger.Known.
func (s *Store) Known(now time.Time, token ratelimit.Token) bool { return s.ledger.Known(now, token) }

// KeepFor is Ledger.KeepFor; it survives a crash.
func (s *Store) KeepFor(now time.Time, longest time.Duration) { s.ledger.KeepFor(now, longest) }

// Horizon is Ledger.Horizon.
func (s *Store) Horizon(now time.Time) time.Time { return s.ledger.Horizon(now) }

// Settle is Ledger.Settle; when it returns, outcomes and charges survive a crash.
func (s *Store) Settle(_ context.Context, now time.Time, reports []ratelimit.Report) error {
	s.ledger.Settle(now, reports)
	return nil
}

// Uncharge is Ledger.Uncharge; when it returns, it survives a crash.
func (s *Store) Uncharge(_ context.Context, now time.Time, tokens []ratelimit.Token) error {
	s.ledger.Uncharge(now, tokens)
	return nil
}

// Reset is Ledger.Reset; when it returns, it survives a crash.
func (s *Store) Reset(_ context.Context, now time.Time, subject string, seen int64) (int64, error) {
	return s.ledger.Reset(now, subject, seen), nil
}

// Standing is Ledger.Standing.
func (s *Store) Standing(now time.Time, subject string) ratelimit.Standing {
	return s.ledger.Standing(now, subject)
}

// Standings is Ledger.Standings.
func (s *Store) Standings(now time.Time, f func(ratelimit.Standing) bool) {
	s.ledger.Standings(now, f)
}

// Size is Ledger.Size.
func (s *Store) Size() (subjects, sends, uncounted int64) { return s.ledger.Size() }
