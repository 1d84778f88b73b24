package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/clean"
	"sluice/sidecar/operator"
	"sluice/sidecar/stop"
)

const verbStop action.Verb = "stop"

// A stopped is what takes back a stop: which it is, among all of its author.
type stopped struct {
	Scope string    `json:"scope"`
	Mark  string    `json:"mark,omitempty"`  // empty: it was made by a file, for sluice did not run
	File  string    `json:"file,omitempty"`  // its path
	Since time.Time `json:"since,omitzero"`  // when the file was made
	Inode uint64    `json:"inode,omitempty"` // of the file
}

// A stopStep stops the author on all nodes.
type stopStep struct{ t *terminal }

// Name implements clean.Step.
func (s stopStep) Name() string { return clean.Stop }

// Plan implements clean.Step.
func (s stopStep) Plan(_ context.Context, c clean.Case) (p clean.Plan, err error) {
	all, running, err := s.t.stopsOf(c.Author.Key)
	if err != nil {
		return p, err
	}
	for _, st := range all {
		if lasting(st) {
			return clean.Plan{Nothing: c.Author.Key + " is " + st.Origin() + " already"}, nil
		}
	}
	text := c.Author.Key + ", on all nodes"
	if !running {
		if !sidecar.StopFile(c.Author.Key) {
			return p, fmt.Errorf("%s can be stopped only while sluice runs: no file can have its name", c.Author.Key)
		}
		if path, err := s.t.stopFile(c.Author.Key); err == nil {
			if _, err = os.Lstat(path); err == nil {
				return clean.Plan{Nothing: c.Author.Key + " is stopped already, by " + path}, nil
			}
		}
		text = c.Author.Key + ", by its file on this node, for sluice does not run; all nodes are told when it runs again"
	}
	return clean.Plan{Lines: []clean.Line{{Text: text, Command: sidecar.Command("sluice stop", c.Author.Key)}}}, nil
}

// lasting reports whether a stop refuses all of its author's mail until somebody ends it.
func lasting(st operator.StopStatus) bool {
	return st.State == "in force" && st.Until.IsZero() && st.Of == ""
}

// stopsOf lists the stops of an author, and reports whether the running sluice was there to be asked.
func (t *terminal) stopsOf(scope string) (all []operator.StopStatus, running bool, err error) {
	all, err = ask(t, "stops of "+scope, func(a *admin.Client) ([]operator.StopStatus, error) { return a.Stops(t.ctx, scope) })
	if errors.Is(err, admin.ErrUnreachable) {
		return nil, false, nil
	}
	return all, true, err
}

// Do implements clean.Step.
func (s stopStep) Do(_ context.Context, c clean.Case, _ clean.Plan) (done clean.Done, err error) {
	why := "sluice clean"
	if c.Incident != "" {
		why += " " + c.Incident
	}
	made := stopped{Scope: c.Author.Key}
	a := action.Action{Verb: verbStop, Whom: c.Author.Key, Incident: c.Incident, Part: c.Number, Why: why}
	n, err := s.t.act(a, made, func(int) (any, error) {
		order := admin.StopRequest{Scope: made.Scope, Why: why, Sudo: os.Getenv("SUDO_USER")}
		st, err := ask(s.t, "stop "+made.Scope, func(a *admin.Client) (admin.Stopped, error) { return a.Stop(s.t.ctx, order) })
		if errors.Is(err, admin.ErrUnreachable) {
			err = s.t.stopByFile(&made, why)
			return made, err
		}
		made.Mark = st.Mark
		return made, err
	})
	if n > 0 {
		done.Actions = []int{n}
	}
	done.Text = made.Scope + " is stopped"
	return done, err
}

// stopByFile stops an author by its file, and says in made which that is.
func (t *terminal) stopByFile(made *stopped, why string) (err error) {
	if !sidecar.StopFile(made.Scope) {
		return fmt.Errorf("%s can be stopped only while sluice runs: no file can have its name", made.Scope)
	}
	if made.File, err = t.stopFile(made.Scope); err == nil {
		err = makeStopFile(made.File, why)
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

// undoStop lets an author send again that a clean has stopped, if it is stopped by that still.
// Other stops of it go on.
func (t *terminal) undoStop(a action.Action) (did string, err error) {
	var made stopped
	if err := a.ReadDid(&made); err != nil {
		return "", err
	}
	switch scope, err := stop.Canonical(made.Scope); {
	case made.Mark == "" && made.File == "":
		return "", fmt.Errorf("nobody knows how far it came: %s", sidecar.Command("sluice status", a.Whom))
	case err != nil || scope != made.Scope:
		return "", fmt.Errorf("%q is nobody who can be stopped", made.Scope)
	}
	all, running, err := t.stopsOf(made.Scope)
	switch {
	case err != nil:
		return "", err
	case !running && made.File == "":
		return "", fmt.Errorf("it was stopped by the running sluice, which does not run now: start it, and type this again")
	case !running:
		return t.undoStopFile(made)
	}
	for _, st := range all {
		if made.is(st) {
			return t.endStop(st)
		}
	}
	return "", fmt.Errorf("%w: this stop of %s is not known any more", action.ErrChanged, made.Scope)
}

// is reports whether a stop is the one that was made.
func (made stopped) is(st operator.StopStatus) bool {
	if made.Mark != "" {
		return st.Mark == made.Mark
	}
	// What the running sluice has made of the file: it takes the time from it, in milliseconds.
	return st.Cause == stop.Operator && st.Since.Equal(made.Since.Truncate(time.Millisecond))
}

// endStop ends a stop, and no other of its author.
func (t *terminal) endStop(st operator.StopStatus) (did string, err error) {
	if st.State != "in force" {
		by := ""
		if st.EndedBy != "" {
			by = fmt.Sprintf(", by %s at %s", st.EndedBy, sidecar.DateTime(st.Ended))
		}
		return "", fmt.Errorf("%w: this stop of %s is over already%s", action.ErrChanged, st.Scope, by)
	}
	question := func(a *admin.Client) (string, error) {
		return a.Start(t.ctx, admin.StopRequest{Scope: st.Scope, Mark: st.Mark, Sudo: os.Getenv("SUDO_USER")})
	}
	warning, err := ask(t, "start "+st.Scope, question)
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
func (t *terminal) undoStopFile(made stopped) (did string, err error) {
	path, err := t.stopFile(made.Scope)
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
		return "", fmt.Errorf("%w: %s is another file, made at %s", action.ErrChanged, path, sidecar.DateTime(info.ModTime()))
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
