package mainlog

import (
	"context"
	"errors"
	"os"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
)

// turn goes through the files of the log, for they have changed: what was not read
// of the rotated ones is read, and the present one is opened where reading of it
// ended. It reports false if they have changed again.
func (f *Follower) turn(ctx context.Context, files []file) (done bool, err error) {
	if f.moved(files) {
		wait(ctx, f.linger)
	}
	unread, err := f.openUnread(ctx, files)
	if unread == nil {
		return false, err
	}
	last := len(unread) - 1
	for i, s := range unread[:last] {
		if err := f.readWhole(ctx, s); err != nil {
			closeAll(unread[i+1:])
			return false, err
		}
	}
	f.close()
	f.current, f.seen = unread[last], files
	f.show(f.current.name, f.current.offset, f.current.unread())
	return true, nil
}

// moved tells whether the file that is read is no longer the present one.
func (f *Follower) moved(files []file) bool {
	return f.current != nil && !os.SameFile(f.current.info, files[len(files)-1].info)
}

// openUnread opens the present file, and before it those of which something was
// not read. It returns none if they have changed meanwhile.
func (f *Follower) openUnread(ctx context.Context, files []file) (unread []*source, err error) {
	all, err := f.open(files)
	if all == nil {
		return nil, err
	}
	if f.moved(files) && !f.current.saidBy(all) { // it was removed
		err = f.readWhole(ctx, f.current)
		f.current = nil
	}
	if err == nil {
		err = f.know(all)
	}
	if err != nil {
		closeAll(all)
		return nil, err
	}
	all = withoutCopies(all)
	present := all[len(all)-1]
	for _, s := range all {
		s.key, s.offset = f.position.of(s)
		if s != present && s.unread() == 0 {
			f.position.end(s.key)
			s.close()
		} else if err := s.skipTo(s.offset); err != nil {
			f.skip(s.name, err)
			s.close()
		} else {
			unread = append(unread, s)
		}
	}
	return unread, nil
}

// open opens files of the log. Of those that were rotated it leaves out what cannot
// be opened, and tells of it; but not of what is being compressed.
func (f *Follower) open(files []file) (all []*source, err error) {
	failed := map[string]error{}
	for _, file := range files {
		s, err := open(file.name)
		if err != nil {
			failed[file.name] = err
			continue
		}
		all = append(all, s)
	}
	now, there, err := f.files.list(f.path())
	if err != nil || !there || !sameFiles(files, now) {
		closeAll(all)
		return nil, err
	}
	if err := failed[files[len(files)-1].name]; err != nil {
		closeAll(all)
		return nil, err
	}
	for name, err := range failed {
		plain := strings.TrimSuffix(name, ".gz")
		if plain == name || !slices.ContainsFunc(files, func(o file) bool { return o.name == plain }) {
			f.skip(name, err)
		}
	}
	return all, nil
}

// know has the position be one in these files. At the first start, those that
// were rotated are taken as read.
func (f *Follower) know(files []*source) error {
	if f.position.Read != nil {
		if !f.position.keep(files) {
			f.lost()
			f.options.Events.Emit(event.Event{Kind: event.LogLost, Attrs: event.Attrs("file", f.options.Path)})
		}
		return nil
	}
	f.position.Read = map[uint64]int64{}
	for _, s := range files[:len(files)-1] {
		if n := s.length(); n > 0 {
			f.position.Read[beginning(s.head, n)] = n
		}
	}
	return f.keep()
}

// withoutCopies closes the files that say nothing that others do not, but the
// present one. A log that is copied and truncated has two names for a while, and so
// has one that is compressed: the copy is in the making.
func withoutCopies(files []*source) (kept []*source) {
	for i, s := range files {
		if i < len(files)-1 && repeated(files, i) {
			s.close()
		} else {
			kept = append(kept, s)
		}
	}
	return kept
}

// repeated tells whether one of files says nothing that others do not: of two that
// say the same, the first.
func repeated(files []*source, i int) bool {
	s := files[i]
	for j, o := range files {
		if j != i && s.repeats(o) && (j > i || !o.repeats(s)) {
			return true
		}
	}
	return false
}

// readWhole reads a file that was rotated to its end, takes its last line even if
// that has none, and closes it. What cannot be read of it is left out.
func (f *Follower) readWhole(ctx context.Context, s *source) error {
	defer s.close()
	err := f.drain(ctx, s)
	for err == nil && len(s.block) > 0 && s.fresh(f.linger) && ctx.Err() == nil {
		wait(ctx, f.linger)
		err = f.drain(ctx, s)
	}
	var unreadable *readError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errTruncated):
		return nil // what it says now is found at the next look
	case errors.As(err, &unreadable):
		f.skip(s.name, unreadable)
		return nil
	case err != nil:
		return err
	}
	return f.finish(ctx, s)
}

// wait waits, or until ctx is done.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// skip tells of a rotated file that cannot be read.
func (f *Follower) skip(name string, err error) {
	f.lost()
	f.options.Events.Emit(event.Event{Kind: event.LogSkipped, Attrs: event.Attrs("file", name), Err: err})
}

func (f *Follower) lost() {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress.Lost = &now
}
