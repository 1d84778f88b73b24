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

// A Reporter gets what an operator should know.
type Reporter interface {
	// JournalCut: a crash has cut short the last write, and what there is of it was
	// removed; the call that made it had not returned.
	JournalCut(file string, at, bytes int64)
	// JournalDamaged: bytes of a file are not what was written. What they held is
	// lost, all else is there.
	JournalDamaged(file string, at, bytes int64, reason error)
	// JournalFailed: from now on changes do not survive a crash.
	JournalFailed(err error)
	// JournalMended: they do again, with those made meanwhile.
	JournalMended()
}

// noReporter is the Reporter of a Store that is opened without one.
type noReporter struct{}

func (noReporter) JournalCut(string, int64, int64)            {}
func (noReporter) JournalDamaged(string, int64, int64, error) {}
func (noReporter) JournalFailed(error)                        {}
func (noReporter) JournalMended()                             {}

// Options are the options of Open.
type Options struct {
	Ledger   ratelimit.Options // Record is set by Open
	Reporter Reporter          // may be nil
	// MinTail is how many bytes of segments there must be since the last snapshot
	// before the next one. 0: 16 MiB.
	MinTail int64
}

// A Store is a Ledger and notes in a directory. Its methods may be called
// concurrently.
type Store struct {
	ledger  *ratelimit.Ledger
	dir     string
	lock    *os.File
	options Options

	notes notes

	mu      sync.Mutex // guards segment and what it points to
	segment *segment
	failure atomic.Pointer[error] // why changes would not survive a crash; nil if they would

	snapshots
	damaged []string // files to be kept for the operator
}

// snapshots is what a Store knows of its snapshots.
type snapshots struct {
	saving   sync.Mutex // held while one is written
	snapshot int64      // size of the last one, bytes
	retry    int        // seconds after which a failed one is tried again
	waited   int        // seconds of them that have passed
}

// Open reads the directory, or makes it. It fails if another process has it open.
func Open(dir string, o Options) (*Store, error) {
	if o.MinTail == 0 {
		o.MinTail = 16 << 20
	}
	o.Reporter = cmp.Or[Reporter](o.Reporter, noReporter{})
	s := &Store{dir: dir, options: o}
	s.options.Ledger.Record = s.record
	s.segment = &segment{failed: true} // so that load records nothing
	s.ledger = ratelimit.NewLedger(s.options.Ledger)
	if err := s.acquire(); err != nil {
		return nil, err
	}
	if err := s.load(); err != nil {
		s.release()
		return nil, fmt.Errorf("read the ledger in %s: %w", dir, err)
	}
	return s, nil
}

// acquire makes the directory and locks it for this process.
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

// release unlocks the directory also where a program that was started just now has the lock's file
// open: each has all files of this one until it begins to run.
func (s *Store) release() error {
	return errors.Join(unix.Flock(int(s.lock.Fd()), unix.LOCK_UN), s.lock.Close())
}

// Run sweeps, syncs and writes snapshots once a second until ctx is done.
func (s *Store) Run(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			s.ledger.Sweep()
			s.tick()
		}
	}
}

// tick syncs the segment, and writes a snapshot if the segments are too long or one
// has failed.
func (s *Store) tick() {
	s.mu.Lock()
	n, file, size, failed, tail := s.segment.n, s.segment.file, s.segment.size, s.segment.failed, s.segment.tailBefore+s.segment.size
	s.mu.Unlock()
	if !failed {
		err := s.syncAndCheck(file)
		s.mu.Lock()
		if s.segment.n == n {
			if err == nil {
				err = s.segment.releasePages(size)
			}
			if err != nil {
				s.abandonSegment(err)
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

// maxTail is how many bytes the segments since the last snapshot may have. With a
// quarter of the size of that snapshot, writing snapshots costs at most a small
// multiple of writing segments.
func (s *Store) maxTail() int64 {
	return min(max(s.options.MinTail, s.snapshot/4), segmentSpan/2)
}

// abandonSegment stops writing to the segment. mu is held.
func (s *Store) abandonSegment(err error) {
	s.segment.failed = true
	s.fail(err)
}

// fail sets Failure, and reports it if there was none.
func (s *Store) fail(err error) {
	if s.failure.Swap(&err) == nil {
		s.options.Reporter.JournalFailed(err)
	}
}

// syncAndCheck syncs the segment, and returns an error if the file was removed or
// replaced.
func (s *Store) syncAndCheck(file *os.File) error {
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

// Close writes a last snapshot. No other call may be under way.
func (s *Store) Close() error {
	err := s.Save()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.segment.file != nil {
		err = errors.Join(err, s.segment.close())
	}
	return errors.Join(err, s.release())
}

// Failure is why changes would not survive a crash now; nil if they would.
func (s *Store) Failure() error {
	if err := s.failure.Load(); err != nil {
		return *err
	}
	return nil
}

// Take is Ledger.Take. When it or another method that changes something returns, the
// change survives a crash.
func (s *Store) Take(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return s.ledger.Take(now, t), nil
}

// Look is Ledger.Look.
func (s *Store) Look(_ context.Context, now time.Time, t ratelimit.Take) (ratelimit.Result, error) {
	return s.ledger.Look(now, t), nil
}

// Known is Ledger.Known.
func (s *Store) Known(now time.Time, token ratelimit.Token) bool { return s.ledger.Known(now, token) }

// KeepFor is Ledger.KeepFor.
func (s *Store) KeepFor(now time.Time, longest time.Duration) { s.ledger.KeepFor(now, longest) }

// Horizon is Ledger.Horizon.
func (s *Store) Horizon(now time.Time) time.Time { return s.ledger.Horizon(now) }

// Settle is Ledger.Settle.
func (s *Store) Settle(_ context.Context, now time.Time, reports []ratelimit.Report) error {
	s.ledger.Settle(now, reports)
	return nil
}

// Uncharge is Ledger.Uncharge.
func (s *Store) Uncharge(_ context.Context, now time.Time, tokens []ratelimit.Token) error {
	s.ledger.Uncharge(now, tokens)
	return nil
}

// Reset is Ledger.Reset.
func (s *Store) Reset(_ context.Context, now time.Time, subject string, seen int64) (int64, error) {
	return s.ledger.Reset(now, subject, seen), nil
}

// Epoch is Ledger.Epoch.
func (s *Store) Epoch(subject string) int64 { return s.ledger.Epoch(subject) }

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

// Charged is Ledger.Charged.
func (s *Store) Charged(now time.Time, tokens []ratelimit.Token) []ratelimit.Send {
	return s.ledger.Charged(now, tokens)
}

// Sends is Ledger.Sends.
func (s *Store) Sends(now time.Time, f func(ratelimit.Send) bool) { s.ledger.Sends(now, f) }

// ResetAsOf is Ledger.ResetAsOf.
func (s *Store) ResetAsOf(now time.Time, subject string, age time.Duration) {
	s.ledger.ResetAsOf(now, subject, age)
}

// Kept is Ledger.Kept.
func (s *Store) Kept(now time.Time, subjects []ratelimit.Subject) (keep, known time.Duration) {
	return s.ledger.Kept(now, subjects)
}
