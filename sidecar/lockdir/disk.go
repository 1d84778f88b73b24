package lockdir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// tempPrefix begins the names of files that are not locks yet. Exim asks for
// none of them, and a scan removes what a crash left.
const tempPrefix = ".sluice-"

// maxContent is how much of a lock file is read, kept and compared, in bytes.
// Ours have a dozen.
const maxContent = 200

// A dirID tells one directory from another that stands at the same path.
// The inode number alone does not: ext4 gives that of a removed directory to
// the very next one. (Where that is also made within the same tick of the
// kernel's clock, 4 ms or so, the two cannot be told apart.)
type dirID struct {
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	Born int64  `json:"born"` // nanoseconds since 1970; 0 where the file system does not know
	Path string `json:"path"` // what opened it; another locks.dir is another directory, whatever it leads to
}

// A stamp is what must not have changed for a file to be still ours.
type stamp struct {
	Ino     uint64        `json:"ino"`
	Mtime   unix.Timespec `json:"mtime"`
	Size    int64         `json:"size"`
	Content string        `json:"content"` // the first maxContent bytes
}

// A sight is one look at a lock file.
type sight struct {
	there bool
	stamp
	ctime unix.Timespec // unchanged means that nothing else changed either
}

// A handle is the lock directory, opened. Every file is reached relative to
// it, so that one operation never sees two directories. Nothing keeps it
// open for long: an operator could not unmount the directory.
type handle struct {
	dir *os.File
	id  dirID
}

// openDir opens the directory that stands at path now.
func openDir(path string) (*handle, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, cause(err)
	}
	var st unix.Statx_t
	err = unix.Statx(int(dir.Fd()), "", unix.AT_EMPTY_PATH, unix.STATX_INO|unix.STATX_BTIME, &st)
	if err != nil {
		dir.Close()
		return nil, err
	}
	id := dirID{Dev: unix.Mkdev(st.Dev_major, st.Dev_minor), Ino: st.Ino, Path: path}
	if st.Mask&unix.STATX_BTIME != 0 {
		id.Born = st.Btime.Sec*1e9 + int64(st.Btime.Nsec)
	}
	return &handle{dir, id}, nil
}

func (h *handle) fd() int { return int(h.dir.Fd()) }

func (h *handle) close() { h.dir.Close() }

// makeDir makes the directory and what is missing above it.
func makeDir(path string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return cause(err)
	}
	return cause(os.Chmod(path, 0o755)) // Exim must get in, whatever our umask
}

// names lists the directory.
func (h *handle) names() ([]string, error) {
	names, err := h.dir.Readdirnames(-1)
	return names, cause(err)
}

// look looks at a file without following a symlink. The content is read
// unless last, an earlier sight of the same file, makes that needless.
//
// A name counts, whatever stands behind it. Exim's `exists` says yes to a
// directory, a fifo, and a symlink that leads somewhere; a dangling one we
// take for a lock where Exim alone does not, because following it to find out
// is what must never happen.
func (h *handle) look(name string, last sight) (sight, error) {
	s, st, err := h.stat(name)
	if err != nil || !s.there {
		return sight{}, err
	}
	if last.Ino == s.Ino && last.Mtime == s.Mtime && last.Size == s.Size && last.ctime == s.ctime {
		s.Content = last.Content
		return s, nil
	}
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return s, nil
	}
	return h.read(name, s)
}

// stat is look without the content.
func (h *handle) stat(name string) (s sight, st unix.Stat_t, err error) {
	err = unix.Fstatat(h.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return sight{}, st, nil
	}
	if err != nil {
		return sight{}, st, err
	}
	return sightOf(&st), st, nil
}

func sightOf(st *unix.Stat_t) sight {
	return sight{
		there: true,
		stamp: stamp{Ino: st.Ino, Mtime: st.Mtim, Size: st.Size},
		ctime: st.Ctim,
	}
}

// read reads a file that was regular when looked at. Somebody may put
// another in its place meanwhile: O_NONBLOCK so that a fifo does not hang us.
func (h *handle) read(name string, s sight) (sight, error) {
	fd, err := openat(h.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return sight{}, nil
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return s, nil // a symlink or a socket by now
	case err != nil:
		return sight{}, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return sight{}, err
	}
	s = sightOf(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return s, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxContent))
	if err != nil {
		return sight{}, cause(err)
	}
	s.Content = strings.ToValidUTF8(string(b), "\uFFFD")
	return s, nil
}

// writeTemp writes content to a new file under a name that Exim never asks
// for. A durable one is on the disk before it gets its name: after a power cut
// an empty lock file would look like one that somebody edited.
func (h *handle) writeTemp(content string, durable bool) (name string, s stamp, err error) {
	var random [8]byte
	rand.Read(random[:]) // never fails
	name = tempPrefix + hex.EncodeToString(random[:])
	fd, err := openat(h.fd(), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return "", stamp{}, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Chmod(0o644) // Exim must be able to read it, whatever our umask
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		h.unlink(name)
		return "", stamp{}, cause(err)
	}
	s = sightOf(&st).stamp
	s.Content = content
	return name, s, nil
}

// place gives a temporary file its name, or fails with EEXIST where a file of
// that name stands: renaming over an operator's file would lose it. Inode and
// modification time stay as they were.
func (h *handle) place(temp, name string) error {
	err := unix.Renameat2(h.fd(), temp, h.fd(), name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EOPNOTSUPP) {
		return h.placeByLink(temp, name) // NFS, some FUSE file systems, old kernels
	}
	return err
}

func (h *handle) placeByLink(temp, name string) error {
	if err := unix.Linkat(h.fd(), temp, h.fd(), name, 0); err != nil {
		return err
	}
	return h.unlink(temp)
}

// unlink removes a name; that it is gone already is no error.
func (h *handle) unlink(name string) error {
	if err := unix.Unlinkat(h.fd(), name, 0); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// sync makes placed and removed names survive a power cut. Otherwise the
// notes could know of a file that is gone, which would look like a hand.
// Some FUSE and network file systems cannot.
func (h *handle) sync() error {
	err := cause(h.dir.Sync())
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// writable fails if no file can be made in the directory; whether there is
// space is not looked at. (AT_EACCESS would miss a `chattr +i`: package unix
// takes its EPERM for a kernel that does not know the flag.)
func (h *handle) writable() error {
	return unix.Faccessat(h.fd(), ".", unix.W_OK|unix.X_OK, 0)
}

func openat(dir int, name string, flags int, mode uint32) (int, error) {
	for {
		fd, err := unix.Openat(dir, name, flags|unix.O_CLOEXEC, mode)
		if !errors.Is(err, unix.EINTR) {
			return fd, err
		}
	}
}

// cause strips package os's words from an error: ours name the file already.
func cause(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// remedy is what an operator can do about an error of the file system.
func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EROFS):
		return ": mount it read-write (in a systemd unit: ReadWritePaths) or set locks.dir to another directory"
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return ": free some space or inodes there"
	case errors.Is(err, unix.EACCES):
		return ": run sluice as root or give its user the directory"
	case errors.Is(err, unix.EPERM):
		return ": run sluice as root or give its user the directory; if it is root, chattr -i"
	case errors.Is(err, unix.EISDIR):
		return ": remove it with rmdir"
	case errors.Is(err, unix.ENOTDIR):
		return ": move away what stands in the place of a directory"
	}
	return ""
}

// fault is the error that an operator reads.
func fault(doing, what string, err error) error {
	return fmt.Errorf("%s %s: %w%s", doing, what, err, remedy(err))
}
