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
	"sluice/sidecar/follow"
)

const (
	// configSettles is how long the file must stand still before it is believed:
	// an editor that rewrites it in place leaves half of it for a moment.
	configSettles = 500 * time.Millisecond
	// configPoll is how often it is looked at where nothing tells of a change:
	// fsnotify does not see through symlinks, nor what comes over a network.
	configPoll = time.Second
)

// A configFile is the configuration file, followed while sluice runs.
type configFile struct {
	path  string
	read  func() (*config.Config, error)
	hup   chan os.Signal
	tell  func(hash string) // tells other nodes which configuration is read; nil without others
	known follow.Stamp      // as it was read last, or refused
}

// followConfig notes how the file stands, before it is read for the first time.
func followConfig(path string, read func() (*config.Config, error)) *configFile {
	f := &configFile{path: cmp.Or(path, config.DefaultPath), read: read, hup: make(chan os.Signal, 1)}
	f.known = f.look()
	signal.Notify(f.hup, syscall.SIGHUP)
	return f
}

func (f *configFile) look() follow.Stamp {
	info, err := os.Stat(f.path)
	if err != nil {
		return follow.Stamp{}
	}
	return follow.StampOf(info)
}

// run reads the file again when it has changed and stood still, and at once on
// SIGHUP, until ctx is done. Without fsnotify it polls.
func (f *configFile) run(ctx context.Context, p *engine.Engine) error {
	defer signal.Stop(f.hup)
	var events <-chan fsnotify.Event
	var lost <-chan error // of events: the poll finds what they would have told
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
			f.known = f.look()
			f.reload(p, time.Now())
			continue
		case <-lost:
		case <-events:
		case <-next.C:
		}
		now, stamp := time.Now(), f.look()
		if stamp != seen {
			seen, since = stamp, now
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

// reload puts the file in force as it is now, or has the policy say why not.
func (f *configFile) reload(p *engine.Engine, now time.Time) {
	config, err := f.read()
	if f.known.Size == 0 && p.Config().File() != "" && err == nil {
		// To forget all limits at once is nothing that anybody means.
		err = fmt.Errorf("%s: it is empty or gone; sluice goes on as before, and a restart would take the built-in values", f.path)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && p.Config().File() == "":
	case err != nil:
		p.RefuseConfig(err)
	default:
		if f.tell != nil {
			f.tell(config.Hash())
		}
		p.SetConfig(now, config)
	}
}
