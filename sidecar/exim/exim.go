package exim

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// An Exim is the one of this host.
type Exim struct {
	Binary    string // path of the program
	Config    string // the configuration that it is to use, if not its own
	User      string // login name that Exim runs as; empty if unknown
	AnySender bool   // any local user may send in any name: untrusted_set_sender
	Helper    string // socket of `sluice deliver`, see Deliver

	Patience time.Duration // how long Exim may take to answer one question; 0 is 5 seconds
}

const patience = 5 * time.Second

// Find asks Exim which user it runs as. If Exim cannot say, because it is not
// installed yet or its configuration is broken just now, it is the first that exists
// of the names that packages use.
func Find(ctx context.Context, binary string) Exim {
	e := Exim{Binary: binary}
	e.AnySender = e.Option(ctx, "untrusted_set_sender") != ""
	if name := e.Option(ctx, "exim_user"); name != "" {
		if u, err := user.LookupId(name); err == nil { // Exim may print the number
			name = u.Username
		}
		e.User = name
		return e
	}
	for _, name := range []string{"Debian-exim", "exim", "mailnull", "mail"} {
		if _, ok := UID(name); ok {
			e.User = name
			break
		}
	}
	return e
}

// Option is the value of an option of Exim's configuration; empty if it has none or
// Exim cannot say.
func (e Exim) Option(ctx context.Context, name string) string {
	out, err := e.Run(ctx, "", "-bP", name)
	value, found := strings.CutPrefix(out, name+" =")
	if err != nil || !found {
		return ""
	}
	return strings.TrimSpace(value)
}

// packaged are where packages have Exim's spool: Debian's, all others'.
var packaged = []string{"/var/spool/exim4", "/var/spool/exim"}

// Spool is Exim's spool_directory. Where Exim cannot say, as in the unit of sluice, which lets it
// become no other user, it is the first of those that packages make; empty if there is no Exim.
func (e Exim) Spool(ctx context.Context) string {
	if directory := e.Option(ctx, "spool_directory"); directory != "" {
		return directory
	}
	if _, err := exec.LookPath(e.Binary); err != nil {
		return ""
	}
	return PackagedSpool()
}

// PackagedSpool is where a package of this host has Exim's spool; empty if there is none.
func PackagedSpool() string {
	for _, directory := range packaged {
		if info, err := os.Stat(directory); err == nil && info.IsDir() {
			return directory
		}
	}
	return ""
}

// Expand has Exim expand a string as a user, or as the caller if user is empty.
func (e Exim) Expand(ctx context.Context, user, text string) (string, error) {
	return e.Run(ctx, user, "-be", text)
}

// Macro is the value of a macro of Exim's configuration; false if there is none.
func (e Exim) Macro(ctx context.Context, name string) (string, bool) {
	// A line that began with the name would define the macro.
	out, err := e.Expand(ctx, "", "="+name)
	value := strings.TrimPrefix(out, "=")
	return value, err == nil && value != name
}

// Run runs Exim as a user, or as the caller if user is empty, and returns what it
// printed without spaces around it. An error has what Exim printed about it.
func (e Exim) Run(ctx context.Context, user string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(e.Patience, patience))
	defer cancel()
	if e.Config != "" {
		args = append([]string{"-C", e.Config}, args...)
	}
	c := exec.CommandContext(ctx, e.Binary, args...)
	c.Dir = "/"               // a directory that every user may be in
	c.WaitDelay = time.Second // what it has started may keep its output open
	if user != "" {
		attr, err := AsUser(user)
		if err != nil {
			return "", err
		}
		c.SysProcAttr = attr
	}
	b, err := c.Output()
	if errors.Is(err, exec.ErrWaitDelay) && ctx.Err() == nil { // it has ended, and has said all
		err = nil
	}
	out := strings.TrimSpace(string(b))
	if failed, ok := errors.AsType[*exec.ExitError](err); ok {
		return out, fmt.Errorf("%s %s: %s", e.Binary, strings.Join(args, " "), cmp.Or(strings.TrimSpace(string(failed.Stderr)), out, failed.Error()))
	}
	return out, err
}

// AsUser makes exec.Cmd run a program as another user, in no group but that user's own.
func AsUser(name string) (*syscall.SysProcAttr, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
	gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, errors.Join(errUID, errGID)
}

// UID is the number of a user; false if there is no such user.
func UID(name string) (int, bool) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, false
	}
	uid, err := strconv.Atoi(u.Uid)
	return uid, err == nil
}
