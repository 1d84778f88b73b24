package mainlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/logline"
)

// A batch is some lines of a source, parsed.
type batch struct {
	entries []logline.Entry
	record  func(context.Context, time.Time) // as Consumer.Prepare returned it
	key     uint64                           // identifies the source in the position from now on
	read    int64                            // bytes of the source up to the end of the batch
	left    int64                            // bytes still unread
}

// A readError says that a source cannot be read, and why.
type readError struct {
	name string
	err  error
}

func (e *readError) Error() string { return fmt.Sprintf("read %s: %v", e.name, e.err) }
func (e *readError) Unwrap() error { return e.err }

// drain reads a source to its present end. While one batch is recorded, the next is
// parsed, to use two processors when there is a long log to catch up with.
func (f *Follower) drain(ctx context.Context, s *source) error {
	if unread := s.unread(); unread > longCatchUp {
		f.options.Events.Emit(event.Event{Kind: event.LogCatchingUp, Attrs: event.Attrs("file", s.name, "bytes", unread)})
		defer f.options.Events.Emit(event.Event{Kind: event.LogCaughtUp, Attrs: event.Attrs("file", s.name)})
	}
	parsing, stop := context.WithCancel(ctx)
	defer stop()
	parsed, used := make(chan *batch, 1), make(chan *batch, 3)
	var parser sync.WaitGroup
	var readErr, keepErr error
	parser.Go(func() {
		defer close(parsed)
		readErr = f.parse(parsing, s, parsed, used)
	})
	for b := range parsed {
		if ctx.Err() != nil {
			continue // the next start reads it again
		}
		f.record(ctx, b)
		if keepErr == nil {
			if keepErr = f.checkpoint(s, b); keepErr != nil {
				stop() // what is parsed already is still recorded, because it is not read again
			}
		}
		used <- b
	}
	parser.Wait()
	return errors.Join(keepErr, readErr)
}

// parse sends the batches of a source, up to its present end. It reuses those from used.
func (f *Follower) parse(ctx context.Context, s *source, parsed chan<- *batch, used <-chan *batch) error {
	for ctx.Err() == nil {
		lines, err := s.lines()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return &readError{s.name, err}
		}
		b := &batch{}
		select {
		case b = <-used:
		default:
		}
		f.prepare(b, lines)
		b.key, b.read, b.left = hashOfFirst(s.firstBytes, s.offset), s.offset, s.unread()
		parsed <- b
	}
	return nil
}

// parseLines appends the entries that whole lines make.
func parseLines(parser LineParser, entries []logline.Entry, lines string) []logline.Entry {
	now := time.Now()
	for lines != "" {
		end := strings.IndexByte(lines, '\n')
		if end < 0 {
			end = len(lines)
		}
		n := len(entries)
		entries = slices.Grow(entries, 1)[:n+1]
		if !parser.Parse(now, lines[:min(end, maxLine)], &entries[n]) {
			entries = entries[:n]
		}
		lines = lines[min(end+1, len(lines)):]
	}
	return entries
}

// finish records the last line of a file that will not be written to any more, even if it
// has no line end, and notes that reading did not stop within this file.
func (f *Follower) finish(ctx context.Context, s *source) error {
	if rest := s.rest(); rest != "" {
		var b batch
		f.prepare(&b, rest)
		f.record(ctx, &b)
	}
	if s.offset > 0 {
		key := hashOfFirst(s.firstBytes, s.offset)
		f.position.set(s.key, key, s.offset)
		f.position.end(key)
	}
	return f.savePosition()
}

// prepare parses lines into b and has the consumer prepare them.
func (f *Follower) prepare(b *batch, lines string) {
	b.entries = parseLines(f.options.Parser, b.entries[:0], lines)
	b.record = f.options.Consumer.Prepare(b.entries)
}

func (f *Follower) record(ctx context.Context, b *batch) {
	if len(b.entries) == 0 {
		return
	}
	b.record(ctx, time.Now())
	f.mu.Lock()
	f.progress.Last = b.entries[len(b.entries)-1].At
	f.mu.Unlock()
}

func (f *Follower) checkpoint(s *source, b *batch) error {
	f.position.set(s.key, b.key, b.read)
	s.key = b.key
	f.setProgress(s.name, b.read, b.left)
	return f.savePosition()
}

// savePosition has the consumer store the position.
func (f *Follower) savePosition() error {
	position, err := json.Marshal(f.position)
	if err != nil {
		return err
	}
	return f.options.Consumer.Checkpoint(time.Now(), position)
}
