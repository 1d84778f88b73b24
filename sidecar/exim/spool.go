package exim

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// A SpoolFile is a queued message of Exim, by its file that ends in -H.
type SpoolFile struct {
	ID    string
	Queue string // name of its queue; empty: Exim's main one
	dir   string
}

// splitNames are the directories in input that have messages where split_spool_directory is
// set: the sixth character of an id.
const splitNames = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

// WalkSpool calls f for each message in Exim's spool_directory, of all queues, split or not, in
// no order, until f returns false. What comes or goes meanwhile is in it or not. The error is
// about the first directory that cannot be read, behind which the others are still walked;
// one that is not there has no messages.
func WalkSpool(directory string, f func(SpoolFile) bool) error {
	inside, err := os.ReadDir(directory)
	if err != nil {
		return fmt.Errorf("read Exim's spool_directory: %w", err)
	}
	queues := []string{""}
	var errs []error
	for _, d := range inside { // a named queue is a directory with an input of its own
		switch info, err := os.Stat(filepath.Join(directory, d.Name(), "input")); {
		case err == nil && info.IsDir():
			queues = append(queues, d.Name())
		case err != nil && !isAbsent(err):
			errs = append(errs, fmt.Errorf("look for a queue of Exim's: %w", err))
		}
	}
	for _, queue := range queues {
		input := filepath.Join(directory, queue, "input")
		dirs := []string{input}
		for i := range splitNames {
			dirs = append(dirs, filepath.Join(input, splitNames[i:i+1]))
		}
		for _, dir := range dirs {
			more, err := walkDirectory(SpoolFile{Queue: queue, dir: dir}, f)
			if errs = append(errs, err); !more {
				return errors.Join(errs...)
			}
		}
	}
	return errors.Join(errs...)
}

// isAbsent reports whether an error says that there is no such file. Any other one leaves open
// whether there is.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}

// walkDirectory calls f for each message of one directory, and returns false if f has.
func walkDirectory(in SpoolFile, f func(SpoolFile) bool) (more bool, err error) {
	d, err := os.Open(in.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return true, fmt.Errorf("read Exim's queue: %w", err)
	}
	defer d.Close()
	for {
		names, err := d.Readdirnames(1000)
		for _, name := range names {
			id, is := strings.CutSuffix(name, "-H")
			if in.ID = id; is && !f(in) {
				return false, nil
			}
		}
		if len(names) == 0 { // the end, or an error: what was listed may not be all
			if !errors.Is(err, io.EOF) {
				return true, fmt.Errorf("read Exim's queue: %w", err)
			}
			return true, nil
		}
	}
}

// FindSpoolFile returns the file of a message in a queue, split or not; false if it has left. One
// that cannot be looked at has not.
func FindSpoolFile(directory, queue, id string) (SpoolFile, bool) {
	if !messageID.MatchString(id) {
		return SpoolFile{}, false
	}
	input := filepath.Join(directory, queue, "input")
	for _, dir := range [...]string{input, filepath.Join(input, id[5:6])} {
		f := SpoolFile{id, queue, dir}
		if _, err := os.Lstat(f.path("-H")); err == nil || !isAbsent(err) {
			return f, true
		}
	}
	return SpoolFile{}, false
}

func (f SpoolFile) path(end string) string { return f.dir + "/" + f.ID + end }

// ofdSetLock is F_OFD_SETLK of fcntl(2): a lock of an open file, and not of a process.
const ofdSetLock = 37

// Lock locks the message, as each Exim does that moves, removes or delivers it, until unlock is
// called. It does not wait: ok is false if another has it, or if the message is not whole.
func (f SpoolFile) Lock() (unlock func(), ok bool) {
	// Exim locks the first line of the file of the body, which in two queues is the same file.
	data, err := os.OpenFile(f.path("-D"), os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, false
	}
	lock := syscall.Flock_t{Type: syscall.F_WRLCK}
	if err := syscall.FcntlFlock(data.Fd(), ofdSetLock, &lock); err != nil {
		data.Close()
		return nil, false
	}
	return func() { data.Close() }, true
}

// Changed is when Exim has last written what it knows of the message.
func (f SpoolFile) Changed() (time.Time, error) {
	info, err := os.Lstat(f.path("-H"))
	if err != nil {
		return time.Time{}, err
	}
	return info.ModTime(), nil
}

// BodySize is the size of the message's body in bytes; 0 if it cannot be found.
func (f SpoolFile) BodySize() int64 {
	info, err := os.Lstat(f.path("-D"))
	if err != nil {
		return 0
	}
	return max(0, info.Size()-int64(len(f.ID)+len("-D\n"))) // its first line is its name
}

// maxHeader is how much of a -H file is read. Exim reads none with more than 16,384 recipients, of
// up to 320 bytes each, which stand there twice once they have it, and 1 MiB of header lines.
const maxHeader = 16 << 20

// Header reads the file. The error wraps fs.ErrNotExist if the message has left the queue. Of a
// file that is not as Exim writes it, it is about that, and what could be read is returned.
func (f SpoolFile) Header() (SpoolHeader, error) {
	text, err := readRegular(f.path("-H"), maxHeader)
	if err != nil {
		return SpoolHeader{}, err
	}
	h, err := parseSpoolHeader(text)
	if err != nil {
		err = fmt.Errorf("read the queued message %s: %w", f.path("-H"), err)
	}
	return h, err
}

// errNotRegular says that a file is a link, a pipe or a directory.
var errNotRegular = errors.New("it is no regular file")

// readRegular reads the beginning of a regular file. For many small files that takes half the
// time of os.ReadFile, which asks the poller about each.
func readRegular(path string, most int64) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	defer syscall.Close(fd)
	var stat syscall.Stat_t
	if err := syscall.Fstat(fd, &stat); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	if stat.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errNotRegular}
	}
	text := make([]byte, min(stat.Size, most))
	for n := 0; n < len(text); {
		got, err := syscall.Read(fd, text[n:])
		if err == syscall.EINTR {
			continue
		}
		if got <= 0 {
			return text[:n], nil
		}
		n += got
	}
	return text, nil
}

// A Spool has the queued messages of an Exim, as they were when it was opened.
type Spool struct{ files map[string]SpoolFile } // by message id

// maxQueued bounds the messages of a Spool.
const maxQueued = 1_000_000

// OpenSpool lists the messages in Exim's spool_directory. What cannot be read is not in it.
func OpenSpool(directory string) *Spool {
	s := &Spool{files: map[string]SpoolFile{}}
	_ = WalkSpool(directory, func(f SpoolFile) bool {
		s.files[f.ID] = f
		return len(s.files) < maxQueued
	})
	return s
}

// Script returns what a header line of a queued message says of the script that has sent it,
// which may be anything; "" if it says nothing or is not in the queue any more.
func (s *Spool) Script(id string) string {
	f, queued := s.files[id]
	if !queued {
		return ""
	}
	h, _ := f.Header()
	return h.Script
}
