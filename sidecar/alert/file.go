package alert

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// The directory of a channel has a file for each notice that is not delivered yet, and one that
// says what was told. A name that begins with a dot is of a file that is not whole.
const (
	noticeEnding = ".json"
	recordName   = "told"
)

// writeFile writes a file so that after a crash, of the whole machine too, it is as it was before,
// or whole: the bytes first, then the name.
func writeFile(path string, v any) (err error) {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(dir, "."+name+"-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer os.Remove(f.Name()) // fails once it is renamed
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

// noticePath is the file of a notice.
func noticePath(dir string, number int64) string {
	return filepath.Join(dir, fmt.Sprintf("%012d%s", number, noticeEnding))
}

// readRecord reads what a channel was told. One that is not there, or not whole, is new.
func readRecord(dir string) (r record, known bool, err error) {
	text, err := os.ReadFile(filepath.Join(dir, recordName))
	if errors.Is(err, fs.ErrNotExist) {
		return r, false, nil
	}
	if err == nil {
		err = json.Unmarshal(text, &r)
	}
	return r, err == nil, err
}

// readNotices reads the notices that are not delivered yet, the oldest first. What a crash has
// left half written is removed; what cannot be read is left out, and is an error too.
func readNotices(dir string) (all []*pending, err error) {
	entries, err := os.ReadDir(dir) // sorted by name, and so by number
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		digits, is := strings.CutSuffix(e.Name(), noticeEnding)
		if strings.HasPrefix(e.Name(), ".") {
			err = errors.Join(err, os.Remove(path))
			continue
		}
		number, bad := strconv.ParseInt(digits, 10, 64)
		if !is || bad != nil {
			continue
		}
		p := &pending{number: number}
		text, failed := os.ReadFile(path)
		if failed == nil {
			failed = json.Unmarshal(text, &p.notice)
		}
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("read %s: %w", path, failed))
			continue
		}
		all = append(all, p)
	}
	return all, err
}
