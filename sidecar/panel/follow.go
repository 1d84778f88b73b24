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
	"unicode"

	"github.com/fsnotify/fsnotify"

	"sluice/sidecar/config"
	"sluice/sidecar/follow"
	"sluice/sidecar/settings"
)

const (
	// settleTime is how long a file must be unchanged before it is read, because panels
	// also rewrite files in place.
	settleTime = 300 * time.Millisecond
	// pollEvery is how often files are checked without a notice of the kernel. On a slow
	// machine they are checked less often: waits are pollCost times as long as a check.
	pollEvery = time.Second
	pollCost  = 20
	// maxSize is the largest file that is read, in bytes.
	maxSize = 64 << 20
)

// patterns are all files that are read, as patterns for filepath.Glob.
var patterns = []string{
	veConfig, passwd, cpanelOwners, cpanelLimits, cpanelConfig, cpanelUsers, cpanelHold, cpanelSuspended,
	daOwners, daLimit, daUserLimits, daMailboxLimit, daMailboxes, daSingleLimits,
}

// A Follower reads the files of the panels below a root directory.
type Follower struct {
	root  string
	files map[string]*file
}

// A file is one that was read, with its state then.
type file struct {
	stamp follow.Stamp // of body
	body  []byte       // nil if there is no such file
	seen  follow.Stamp // at the last check
	since time.Time    // since when seen is unchanged
}

// New returns a follower of the files below root, which is empty except in tests.
func New(root string) *Follower { return &Follower{root: root, files: map[string]*file{}} }

// Read reads all files now, also those that have just changed: at a start there is nothing
// older to go by.
func (f *Follower) Read(now time.Time) settings.Panel {
	f.refresh(now, true)
	return f.parse()
}

// Run follows the files until ctx is done, and calls changed whenever what they say has
// changed.
func (f *Follower) Run(ctx context.Context, changed func(now time.Time, p settings.Panel)) error {
	events, lost, done := f.watch()
	defer done()
	next := time.NewTimer(pollEvery)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-lost:
		case <-events:
			next.Reset(settleTime / 10) // a panel writes many files at once
			continue
		case <-next.C:
		}
		now := time.Now()
		read, moving := f.refresh(now, false)
		if read {
			changed(now, f.parse())
		}
		wait := max(pollEvery, pollCost*time.Since(now))
		if moving {
			wait = settleTime
		}
		next.Reset(wait)
	}
}

// watch has the kernel notify of changes where it can; polling finds the others.
func (f *Follower) watch() (events <-chan fsnotify.Event, lost <-chan error, done func()) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, nil, func() {}
	}
	for _, pattern := range patterns {
		if dir := filepath.Dir(f.root + pattern); !strings.Contains(dir, "*") {
			_ = w.Add(dir) // fails for a panel that is not installed
		}
	}
	return w.Events, w.Errors, func() { w.Close() }
}

// refresh reads the files that have changed and then stood still, or with atOnce all that
// have changed. It reports whether it read one, and whether one is still changing.
func (f *Follower) refresh(now time.Time, atOnce bool) (changed, moving bool) {
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
		case !atOnce && now.Sub(known.since) < settleTime:
			moving = true
		default:
			changed = known.read(path) || changed
		}
	}
	var gone follow.Stamp
	maps.DeleteFunc(f.files, func(_ string, known *file) bool { return known.stamp == gone && known.seen == gone })
	return changed, moving
}

// read reads a file. One that cannot be read keeps its old content.
func (f *file) read(path string) (changed bool) {
	f.stamp = f.seen
	body, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) || len(body) > maxSize {
		return false
	}
	f.body = body
	return true
}

// stampOf returns the stamp of a regular file. Anything else of that name counts as no
// file.
func stampOf(path string) follow.Stamp {
	info, err := os.Stat(path)
	if err != nil || !info.Mode().IsRegular() {
		return follow.Stamp{}
	}
	return follow.StampOf(info)
}

// parse parses the files. Where two set the same, the one that is parsed later wins.
func (f *Follower) parse() settings.Panel {
	r := &parser{Panel: settings.Panel{Blocks: map[string]settings.PanelBlock{}}, owners: map[string][]string{}}
	files := f.texts()
	each := func(pattern string, read func(text)) {
		for _, t := range files[pattern] {
			read(t)
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
	each(cpanelHold, func(t text) { r.readBlocked(t, false) })
	each(cpanelSuspended, func(t text) { r.readBlocked(t, true) })
	r.readDirectAdmin(files)
	return r.Panel
}

// texts returns the files that exist, by the pattern that they match.
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

// cpanelLocks is the lock directory on hosts with cPanel. Its own limiter, which is on as soon as WHM
// has limits, makes and removes files in /var/cpanel/email_send_limits.
const cpanelLocks = "/var/cpanel/sluice/email_send_limits"

// Assume gives a configuration the panel's values for what its file leaves open: the
// owners of domains, which domains are local, where Exim logs, a lock directory that is not the
// panel's, and whom to tell of incidents.
func Assume(c *config.Config, root string) {
	exists := func(path string) bool { _, err := os.Stat(root + path); return err == nil }
	switch {
	case exists("/var/cpanel/cpanel.config"):
		c.SetUnlessInFile("exim.mainlog", root+"/var/log/exim_mainlog")
		c.SetUnlessInFile("locks.dir", root+cpanelLocks)
	case exists("/usr/local/directadmin"):
		c.SetUnlessInFile("exim.mainlog", root+"/var/log/exim/mainlog")
	}
	switch {
	case exists(cpanelOwners) && root != "":
		c.SetUnlessInFile("identity.owners", root+cpanelOwners)
		c.SetUnlessInFile("identity.main_domains", root+"/etc/trueuserdomains")
		c.SetUnlessInFile("exim.local_domains", []string{root + "/etc/localdomains"})
	case !exists(cpanelOwners) && exists(daOwners):
		c.SetUnlessInFile("identity.owners", root+daOwners)
		c.SetUnlessInFile("exim.local_domains", []string{root + daDomains})
	}
	if to := contacts(root + cpanelContacts); len(to) > 0 {
		c.SetUnlessInFile("alert.to", to)
	}
}

// contacts are the channels of alert.to by which the contacts of a cPanel host are told, who
// stand in WHM's wwwacct.conf: "CONTACTEMAIL ops@example.net", several with commas.
func contacts(file string) (channels []any) {
	text, _ := os.ReadFile(file) // only cPanel has it
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.ReplaceAll(strings.TrimSpace(line), "\t", " "), " ")
		if name != "CONTACTEMAIL" {
			continue
		}
		for to := range strings.FieldsFuncSeq(value, func(r rune) bool { return r == ',' || unicode.IsSpace(r) }) {
			channels = append(channels, map[string]any{"mail": to})
		}
	}
	return channels
}
