package follow

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
)

// A Value is parsed from files, or the names in a directory, and again when one of them has changed. Get may be called
// by many goroutines at once; Refresh by one at a time.
type Value[T any] struct {
	Paths  []string
	parse  func(texts [][]byte) T
	stamps []Stamp // of the files that were parsed last; nil before the first time
	seen   []Stamp // at the last refresh
	value  atomic.Pointer[T]
}

// New returns a value for which no file was read yet. parse gets one text for each path;
// nil for a missing file.
func New[T any](paths []string, parse func(texts [][]byte) T) *Value[T] {
	f := &Value[T]{Paths: paths, parse: parse}
	none := parse(make([][]byte, len(paths)))
	f.value.Store(&none)
	return f
}

// Get returns the value as it was parsed last.
func (f *Value[T]) Get() *T { return f.value.Load() }

// Refresh parses the files again if one has changed and then stayed the same until the
// next refresh: a file that is being rewritten is empty for a moment, and then every
// domain would be remote and without an owner. If a file cannot be read, the value stays
// as it was.
func (f *Value[T]) Refresh() error {
	stamps := make([]Stamp, len(f.Paths))
	for i, path := range f.Paths {
		if info, err := os.Stat(path); err == nil {
			stamps[i] = StampOf(info)
		}
	}
	settled := f.stamps == nil || slices.Equal(stamps, f.seen)
	f.seen = stamps
	if slices.Equal(stamps, f.stamps) || !settled {
		return nil
	}
	texts := make([][]byte, len(f.Paths))
	for i, path := range f.Paths {
		text, err := read(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		texts[i] = text
	}
	value := f.parse(texts)
	f.value.Store(&value)
	f.stamps = stamps
	return nil
}

// read is the text of a file; of a directory, the names of what is in it, one a line.
func read(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if !errors.Is(err, syscall.EISDIR) {
		return text, err
	}
	inside, err := os.ReadDir(path)
	for _, one := range inside {
		if !strings.Contains(one.Name(), "\n") { // it would be two
			text = append(append(text, one.Name()...), '\n')
		}
	}
	return text, err
}
