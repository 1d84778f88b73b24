package script

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/action"
	"sluice/sidecar/printable"
)

// Verbs of the record of actions.
const (
	Disabled action.Verb = "disable-script"
	Enabled  action.Verb = "enable-script"
)

// A Path is the path of a file, in which a tenant may have put any bytes.
type Path string

// String is the path as it may be shown, typed as an argument and written as JSON: as it is, or
// quoted as by strconv.QuoteToASCII where it has something that must not stand in a command.
func (p Path) String() string {
	if !filepath.IsAbs(string(p)) || printable.Command("", string(p)) == "" {
		return strconv.QuoteToASCII(string(p))
	}
	return string(p)
}

// DisableCommand is the command that disables the file.
func (p Path) DisableCommand() string { return printable.Command("sluice script disable", p.String()) }

// MarshalText implements encoding.TextMarshaler.
func (p Path) MarshalText() ([]byte, error) { return []byte(p.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Path) UnmarshalText(b []byte) error {
	text := string(b)
	if strings.HasPrefix(text, `"`) {
		var err error
		if text, err = strconv.Unquote(text); err != nil {
			return fmt.Errorf("read the path %s: %w", b, err)
		}
	}
	*p = Path(text)
	return nil
}

// A File is a script as it was before it was disabled: what is needed to enable it again.
type File struct {
	Path    Path      `json:"path"`
	Author  string    `json:"author"` // who sends by it; the caller's own
	Account string    `json:"account"`
	Owner   uint32    `json:"owner"` // uid of the account
	Home    string    `json:"home"`
	Dev     uint64    `json:"dev"`
	Inode   uint64    `json:"inode"`
	Mode    uint32    `json:"mode"` // permission bits, and those of set-uid and the like
	UID     uint32    `json:"uid"`  // whose the file is: the account's or a web server's
	Links   uint64    `json:"links"`
	MTime   time.Time `json:"mtime"`
	SHA256  string    `json:"sha256"`
}

// account is the account in whose home the file is.
func (f *File) account() Account { return Account{Name: f.Account, UID: f.Owner, Home: f.Home} }

// Rules are what may be disabled.
type Rules struct {
	Web   []uint32 // uids of web servers that write files below public_html for the tenant
	Force bool     // also what a whole site needs
}

// ErrDirectory: what should be disabled is a directory.
var ErrDirectory = errors.New("it is a directory, and only files are disabled, which a person picks")

// needed are files without which nothing of a site runs.
var needed = []string{"index.php", "wp-config.php", "wp-load.php", ".htaccess"}

// largest is how large a script may be, in bytes: it is read to know it again.
const largest = 64 << 20

// A Script is a file that was found and may be disabled. It is open: whatever the tenant does
// with its name, Disable changes this file and no other.
type Script struct {
	File
	file *os.File
}

// Find opens a script of an account, by its absolute path.
func Find(a Account, path string, rules Rules) (_ *Script, err error) {
	switch path = filepath.Clean(path); {
	case path == a.Home:
		return nil, ErrDirectory
	case !below(a.Home, path):
		return nil, fmt.Errorf("it is not in %s, the home of %s", a.Home, a.Name)
	case slices.Contains(needed, filepath.Base(path)) && !rules.Force:
		return nil, fmt.Errorf("without %s the whole site does not run; look into it first; sluice script disable --force disables it all the same", filepath.Base(path))
	}
	rel := path[len(a.Home)+1:]
	s := &Script{}
	if s.file, err = a.openFile(rel); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.File, err = describe(s.file); err != nil {
		return nil, err
	}
	s.Path, s.Account, s.Owner, s.Home = Path(path), a.Name, a.UID, a.Home
	if s.UID != a.UID && (s.UID == 0 || !strings.HasPrefix(rel, "public_html/") || !slices.Contains(rules.Web, s.UID)) {
		return nil, fmt.Errorf("it belongs to uid %d, and not to %s; files of a web server below public_html may be disabled too, if clean.web_users names its login", s.UID, a.Name)
	}
	return s, nil
}

// openFile opens a regular file below the home for reading. It never waits: of a pipe or a
// leased file neither.
func (a Account) openFile(rel string) (*os.File, error) {
	fd, err := a.open(rel, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), rel), nil
}

// describe reads what is to be known of an open file.
func describe(f *os.File) (File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return File{}, err
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFDIR:
		return File{}, ErrDirectory
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return File{}, errors.New("it is no regular file")
	case st.Size > largest:
		return File{}, fmt.Errorf("it has %d bytes, and is no script: those have %d at most", st.Size, largest)
	}
	hash := sha256.New()
	if _, err := io.Copy(hash, io.LimitReader(f, largest)); err != nil {
		return File{}, err
	}
	return File{
		Dev: st.Dev, Inode: st.Ino, Mode: st.Mode & 0o7777, UID: st.Uid, Links: uint64(st.Nlink),
		MTime: time.Unix(st.Mtim.Unix()), SHA256: hex.EncodeToString(hash.Sum(nil)),
	}, nil
}

// Disable takes all permissions from the file. PHP goes on running what it has compiled
// before until the time of the file's last change is another one (opcache), so it becomes now.
func (s *Script) Disable(now time.Time) error {
	if err := setMode(s.file, 0); err != nil {
		return fmt.Errorf("take the permissions of %s: %w", s.Path, err)
	}
	return setMTime(s.file, now)
}

// Close closes the file.
func (s *Script) Close() error { return s.file.Close() }

// setMode sets the permissions of an open file.
func setMode(f *os.File, mode uint32) error {
	err := unix.Fchmod(int(f.Fd()), mode)
	if err == unix.EPERM { // of root too
		err = fmt.Errorf("%w: lsattr shows whether it is immutable (i) or append-only (a), and chattr -ia ends that", err)
	}
	return err
}

// setMTime sets the time of an open file's last change.
func setMTime(f *os.File, at time.Time) error {
	// utimensat(2) takes a descriptor only by this name in all kernels.
	name := fmt.Sprintf("/proc/self/fd/%d", f.Fd())
	if err := os.Chtimes(name, time.Time{}, at); err != nil {
		return fmt.Errorf("set the time of the last change: %w", err)
	}
	return nil
}

// Back is the file that an action has disabled, for Enable. It is an action.ErrChanged if a later
// one of all actions, which was not taken back, has disabled it again.
func Back(undone action.Action, all []action.Action) (was File, err error) {
	if err := undone.Read(&was); err != nil {
		return was, err
	}
	for _, later := range all {
		var other File
		if later.Number <= undone.Number || later.Verb != Disabled || action.UndoneBy(all, later.Number) > 0 {
			continue
		}
		if err := later.Read(&other); err != nil {
			return was, err
		}
		if other.Dev == was.Dev && other.Inode == was.Inode { // under whatever name
			return was, fmt.Errorf("%w: action %d (%s %s) has disabled it again", action.ErrChanged, later.Number, later.Verb, other.Path)
		}
	}
	return was, nil
}

// Enable gives a file that was disabled its permissions and time of last change back, if it
// is still the same and disabled; else it returns action.ErrChanged, with what has changed.
func Enable(was File) error {
	f, err := was.account().openFile(string(was.Path[len(was.Home)+1:]))
	if err != nil {
		return fmt.Errorf("%w: %w", action.ErrChanged, err)
	}
	defer f.Close()
	is, err := describe(f)
	switch {
	case err != nil:
		return fmt.Errorf("%w: %w", action.ErrChanged, err)
	case is.Dev != was.Dev || is.Inode != was.Inode:
		return fmt.Errorf("%w: there is another file of this name", action.ErrChanged)
	case is.SHA256 != was.SHA256:
		return fmt.Errorf("%w: its content is another one than when it was disabled", action.ErrChanged)
	case is.UID != was.UID:
		return fmt.Errorf("%w: it belongs to uid %d now", action.ErrChanged, is.UID)
	case is.Mode != 0:
		return fmt.Errorf("%w: it is not disabled, its mode is %04o", action.ErrChanged, is.Mode)
	}
	if err := setMode(f, was.Mode&0o777); err != nil {
		return fmt.Errorf("give back the permissions: %w", err)
	}
	return setMTime(f, was.MTime)
}

// CameBack says how a script that was disabled can be run again; empty if it cannot. The
// file's owner may always enable it, or put another one in its place.
func CameBack(was File) string {
	fd, err := was.account().open(string(was.Path[len(was.Home)+1:]), unix.O_PATH)
	if err != nil {
		if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
			return "a directory of its path is a symbolic link now"
		}
		return "" // it is gone
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return ""
	}
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		return "it is a symbolic link now"
	case st.Mode&0o444 == 0:
		return ""
	case st.Dev != was.Dev || st.Ino != was.Inode:
		return fmt.Sprintf("there is another file of its name, of uid %d and mode %04o", st.Uid, st.Mode&0o7777)
	}
	return fmt.Sprintf("its mode is %04o again", st.Mode&0o7777)
}
