package mainlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"sluice/sidecar/event"
	"sluice/sidecar/logline"
)

// A Consumer records what the log says.
type Consumer interface {
	// Prepare does what can be done with entries while those before them are still being
	// recorded; record does the rest. Batches are prepared and recorded in order, and may
	// come again after a crash. The strings of entries are parts of one large string.
	Prepare(entries []logline.Entry) (record func(ctx context.Context, now time.Time))
	// Checkpoint stores a position up to which everything is recorded. It is called by
	// the goroutine that records.
	Checkpoint(now time.Time, position []byte) error
}

// A LineParser parses the lines of a log, in order and without their line ends. It
// overwrites e with what a line says. It reports false for a line of which a logline.Entry has
// nothing.
type LineParser interface {
	Parse(now time.Time, line string, e *logline.Entry) (ok bool)
}

// Options are what New needs.
type Options struct {
	Key      string // of the configuration, under which the log's path is set
	Path     string // %D is the date as 20061102, %M the month as 200611 (Exim's log_file_path)
	Position []byte // of the last Checkpoint; with nil only the present file is read, from its beginning
	Location *time.Location
	Parser   LineParser // nil for Exim's log
	Consumer Consumer
	Events   event.Sink
}

// A Follower reads a main log as it is written, across rotations by rename and by
// copytruncate, truncations and restarts. There is one rule: at the start, and whenever
// the files of the log have changed, it reads each of them on from where it stopped, the
// oldest first; a file that it never saw, from the beginning. For that it identifies each
// file by its first bytes.
type Follower struct {
	options  Options
	files    family
	linger   time.Duration
	position *position // nil before the first step
	seen     []file    // at the last rotation
	current  *source   // the present file, or one that was until just now; nil if none is open
	troubled bool

	mu       sync.Mutex
	progress logline.Progress
}

const (
	pollEvery = time.Second
	// gather is how long lines accumulate before they are read: an MTA writes several for a
	// message, and to wake up for each costs more than to read them.
	gather = 20 * time.Millisecond
	// linger is how long a rotated file is still read: a process that has it open may be
	// about to write a line.
	linger = 300 * time.Millisecond
	// longCatchUp is how much unread log is reported to operators, in bytes.
	longCatchUp = 16 << 20
)

// New returns a Follower.
func New(o Options) *Follower {
	if o.Parser == nil {
		o.Parser = NewParser(o.Location)
	}
	return &Follower{options: o, files: newFamily(o.Path), linger: linger, progress: logline.Progress{Key: o.Key, File: o.Path}}
}

// Progress returns how far the log is read.
func (f *Follower) Progress() logline.Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.progress
}

// Run follows the log until ctx is done. If the log cannot be read, it reports that once
// and tries again.
func (f *Follower) Run(ctx context.Context) error {
	wake := make(chan struct{}, 1)
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		var forwarding sync.WaitGroup
		forwarding.Go(func() { forward(watcher, wake) })
		defer forwarding.Wait()
		defer watcher.Close()
	}
	watched := ""
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		if dir := filepath.Dir(f.path()); watcher != nil && dir != watched && watcher.Add(dir) == nil {
			watched = dir // without a watch the poll is enough
		}
		f.report(f.step(ctx))
		select {
		case <-ctx.Done():
			f.close()
			return nil
		case <-tick.C:
		case <-wake:
		}
	}
}

// forward signals wake for each event or error of the watcher, until that is closed.
func forward(watcher *fsnotify.Watcher, wake chan<- struct{}) {
	for {
		select {
		case _, open := <-watcher.Events:
			if !open {
				return
			}
		case _, open := <-watcher.Errors:
			if !open {
				return
			}
		}
		select {
		case wake <- struct{}{}:
		default:
		}
		time.Sleep(gather)
	}
}

// path is that of the file that is written now.
func (f *Follower) path() string { return f.files.present(time.Now().In(f.options.Location)) }

// step reads everything that can be read now.
func (f *Follower) step(ctx context.Context) error {
	if f.position == nil {
		if err := f.load(); err != nil {
			return err
		}
	}
	for range 10 {
		files, there, err := f.files.list(f.path())
		if err != nil {
			return err
		}
		switch {
		case !there && f.current == nil:
			return fmt.Errorf("open the log: there is no %s", f.path())
		case there && (f.current == nil || !unchanged(files, f.seen)):
			done, err := f.handleRotation(ctx, files)
			if ctx.Err() != nil {
				return nil
			}
			if err != nil {
				return err
			}
			if !done {
				continue
			}
		}
		if err := f.drain(ctx, f.current); !errors.Is(err, errTruncated) {
			return err
		}
		f.close() // it is another file now
	}
	return errors.New("open the log: it is rotated faster than it can be opened")
}

// load restores where reading stopped before the start.
func (f *Follower) load() error {
	var p position
	if f.options.Position != nil {
		if err := json.Unmarshal(f.options.Position, &p); err != nil {
			return fmt.Errorf("understand the position in the log: %w", err)
		}
	}
	f.position = &p
	return nil
}

// setProgress notes how far a file is read, in bytes.
func (f *Follower) setProgress(name string, read, left int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.progress.File, f.progress.Read, f.progress.Size = name, read, read+left
}

// report reports trouble once, and that it is over.
func (f *Follower) report(err error) {
	f.mu.Lock()
	f.progress.Trouble = ""
	if err != nil {
		f.progress.Trouble = err.Error()
	}
	f.mu.Unlock()
	switch {
	case err != nil && !f.troubled:
		f.options.Events.Emit(event.Event{Kind: event.LogTrouble, Attrs: event.Attrs("file", f.options.Path), Err: err})
	case err == nil && f.troubled:
		f.options.Events.Emit(event.Event{Kind: event.LogMended, Attrs: event.Attrs("file", f.options.Path)})
	}
	f.troubled = err != nil
}

func (f *Follower) close() {
	if f.current != nil {
		f.current.close()
		f.current = nil
	}
}
