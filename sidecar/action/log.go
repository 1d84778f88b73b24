package action

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// A Log is the record of the actions of this node. Several programs may use it at once: each
// line is written under a lock of the file.
type Log struct {
	path string
}

// A line is one line of the file: an action that begins, or the end of one.
type line struct {
	Before string  `json:"before"` // Sum of the line before it; empty in the first
	Will   *Action `json:"will,omitempty"`
	Number int     `json:"number,omitempty"` // the action that ended
	Did    *Did    `json:"did,omitempty"`
	Sum    string  `json:"sum"` // sha256 of this line with an empty Sum
}

// sum returns what Sum should be.
func (l line) sum() string {
	l.Sum = ""
	b, _ := json.Marshal(l) // of texts, numbers and what is JSON already
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Open returns the record in a directory, which is made with mode 0700 when the first action
// is written. A directory that others than its owner may write is an error: its lines could be
// anybody's.
func Open(dir string) (*Log, error) {
	info, err := os.Lstat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("open the record of actions: %w", err)
	case !info.IsDir():
		return nil, fmt.Errorf("open the record of actions: %s is no directory", dir)
	case !ours(info) && os.Geteuid() != 0:
		return nil, fmt.Errorf("open the record of actions %s: only root may read it. Try: sudo sluice ...", dir)
	case info.Mode().Perm()&0o022 != 0 || !ours(info):
		return nil, fmt.Errorf("open the record of actions: others may write to %s; it must be root's, of mode 0700", dir)
	}
	return &Log{filepath.Join(dir, "actions")}, nil
}

// ours reports whether a file belongs to the user that this program runs as.
func ours(info fs.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(stat.Uid) == os.Geteuid()
}

// Will records an action that is about to be done, and returns its number. It is on disk when
// Will returns. values are the verb's own; nil is none.
func (l *Log) Will(a Action, values any) (number int, err error) {
	if a.Values, err = encode(values); err != nil {
		return 0, fmt.Errorf("record action %s: %w", a.Verb, err)
	}
	a.Did = nil
	err = l.locked(func(f *os.File) error {
		last, actions, err := read(f)
		if err != nil {
			return err
		}
		a.Number = 1
		if n := len(actions); n > 0 {
			a.Number = actions[n-1].Number + 1
		}
		return write(f, line{Before: last, Will: &a})
	})
	if err != nil {
		return 0, fmt.Errorf("record action %s: %w", a.Verb, err)
	}
	return a.Number, nil
}

// Did records how an action ended. It is on disk when Did returns. values are what takes it
// back, nil is nothing; failure is nil if all of it was done.
func (l *Log) Did(now time.Time, number int, values any, failure error) error {
	did := Did{At: now}
	if failure != nil {
		did.Failed = failure.Error()
	}
	var err error
	if did.Values, err = encode(values); err == nil {
		err = l.locked(func(f *os.File) error {
			last, actions, err := read(f)
			if err != nil {
				return err
			}
			if i := index(actions, number); i < 0 || actions[i].Did != nil {
				return fmt.Errorf("no action of this number is under way")
			}
			return write(f, line{Before: last, Number: number, Did: &did})
		})
	}
	if err != nil {
		return fmt.Errorf("record the end of action %d: %w", number, err)
	}
	return nil
}

// Actions are all that were recorded, the first first. A line that was altered is an error,
// and then no action is returned.
func (l *Log) Actions() (actions []Action, err error) {
	f, err := os.Open(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err == nil {
		defer f.Close()
		_, actions, err = read(f)
	}
	if err != nil {
		return nil, fmt.Errorf("read the record of actions: %w", err)
	}
	return actions, nil
}

// Find returns an action by its number, with the steps of it if it has some, or ErrNotFound.
func (l *Log) Find(number int) (a Action, parts []Action, err error) {
	actions, err := l.Actions()
	if err != nil {
		return a, nil, err
	}
	i := index(actions, number)
	if i < 0 {
		return a, nil, fmt.Errorf("action %d: %w", number, ErrNotFound)
	}
	for _, p := range actions {
		if p.Part == number {
			parts = append(parts, p)
		}
	}
	return actions[i], parts, nil
}

// UndoneBy is the number of the action that has taken another one back; 0 if none has.
func UndoneBy(actions []Action, number int) int {
	for _, a := range slices.Backward(actions) {
		if a.Undoes == number && a.Did != nil && a.Did.Failed == "" {
			return a.Number
		}
	}
	return 0
}

func index(actions []Action, number int) int {
	return slices.IndexFunc(actions, func(a Action) bool { return a.Number == number })
}

func encode(values any) (json.RawMessage, error) {
	if values == nil {
		return nil, nil
	}
	return json.Marshal(values)
}

// locked calls do with the file open for reading and writing, while no other program writes.
func (l *Log) locked(do func(*os.File) error) error {
	if err := os.MkdirAll(filepath.Dir(l.path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|os.O_CREATE|os.O_APPEND|syscall.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return fmt.Errorf("lock %s: %w", l.path, err)
	}
	return do(f)
}

// write appends a line and waits until it is on disk.
func write(f *os.File, l line) error {
	// The sum is of what will be read again: JSON writes what is no UTF-8 as another character.
	b, err := json.Marshal(l)
	if err == nil {
		l = line{}
		err = json.Unmarshal(b, &l)
	}
	if err != nil {
		return err
	}
	l.Sum = l.sum()
	b, err = json.Marshal(l)
	if err != nil {
		return err
	}
	if _, err = f.Write(append(b, '\n')); err != nil {
		return err
	}
	return f.Sync()
}

// read returns the actions in a file, and the Sum of its last line. What a crash left of a
// line that was never whole is cut off where the file may be written.
func read(f *os.File) (last string, actions []Action, err error) {
	if _, err = f.Seek(0, io.SeekStart); err != nil {
		return "", nil, err
	}
	in, offset := bufio.NewReader(f), int64(0)
	for n := 1; ; n++ {
		text, err := in.ReadBytes('\n')
		switch {
		case errors.Is(err, io.EOF):
			if len(text) > 0 {
				f.Truncate(offset) // fails where it is only read, and matters only where it is written
			}
			return last, actions, nil
		case err != nil:
			return "", nil, err
		}
		offset += int64(len(text))
		text = bytes.TrimSuffix(text, []byte("\n"))
		var l line
		if err := json.Unmarshal(text, &l); err != nil || l.Before != last || l.Sum != l.sum() {
			return "", nil, fmt.Errorf("%s line %d was altered: nothing in the file can be trusted, and nothing is taken back by it", f.Name(), n)
		}
		last = l.Sum
		if l.Will != nil {
			actions = append(actions, *l.Will)
		} else if i := index(actions, l.Number); i >= 0 {
			actions[i].Did = l.Did
		}
	}
}
