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

// Begin keeps others from beginning the same, until end is called or this program has ended. It
// does not wait. What is begun is a byte of one file, by the hash of its name.
func (l *Log) Begin(name string) (end func(), err error) {
	dir := filepath.Dir(l.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("begin %s: %w", name, err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "under-way"), os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("begin %s: %w", name, err)
	}
	sum := sha256.Sum256([]byte(name))
	lock := syscall.Flock_t{Type: syscall.F_WRLCK, Start: int64(binary.BigEndian.Uint64(sum[:]) >> 2), Len: 1}
	if err := syscall.FcntlFlock(f.Fd(), ofdSetLock, &lock); err != nil {
		f.Close()
		if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.EACCES) {
			err = ErrBusy
		}
		return nil, fmt.Errorf("begin %s: %w", name, err)
	}
	return func() { f.Close() }, nil
}

// lookAgain is how often Await tries.
const lookAgain = 100 * time.Millisecond

// Await is Begin that waits until others have ended. waits is called once if it has to.
func (l *Log) Await(ctx context.Context, name string, waits func()) (end func(), err error) {
	for {
		if end, err = l.Begin(name); !errors.Is(err, ErrBusy) {
			return end, err
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
