package panel

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"

	"sluice/sidecar/config"
	"sluice/sidecar/follow"
	"sluice/sidecar/settings"
)

const (
	// settles is how long a file must stand still before it is believed: panels
	// rewrite files in place, too.
	settles = 300 * time.Millisecond
	// polls is how often files are looked at where nothing tells of a change;
	// pollShare is the least part of the time in which they are not.
	polls     = time.Second
	pollShare = 20
	// longest is the longest file that is read, in bytes.
	longest = 64 << 20
)

// patterns are all files that are read, as filepath.Glob has them.
var patterns = []string{
	veConfig, passwd, cpanelOwners, cpanelLimits, cpanelConfig, cpanelUsers, cpanelHold, cpanelSuspended,
	daOwners, daLimit, daUserLimits, daMailboxLimit, daMailboxes, daSingleLimits,
}

// A Follower reads the files of the panels below a root directory.
type Follower struct {
	root  string
	files map[string]*file
}

// A file is one that was read, and how it stood then.
type file struct {
	stamp follow.Stamp // of what is believed
	body  []byte       // nil: there is no such file
	seen  follow.Stamp // at the last look
	since time.Time    // when it was first seen so
}

// New returns a follower of the files below root, which is empty but in tests.
func New(root string) *Follower { return &Follower{root: root, files: map[string]*file{}} }

// Read is what the files say now, believed as they are: at a start there is
// nothing better to go by.
func (f *Follower) Read(now time.Time) settings.Panel {
	f.look(now, true)
	return f.understand()
}

// Run follows the files until ctx is done, and tells what they say whenever
// that has changed.
func (f *Follower) Run(ctx context.Context, told func(now time.Time, p settings.Panel)) error {
	events, lost, done := f.watch()
	defer done()
	next := time.NewTimer(polls)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
		case <-events:
			next.Reset(settles / 10) // a panel writes many files at once
			continue
		case <-next.C:
		}
		now := time.Now()
		changed, moving := f.look(now, false)
		if changed {
			told(now, f.understand())
		}
		wait := max(polls, pollShare*time.Since(now))
		if moving {
			wait = settles
		}
		next.Reset(wait)
	}
}

// watch has the kernel tell of changes where it can; the polls find the others.
func (f *Follower) watch() (events <-chan fsnotify.Event, lost <-chan error, done func()) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, nil, func() {}
	}
	for _, pattern := range patterns {
		if dir := filepath.Dir(f.root + pattern); !strings.Contains(dir, "*") {
			_ = w.Add(dir) // of a panel that is not installed there is none
		}
	}
	return w.Events, w.Errors, func() { w.Close() }
}

// look reads the files that have changed and stood still, or all at once, and
// tells whether one was read and whether one still moves.
func (f *Follower) look(now time.Time, atOnce bool) (changed, moving bool) {
	there := map[string]bool{}
	for _, pattern := range patterns {
		paths, _ := filepath.Glob(f.root + pattern) // the patterns are good
		for _, path := range paths {
			there[path] = true
			if f.files[path] == nil {
				f.files[path] = &file{since: now}
			}
		}
	}
	for path, known := range f.files {
		s := follow.Stamp{}
		if there[path] {
			s = stampOf(path)
		}
		if s != known.seen {
			known.seen, known.since = s, now
		}
		switch {
		case s == known.stamp:
		case !atOnce && now.Sub(known.since) < settles:
			moving = true
		default:
			changed = known.read(path) || changed
		}
	}
	var gone follow.Stamp
	maps.DeleteFunc(f.files, func(_ string, known *file) bool { return known.stamp == gone && known.seen == gone })
	return changed, moving
}

// read takes over a file as it was seen; one that cannot be read stays as it was.
func (f *file) read(path string) (changed bool) {
	f.stamp = f.seen
	body, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(body) > longest {
		return false
	}
	f.body = body
	return true
}

// stampOf is that of a regular file: what else has its name is not there.
func stampOf(path string) follow.Stamp {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return follow.Stamp{}
	}
	return follow.StampOf(info)
}

// understand works out what the files say, the lowest first.
func (f *Follower) understand() settings.Panel {
	r := &reading{Panel: settings.Panel{Blocks: map[string]settings.PanelBlock{}}, owners: map[string][]string{}}
	files := f.texts()
	each := func(pattern string, take func(text)) {
		for _, t := range files[pattern] {
			take(t)
		}
	}
	each(cpanelOwners, r.readOwners)
	each(daOwners, r.readOwners)
	users := map[string]string{}
	each(passwd, func(t text) { users = readUsers(t) })
	each(veConfig, func(t text) { r.readVE(t, users) })
	each(cpanelLimits, r.readLimits)
	each(cpanelConfig, r.readConfig)
	each(cpanelUsers, r.readUser)
	each(cpanelHold, func(t text) { r.readStopped(t, false) })
	each(cpanelSuspended, func(t text) { r.readStopped(t, true) })
	r.readDirectAdmin(files)
	return r.Panel
}

// texts are the files that there are, by the pattern that they match.
func (f *Follower) texts() map[string][]text {
	all := map[string][]text{}
	for _, path := range slices.Sorted(maps.Keys(f.files)) {
		known := f.files[path]
		if known.body == nil {
			continue
		}
		for _, pattern := range patterns {
			if ok, _ := filepath.Match(f.root+pattern, path); ok {
				all[pattern] = append(all[pattern], text{path, known.body})
				break
			}
		}
	}
	return all
}

// Assume has a configuration take from the panel what its file leaves open:
// whose the domains are, and which are local.
func Assume(c *config.Config, root string) {
	exists := func(path string) bool { _, err := os.Stat(root + path); return err == nil }
	switch {
	case exists(cpanelOwners) && root != "":
		c.Assume("identity.owners", root+cpanelOwners)
		c.Assume("identity.main_domains", root+"/etc/trueuserdomains")
		c.Assume("exim.local_domains", []string{root + "/etc/localdomains"})
	case !exists(cpanelOwners) && exists(daOwners):
		c.Assume("identity.owners", root+daOwners)
		c.Assume("exim.local_domains", []string{root + daDomains})
	}
}
