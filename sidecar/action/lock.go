package action

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// ErrBusy: somebody else is about it just now.
var ErrBusy = errors.New("somebody else is doing it just now")

// ofdSetLock is F_OFD_SETLK of fcntl(2): a lock of an open file, and not of a process.
const ofdSetLock = 37

// Begin keeps others from beginning any of the same, until end is called or this program has ended.
// It does not wait. What is begun is a byte of one file, by the hash of its name.
func (l *Log) Begin(names ...string) (end func(), err error) {
	f, err := l.begin(names...)
	if err != nil {
		return nil, err
	}
	return func() { unlock(f) }, nil
}

// unlock ends the lock of a file also where a program that was started just now has the file
// open: each has all files of this one until it begins to run.
func unlock(f *os.File) {
	syscall.FcntlFlock(f.Fd(), ofdSetLock, &syscall.Flock_t{Type: syscall.F_UNLCK})
	f.Close()
}

// begin returns the file that has the lock, for unlock.
func (l *Log) begin(names ...string) (*os.File, error) {
	dir := filepath.Dir(l.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("begin %q: %w", names, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "under-way"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin %q: %w", names, err)
	}
	for _, name := range names {
		sum := sha256.Sum256([]byte(name))
		lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: int64(binary.BigEndian.Uint64(sum[:]) >> 2), Len: 1}
		if err := syscall.FcntlFlock(f.Fd(), ofdSetLock, &lock); err != nil {
			unlock(f)
			if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
				err = ErrBusy
			}
			return nil, fmt.Errorf("begin %s: %w", name, err)
		}
	}
	return f, nil
}

// lookAgain is how often Await tries.
const lookAgain = 100 * time.Millisecond

// Await is Begin that waits until others have ended. waits is called once if it has to. Programs
// that are started meanwhile inherit the lock: if this one is killed, they go on.
func (l *Log) Await(ctx context.Context, name string, waits func()) (end func(), err error) {
	for {
		f, err := l.begin(name)
		if err == nil {
			letInherit(f)
			return func() { unlock(f) }, nil
		}
		if !errors.Is(err, ErrBusy) {
			return nil, err
		}
		if waits != nil {
			waits()
			waits = nil
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for others to end %s: %w", name, ctx.Err())
		case <-time.After(lookAgain):
		}
	}
}

// letInherit has programs that are started from now on inherit the lock of a file.
func letInherit(f *os.File) {
	syscall.Syscall(syscall.SYS_FCNTL, f.Fd(), syscall.F_SETFD, 0) // cannot fail: the file is open
}
