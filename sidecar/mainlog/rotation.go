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

// handleRotation goes through the files of the log after they have changed: it reads what
// was not read of the rotated ones, and opens the present one where reading stopped. It
// reports false if they have changed again meanwhile.
func (f *Follower) handleRotation(ctx context.Context, files []file) (done bool, err error) {
	if f.rotated(files) {
		sleep(ctx, f.linger)
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
	f.setProgress(f.current.name, f.current.offset, f.current.unread())
	return true, nil
}

// rotated reports whether the file that is being read is no longer the present one.
func (f *Follower) rotated(files []file) bool {
	return f.current != nil && !os.SameFile(f.current.info, files[len(files)-1].info)
}

// openUnread opens the present file, and before it those that are not read to their end.
// It returns none if they have changed meanwhile.
func (f *Follower) openUnread(ctx context.Context, files []file) (unread []*source, err error) {
	all, err := f.open(files)
	if all == nil {
		return nil, err
	}
	if f.rotated(files) && !f.current.containedIn(all) { // it was removed, and no other file has it
		err = f.readWhole(ctx, f.current)
		f.current = nil
	}
	if err == nil {
		err = f.prunePosition(all)
	}
	if err != nil {
		closeAll(all)
		return nil, err
	}
	all = withoutCopies(all)
	present := all[len(all)-1]
	for _, s := range all {
		s.key, s.offset = f.position.find(s)
		if s != present && s.unread() == 0 {
			f.position.end(s.key)
			s.close()
		} else if err := s.skipTo(s.offset); err != nil {
			f.reportSkipped(s.name, err)
			s.close()
		} else {
			unread = append(unread, s)
		}
	}
	return unread, nil
}

// open opens the files of the log. It leaves out rotated files that cannot be opened, and
// reports them, unless they are just being compressed.
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
			f.reportSkipped(name, err)
		}
	}
	return all, nil
}

// prunePosition limits the position to these files. At the first start, rotated files
// count as read.
func (f *Follower) prunePosition(files []*source) error {
	if f.position.Read != nil {
		if !f.position.prune(files) {
			f.noteLost()
			f.options.Events.Emit(event.Event{Kind: event.LogLost, Attrs: event.Attrs("file", f.options.Path)})
		}
		return nil
	}
	f.position.Read = map[uint64]int64{}
	for _, s := range files[:len(files)-1] {
		if n := s.length(); n > 0 {
			f.position.Read[hashOfFirst(s.firstBytes, n)] = n
		}
	}
	return f.savePosition()
}

// withoutCopies closes the files that are copies of others, except the present one. A log
// that is copied and truncated has two names for a while, and so has one that is being
// compressed.
func withoutCopies(files []*source) (kept []*source) {
	for i, s := range files {
		if i < len(files)-1 && isDuplicate(files, i) {
			s.close()
		} else {
			kept = append(kept, s)
		}
	}
	return kept
}

// isDuplicate reports whether another file has all that file i has. Of two with the same
// content only the first is a duplicate, so that the other one is kept.
func isDuplicate(files []*source, i int) bool {
	s := files[i]
	for j, o := range files {
		if j != i && s.duplicates(o) && (j > i || !o.duplicates(s)) {
			return true
		}
	}
	return false
}

// readWhole reads a rotated file to its end, with its last line even if that has no line
// end, and closes it. What cannot be read is left out.
func (f *Follower) readWhole(ctx context.Context, s *source) error {
	defer s.close()
	err := f.drain(ctx, s)
	for err == nil && len(s.buf) > 0 && s.writtenWithin(f.linger) && ctx.Err() == nil {
		sleep(ctx, f.linger)
		err = f.drain(ctx, s)
	}
	var unreadable *readError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, errTruncated):
		return nil // its new content is found at the next step
	case errors.As(err, &unreadable):
		f.reportSkipped(s.name, unreadable)
		return nil
	case err != nil:
		return err
	}
	return f.finish(ctx, s)
}

// sleep sleeps, but not longer than until ctx is done.
func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// reportSkipped reports a rotated file that cannot be read.
func (f *Follower) reportSkipped(name string, err error) {
	f.noteLost()
	f.options.Events.Emit(event.Event{Kind: event.LogSkipped, Attrs: event.Attrs("file", name), Err: err})
}

// noteLost notes that a part of the log is lost.
func (f *Follower) noteLost() {
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress.Lost = &now
}
