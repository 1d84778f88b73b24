package follow

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"sync/atomic"
)

// followed is a value that files hold and that is read again when one of them
// changes. It may be used by many goroutines; refresh by one at a time.
type Value[T any] struct {
	Paths  []string
	parse  func(texts [][]byte) T // one text for each path; nil for a missing file
	stamps []Stamp                // as they were read; nil before the first time
	seen   []Stamp                // at the last refresh
	value  atomic.Pointer[T]
}

func New[T any](paths []string, parse func(texts [][]byte) T) *Value[T] {
	f := &Value[T]{Paths: paths, parse: parse}
	none := parse(make([][]byte, len(paths)))
	f.value.Store(&none)
	return f
}

func (f *Value[T]) Get() *T { return f.value.Load() }

// refresh reads the files again if one has changed and then stood still until
// the next refresh: one that is rewritten in place is empty for a moment, and
// then every domain would be remote and nobody's. If one cannot be read, the
// value stays as it was read last; a file that is not there is empty.
func (f *Value[T]) Refresh() error {
	stamps := f.stat()
	settled := f.stamps == nil || slices.Equal(stamps, f.seen)
	f.seen = stamps
	if slices.Equal(stamps, f.stamps) || !settled {
		return nil
	}
	texts := make([][]byte, len(f.Paths))
	for i, path := range f.Paths {
		text, err := os.ReadFile(path)
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

func (f *Value[T]) stat() []Stamp {
	stamps := make([]Stamp, len(f.Paths))
	for i, path := range f.Paths {
		if info, err := os.Stat(path); err == nil {
			stamps[i] = StampOf(info)
		}
	}
	return stamps
}
