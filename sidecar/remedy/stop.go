package remedy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/stop"
)

// A Stopped is what takes back a stop: which it is, among all of its author.
type Stopped struct {
	Scope string    `json:"scope"`
	Mark  string    `json:"mark,omitempty"`  // empty: it was made by a file, for sluice did not run
	File  string    `json:"file,omitempty"`  // its path
	Since time.Time `json:"since,omitzero"`  // when the file was made
	Inode uint64    `json:"inode,omitempty"` // of the file
}

// Stops lists the stops of an author, and reports whether the running sluice was there to be asked.
func (h *Host) Stops(ctx context.Context, scope string) (all []operator.StopStatus, running bool, err error) {
	all, err = Ask(h, "stops of "+scope, func(a *admin.Client) ([]operator.StopStatus, error) { return a.Stops(ctx, scope) })
	if errors.Is(err, admin.ErrUnreachable) {
		return nil, false, nil
	}
	return all, true, err
}

// Stop stops an author on all nodes; by its file on this one where sluice does not run.
func (h *Host) Stop(ctx context.Context, author, why string) (made Stopped, err error) {
	made.Scope = author
	request := admin.StopRequest{Scope: author, Why: why, Sudo: os.Getenv("SUDO_USER")}
	st, err := Ask(h, "stop "+author, func(a *admin.Client) (admin.Stopped, error) { return a.Stop(ctx, request) })
	if errors.Is(err, admin.ErrUnreachable) {
		err = h.stopByFile(&made, why)
		return made, err
	}
	made.Mark = st.Mark
	return made, err
}

// stopByFile stops an author by its file, and says in made which that is.
func (h *Host) stopByFile(made *Stopped, why string) (err error) {
	if !lockfile.StopFile(made.Scope) {
		return fmt.Errorf("%s can be stopped only while sluice runs: no file can have its name", made.Scope)
	}
	if made.File, err = h.StopFile(made.Scope); err == nil {
		err = MakeStopFile(made.File, why)
	}
	if err != nil {
		return fmt.Errorf("stop %s by its file, for sluice does not run: %w", made.Scope, err)
	}
	info, err := os.Lstat(made.File)
	if err != nil {
		return fmt.Errorf("find the file that stops %s: %w", made.Scope, err)
	}
	made.Since, made.Inode = info.ModTime().UTC(), inode(info)
	return nil
}

// StopFile is the path of an author's file.
func (h *Host) StopFile(scope string) (string, error) {
	c, err := h.Config()
	if err != nil {
		return "", err
	}
	return filepath.Join(c.Locks.Dir, lockdir.StoppedName, scope), nil
}

// MakeStopFile makes the file of an author unless there is one. It follows no symlink.
func MakeStopFile(path, why string) error {
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o711); err == nil {
		err = os.Chmod(dir, 0o711) // Exim must get in, whatever our umask is
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = io.WriteString(f, why)
	return errors.Join(err, f.Close())
}

// undoStop lets an author send again that a clean has stopped, if it is stopped by that still.
// Other stops of it go on.
func (h *Host) undoStop(ctx context.Context, a action.Action) (did string, err error) {
	var made Stopped
	if err := a.ReadDid(&made); err != nil {
		return "", err
	}
	switch scope, err := stop.Canonical(made.Scope); {
	case made.Mark == "" && made.File == "":
		return "", fmt.Errorf("nobody knows how far it came: %s", printable.Command("sluice status", a.Whom))
	case err != nil || scope != made.Scope:
		return "", fmt.Errorf("%q is nobody who can be stopped", made.Scope)
	}
	all, running, err := h.Stops(ctx, made.Scope)
	switch {
	case err != nil:
		return "", err
	case !running && made.File == "":
		return "", fmt.Errorf("it was stopped by the running sluice, which does not run now: start it, and type this again")
	case !running:
		return h.undoStopFile(made)
	}
	for _, st := range all {
		if made.is(st) {
			return h.endStop(ctx, st)
		}
	}
	return "", fmt.Errorf("%w: this stop of %s is not known any more", action.ErrChanged, made.Scope)
}

// is reports whether a stop is the one that was made.
func (made Stopped) is(st operator.StopStatus) bool {
	if made.Mark != "" {
		return st.Mark == made.Mark
	}
	// What the running sluice has made of the file: it takes the time from it, in milliseconds.
	return st.Cause == stop.Operator && st.Since.Equal(made.Since.Truncate(time.Millisecond))
}

// endStop ends a stop, and no other of its author.
func (h *Host) endStop(ctx context.Context, st operator.StopStatus) (did string, err error) {
	if st.State != "in force" {
		by := ""
		if ending := st.Ending(); ending != "" {
			by = ", " + ending
		}
		return "", fmt.Errorf("%w: this stop of %s is over already%s", action.ErrChanged, st.Scope, by)
	}
	question := func(a *admin.Client) (string, error) {
		return a.Start(ctx, admin.StopRequest{Scope: st.Scope, Mark: st.Mark, Sudo: os.Getenv("SUDO_USER")})
	}
	warning, err := Ask(h, "start "+st.Scope, question)
	if err != nil {
		return "", err
	}
	did = "this stop of " + st.Scope + " has ended"
	if warning != "" {
		did += "; " + warning
	}
	return did, nil
}

// undoStopFile removes the file of a stop while sluice does not run.
func (h *Host) undoStopFile(made Stopped) (did string, err error) {
	path, err := h.StopFile(made.Scope)
	if err != nil {
		return "", err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: %s is gone already", action.ErrChanged, path)
	case err != nil:
		return "", err
	case !info.Mode().IsRegular() || inode(info) != made.Inode || !info.ModTime().Equal(made.Since):
		return "", fmt.Errorf("%w: %s is another file, made at %s", action.ErrChanged, path, printable.DateTime(info.ModTime()))
	}
	if err := os.Remove(path); err != nil {
		return "", err
	}
	return made.Scope + " may send again: its file is removed", nil
}

// inode is the number of a file.
func inode(info fs.FileInfo) uint64 {
	stat, _ := info.Sys().(*syscall.Stat_t) // always, on Linux
	return stat.Ino
}
