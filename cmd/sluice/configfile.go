package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/fsnotify/fsnotify"

	"sluice/sidecar/config"
	"sluice/sidecar/engine"
	"sluice/sidecar/exim"
	"sluice/sidecar/follow"
)

const (
	// configSettles is how long the file must be unchanged before it is read: an editor
	// that rewrites it in place leaves half of it for a moment.
	configSettles = 500 * time.Millisecond
	// configPoll is how often it is checked without a notice of the kernel, which does not
	// notice changes behind symlinks or on a network file system.
	configPoll = time.Second
)

// A configFile is the configuration file, followed while sluice runs.
type configFile struct {
	path     string
	read     func() (*config.Config, error)
	hup      chan os.Signal
	exim     *exim.LastLists   // sets what the file leaves open
	lists    chan struct{}     // what Exim says of local domains and relays is another than before
	announce func(hash string) // announces to other nodes which configuration is in force; nil without others
	known    follow.Stamp      // as last read, in force or refused
}

// followConfig notes the state of the file before it is read for the first time.
func followConfig(path string, read func() (*config.Config, error)) *configFile {
	f := &configFile{path: cmp.Or(path, config.DefaultPath), read: read, hup: make(chan os.Signal, 1), lists: make(chan struct{}, 1)}
	f.known = f.stamp()
	signal.Notify(f.hup, syscall.SIGHUP)
	return f
}

func (f *configFile) stamp() follow.Stamp {
	info, err := os.Stat(f.path)
	if err != nil {
		return follow.Stamp{}
	}
	return follow.StampOf(info)
}

// run reads the file again when it has changed and then stood still, and at once on
// SIGHUP, until ctx is done. Without fsnotify it only polls.
func (f *configFile) run(ctx context.Context, p *engine.Engine) error {
	defer signal.Stop(f.hup)
	var events <-chan fsnotify.Event
	var lost <-chan error // errors of the watcher: polling finds what it missed
	if w, err := fsnotify.NewWatcher(); err == nil {
		defer w.Close()
		if w.Add(filepath.Dir(f.path)) == nil {
			events, lost = w.Events, w.Errors
		}
	}
	seen, since := f.known, time.Now()
	next := time.NewTimer(configPoll)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-f.hup:
			f.known = f.stamp()
			f.reload(p, time.Now())
			continue
		case <-f.lists:
			if f.stamp() == f.known { // else it is read soon
				f.reload(p, time.Now())
			}
			continue
		case <-lost:
		case <-events:
		case <-next.C:
		}
		now, stamp := time.Now(), f.stamp()
		if stamp != seen {
			seen, since = stamp, time.Now() // it may have changed after now
		}
		wait := configPoll
		switch still := now.Sub(since); {
		case stamp == f.known:
		case still < configSettles:
			wait = configSettles - still
		default:
			f.known = stamp
			f.reload(p, now)
		}
		next.Reset(wait)
	}
}

// listsChanged has the file read again, which takes from Exim what it does not set.
func (f *configFile) listsChanged() {
	select {
	case f.lists <- struct{}{}:
	default: // that is already due
	}
}

// reload puts the file in force as it is now, or reports why it is not.
func (f *configFile) reload(p *engine.Engine, now time.Time) {
	config, err := f.read()
	if err == nil && f.exim != nil {
		addLastLists(config, f.exim)
	}
	if f.known.Size == 0 && p.Config().File() != "" && err == nil {
		// Nobody means to drop all limits at once.
		err = fmt.Errorf("%s: it is empty or gone; sluice goes on as before, and a restart would take the built-in values", f.path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.Config().File() == "":
	case err != nil:
		p.RefuseConfig(err)
	default:
		if f.announce != nil {
			f.announce(config.Hash())
		}
		p.SetConfig(now, config)
	}
}
