package login

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A denied is the file of logins that Dovecot denies. What else is in it stays byte for byte.
type denied struct{ root, path string }

// has reports whether a login is in the file. Without the file there is none in it.
func (d denied) has(name string) (bool, error) {
	lines, err := d.read()
	return slices.Contains(lines, name), err
}

// add adds a login, for Dovecot's user, who alone may read the file beside root.
func (d denied) add(name, reader string) error {
	return d.change("deny "+name, reader, func(lines []string) []string {
		end := len(lines) - 1 // the last line is empty if the file ends with a line end
		switch {
		case slices.Contains(lines, name):
			return lines
		case end < 0:
			return []string{name, ""}
		case lines[end] != "":
			return append(lines, name)
		}
		return slices.Insert(lines, end, name)
	})
}

// remove takes a login out.
func (d denied) remove(name, reader string) error {
	return d.change("no longer deny "+name, reader, func(lines []string) []string {
		return slices.DeleteFunc(lines, func(line string) bool { return line == name })
	})
}

func (d denied) read() ([]string, error) {
	text, err := os.ReadFile(d.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the denied logins: %w", err)
	}
	return strings.Split(string(text), "\n"), nil
}

// change changes the lines of the file, unless they are as they should be. Others who do so wait.
func (d denied) change(what, reader string, change func([]string) []string) error {
	dir := filepath.Dir(d.path)
	wrong := func(err error) error { return fmt.Errorf("%s in %s: %w", what, d.path, err) }
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return wrong(err)
	}
	if err := owned(d.root, dir); err != nil {
		return wrong(err)
	}
	lock, err := os.Open(dir)
	if err != nil {
		return wrong(err)
	}
	defer lock.Close()
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX); err != nil {
		return wrong(fmt.Errorf("lock %s: %w", dir, err))
	}
	before, err := d.read()
	if err != nil {
		return wrong(err)
	}
	after := change(slices.Clone(before))
	if slices.Equal(before, after) {
		return nil
	}
	if err := d.replace(strings.Join(after, "\n"), reader); err != nil {
		return wrong(err)
	}
	return nil
}

// replace replaces the file by another one. It keeps owner and mode, or else is readable for the
// group of Dovecot's user.
func (d denied) replace(text, reader string) error {
	uid, gid, mode, old := os.Geteuid(), 0, fs.FileMode(0o640), time.Time{}
	if info, err := os.Lstat(d.path); err == nil {
		stat, ok := info.Sys().(*syscall.Stat_t)
		if !ok || !info.Mode().IsRegular() {
			return errors.New("it is no regular file")
		}
		uid, gid, mode, old = int(stat.Uid), int(stat.Gid), info.Mode().Perm(), info.ModTime()
	} else if u, err := user.Lookup(reader); err != nil {
		return fmt.Errorf("find the group of Dovecot's user: %w", err)
	} else if gid, err = strconv.Atoi(u.Gid); err != nil {
		return fmt.Errorf("find the group of Dovecot's user: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(d.path), ".denied-logins-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name()) // fails when it has its name
	_, err = f.WriteString(text)
	err = errors.Join(err, f.Chown(uid, gid), f.Chmod(mode), f.Sync(), f.Close(), later(f.Name(), old))
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), d.path)
}

// later makes a file at least a second younger than a time: Dovecot knows by the second and the
// size that it has changed.
func later(path string, old time.Time) error {
	info, err := os.Stat(path)
	if err != nil || info.ModTime().Unix() > old.Unix() {
		return err
	}
	next := old.Truncate(time.Second).Add(time.Second)
	return os.Chtimes(path, next, next)
}
