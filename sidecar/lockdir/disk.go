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

// tempPrefix begins the names of files that are not locks yet. Exim never looks for
// such a name, and a scan removes those that a crash left.
const tempPrefix = ".sluice-"

// maxContent is how many bytes of a lock file are read, kept and compared. Ours have
// about a dozen.
const maxContent = 200

// A dirID distinguishes a directory from another at the same path. The inode number
// alone does not: ext4 reuses that of a removed directory for the very next one. (If
// that one is also made within the same tick of the kernel's clock, about 4 ms, the two
// look the same.)
type dirID struct {
	Dev  uint64 `json:"dev"`
	Ino  uint64 `json:"ino"`
	Born int64  `json:"born"` // nanoseconds since 1970; 0 where the file system does not know
	Path string `json:"path"` // as opened; another locks.dir counts as another directory, even if it leads to the same
}

// A stamp is what must be unchanged for a file to be still ours.
type stamp struct {
	Ino     uint64        `json:"ino"`
	Mtime   unix.Timespec `json:"mtime"`
	Size    int64         `json:"size"`
	Content string        `json:"content"` // the first maxContent bytes
}

// A fileState is a lock file as it was at one moment.
type fileState struct {
	there bool
	stamp
	ctime unix.Timespec // if this is unchanged, so is everything else
}

// A handle is the opened lock directory. Every file is opened relative to it, so that
// one operation never works on two directories. It is closed soon, because an operator
// cannot unmount the directory while it is open.
type handle struct {
	dir *os.File
	id  dirID
}

// openDir opens the directory that is at path now.
func openDir(path string) (*handle, error) {
	dir, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, bareError(err)
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

// makeDir makes the directory, and what is missing above it unless another Dir does.
func (k *dirKind) makeDir(path string) error {
	mkdir := os.MkdirAll
	if k.below {
		mkdir = os.Mkdir
	}
	if err := mkdir(path, k.dir); err != nil && !errors.Is(err, unix.EEXIST) {
		return bareError(err)
	}
	return bareError(os.Chmod(path, k.dir)) // Exim must get in, whatever our umask
}

// names lists the directory.
func (h *handle) names() ([]string, error) {
	names, err := h.dir.Readdirnames(-1)
	return names, bareError(err)
}

// inspect returns the state of a file without following a symlink. It reads the content
// unless last, an earlier state, shows that the file is unchanged.
//
// The name alone makes it a lock, whatever the file is. Exim's `exists` is true of a
// directory, a fifo, and a symlink that leads somewhere. A dangling symlink is a lock here
// but not for Exim: to tell, we would have to follow it, which we never do.
func (h *handle) inspect(name string, last fileState) (fileState, error) {
	s, st, err := h.stat(name)
	if err != nil || !s.there {
		return fileState{}, err
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

// stat is inspect without the content.
func (h *handle) stat(name string) (s fileState, st unix.Stat_t, err error) {
	err = unix.Fstatat(h.fd(), name, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, unix.ENOENT) {
		return fileState{}, st, nil
	}
	if err != nil {
		return fileState{}, st, err
	}
	return fileStateOf(&st), st, nil
}

func fileStateOf(st *unix.Stat_t) fileState {
	return fileState{
		there: true,
		stamp: stamp{Ino: st.Ino, Mtime: st.Mtim, Size: st.Size},
		ctime: st.Ctim,
	}
}

// read reads a file that was regular a moment ago. If somebody has replaced it by a
// fifo since, O_NONBLOCK keeps the open from waiting for a writer.
func (h *handle) read(name string, s fileState) (fileState, error) {
	fd, err := openat(h.fd(), name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fileState{}, nil
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.ENXIO):
		return s, nil // a symlink or a socket by now
	case err != nil:
		return fileState{}, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fileState{}, err
	}
	s = fileStateOf(&st)
	if st.Mode&unix.S_IFMT != unix.S_IFREG {
		return s, nil
	}
	b, err := io.ReadAll(io.LimitReader(f, maxContent))
	if err != nil {
		return fileState{}, bareError(err)
	}
	s.Content = strings.ToValidUTF8(string(b), "\uFFFD")
	return s, nil
}

// writeTemp writes content to a new file with a temporary name. With durable, it is
// synced to the disk: after a power cut an empty lock file would look as if somebody had
// edited it.
func (h *handle) writeTemp(content string, mode os.FileMode, durable bool) (name string, s stamp, err error) {
	var random [8]byte
	rand.Read(random[:]) // never fails
	name = tempPrefix + hex.EncodeToString(random[:])
	fd, err := openat(h.fd(), name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, uint32(mode))
	if err != nil {
		return "", stamp{}, err
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	var st unix.Stat_t
	_, err = f.WriteString(content)
	if err == nil {
		err = f.Chmod(mode) // whatever our umask
	}
	if err == nil && durable {
		err = f.Sync()
	}
	if err == nil {
		err = unix.Fstat(fd, &st)
	}
	if err != nil {
		h.unlink(name)
		return "", stamp{}, bareError(err)
	}
	s = fileStateOf(&st).stamp
	s.Content = content
	return name, s, nil
}

// place renames a temporary file to its final name. It fails with EEXIST where a file
// of that name exists, because overwriting an operator's file would lose it. Inode and
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

// unlink removes a file. It is no error if there is none.
func (h *handle) unlink(name string) error {
	if err := unix.Unlinkat(h.fd(), name, 0); !errors.Is(err, unix.ENOENT) {
		return err
	}
	return nil
}

// sync makes new and removed names survive a power cut. Otherwise a noted file could be
// gone, as if an operator had removed it. Some FUSE and network file systems cannot sync
// a directory.
func (h *handle) sync() error {
	err := bareError(h.dir.Sync())
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil
	}
	return err
}

// writable fails if no file may be made in the directory. It does not look for free
// space. (With AT_EACCESS it would miss a `chattr +i`: package unix takes the EPERM to
// mean that the kernel does not know the flag.)
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

// bareError returns an error without the words and path that package os adds: our own
// messages name the file already.
func bareError(err error) error {
	var path *os.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// remedy is what an operator can do about an error of the file system; "" if unknown.
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

// withRemedy words an error for operators.
func withRemedy(doing, what string, err error) error {
	return fmt.Errorf("%s %s: %w%s", doing, what, err, remedy(err))
}
