package script

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A Process is a process of the account's. It has chosen its command line.
type Process struct {
	PID     int    `json:"pid"`
	Command string `json:"command"` // at most 200 bytes of it
}

// processes returns the processes of a user, the first first.
func processes(uid uint32) []Process {
	entries, _ := os.ReadDir("/proc") // a host without /proc shows none
	var all []Process
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		var st unix.Stat_t
		dir := filepath.Join("/proc", e.Name())
		if unix.Stat(dir, &st) != nil || st.Uid != uid {
			continue
		}
		all = append(all, Process{pid, command(dir)})
	}
	slices.SortFunc(all, func(a, b Process) int { return a.PID - b.PID })
	return all
}

// command is the command line of a process; of a zombie only its name.
func command(dir string) string {
	line := head(filepath.Join(dir, "cmdline"), 200)
	if len(line) == 0 {
		line = head(filepath.Join(dir, "comm"), 200)
	}
	return strings.TrimSpace(string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
}

// head returns at most n bytes of a regular file; nothing where it cannot be read.
func head(name string, n int64) []byte {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil
	}
	b, _ := io.ReadAll(io.LimitReader(f, n))
	return b
}

// crontab returns the lines of an account's crontab that are run, from directories like
// /var/spool/cron.
func crontab(dirs []string, account string) (lines []string) {
	for _, dir := range dirs {
		for line := range strings.Lines(string(head(filepath.Join(dir, account), 64<<10))) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// Found is a file below a home.
type Found struct {
	Path    Path      `json:"path"`    // absolute
	Changed time.Time `json:"changed"` // content, owner or mode: the tenant cannot set this time
}

// mostEntries is how many files and directories of a home are looked at: reading those of a
// large one takes some seconds.
const mostEntries = 500_000

// ErrMany: there are more files than are looked at.
var ErrMany = errors.New("there are too many files to look at all of them")

// Walk calls f for each regular file below a directory of the account's home, given by its
// absolute path. It follows no link, and leaves out what cannot be read.
func (a Account) Walk(ctx context.Context, dir string, f func(Found)) error {
	rel := "."
	switch dir = filepath.Clean(dir); {
	case below(a.Home, dir):
		rel = dir[len(a.Home)+1:]
	case dir != a.Home:
		return errors.New("it is not in the home " + a.Home + " of " + a.Name)
	}
	fd, err := a.open(rel, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NONBLOCK)
	if err != nil {
		return err
	}
	w := walk{ctx: ctx, left: mostEntries, found: f}
	return w.dir(fd, dir, 0)
}

// A walk goes through the directories below one.
type walk struct {
	ctx   context.Context
	left  int
	found func(Found)
}

// deepest is how many directories may be within each other: each takes a descriptor.
const deepest = 100

// dir reads a directory, which it closes.
func (w *walk) dir(fd int, name string, depth int) error {
	d := os.NewFile(uintptr(fd), name)
	defer d.Close()
	for {
		names, err := d.Readdirnames(256)
		if err != nil {
			return nil // its end, or it was removed
		}
		for _, n := range names {
			if w.left--; w.left < 0 || w.ctx.Err() != nil {
				return errors.Join(w.ctx.Err(), ErrMany)
			}
			if err := w.entry(fd, path.Join(name, n), n, depth); err != nil {
				return err
			}
		}
	}
}

// entry looks at one name in a directory.
func (w *walk) entry(dir int, full, name string, depth int) error {
	var st unix.Stat_t
	if unix.Fstatat(dir, name, &st, unix.AT_SYMLINK_NOFOLLOW) != nil {
		return nil
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		w.found(Found{Path(full), time.Unix(st.Ctim.Unix())})
	case unix.S_IFDIR:
		if fd, err := unix.Openat(dir, name, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err == nil && depth < deepest {
			return w.dir(fd, full, depth+1)
		} else if err == nil {
			unix.Close(fd)
		}
	}
	return nil
}

// changedBetween returns the files of the account's home that have changed between two times,
// the first first, at most n.
func (a Account) changedBetween(ctx context.Context, from, to time.Time, n int) (all []Found, err error) {
	err = a.Walk(ctx, a.Home, func(f Found) {
		if !f.Changed.Before(from) && !f.Changed.After(to) {
			all = append(all, f)
		}
	})
	slices.SortFunc(all, func(x, y Found) int { return x.Changed.Compare(y.Changed) })
	return all[:min(n, len(all))], err
}

// suspicious are what files have in them that send mail, or hide what they do.
var suspicious = [][]byte{[]byte("mail("), []byte("eval("), []byte("base64_decode("), []byte("sendmail")}

// Candidates returns the files below a directory that have changed since a time and have
// something suspicious in their first MiB, the last changed first, at most n.
func (a Account) Candidates(ctx context.Context, dir string, since time.Time, n int) (all []Found, err error) {
	err = a.Walk(ctx, dir, func(f Found) {
		if !f.Changed.Before(since) && a.suspicious(f.Path) {
			all = append(all, f)
		}
	})
	slices.SortFunc(all, func(x, y Found) int { return y.Changed.Compare(x.Changed) })
	return all[:min(n, len(all))], err
}

func (a Account) suspicious(p Path) bool {
	f, err := a.openFile(string(p[len(a.Home)+1:]))
	if err != nil {
		return false
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return false
	}
	text, _ := io.ReadAll(io.LimitReader(f, 1<<20))
	return slices.ContainsFunc(suspicious, func(word []byte) bool { return bytes.Contains(text, word) })
}

// An Around is what may belong to a script, and is left alone.
type Around struct {
	Processes []Process `json:"processes"`
	Crontab   []string  `json:"crontab"`
	Changed   []Found   `json:"changed"` // files, within 10 minutes of the first mail
}

// crontabs are the directories of the crontabs of users: Debian's cron, and cronie.
var crontabs = []string{"/var/spool/cron/crontabs", "/var/spool/cron"}

// Listed is how many lines of a kind are listed.
const Listed = 20

// LookAround finds what else may belong to a script of an account, whose first mail came at a time;
// zero: nobody knows when.
func LookAround(ctx context.Context, account Account, first time.Time) Around {
	around := Around{
		Processes: append([]Process{}, processes(account.UID)...),
		Crontab:   append([]string{}, crontab(crontabs, account.Name)...),
		Changed:   []Found{},
	}
	if !first.IsZero() {
		const near = 10 * time.Minute
		found, _ := account.changedBetween(ctx, first.Add(-near), first.Add(near), Listed) // what was found until a failure
		around.Changed = append(around.Changed, found...)
	}
	return around
}
