package main

import (
	"context"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"sluice/sidecar/event"
)

// socketEvery is how often a front looks whether the file of its socket is still there.
const socketEvery = time.Second

// A socketFile is the file of a unix socket, by which its clients find it. Whoever empties
// /run, or deletes what looks old, may remove it: all goes on, and nobody can ask any more.
type socketFile struct {
	path string
	make func() (net.Listener, error) // listens there again
}

// serveOn serves a front until ctx is done. If the file of its socket is removed or replaced, it
// makes the file again and serves there too, in another goroutine that run starts.
func (f front) serveOn(ctx context.Context, run func(func() error), events event.Sink) error {
	if f.file.path != "" {
		run(func() error { return f.keepSocket(ctx, run, events) })
	}
	return f.serve(ctx, f.socket)
}

// keepSocket makes the file of a socket again whenever it is missing or another one.
func (f front) keepSocket(ctx context.Context, run func(func() error), events event.Sink) error {
	ours, _ := os.Lstat(f.file.path)
	tick := time.NewTicker(socketEvery)
	defer tick.Stop()
	for told := false; ; {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if now, err := os.Lstat(f.file.path); err == nil && ours != nil && os.SameFile(ours, now) {
			continue
		}
		l, err := f.file.make()
		if err != nil {
			if !told {
				events.Emit(event.Event{Kind: event.SocketGone, Err: err, Attrs: event.Attrs("socket", f.file.path)})
			}
			told = true
			continue
		}
		ours, _ = os.Lstat(f.file.path)
		told = false
		events.Emit(event.Event{Kind: event.SocketRemade, Attrs: event.Attrs("socket", f.file.path)})
		run(func() error { return f.serve(ctx, l) })
	}
}

// deaf reports whether nobody listens behind the file of a socket that systemd has opened:
// it was removed, and perhaps made again by a process that has ended.
func deaf(path string) bool {
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		c.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, os.ErrNotExist)
}
