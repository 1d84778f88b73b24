package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/web"
)

// A kernel that does not tell the host's addresses once is asked again, until serve stops.
func TestAddressesAreFollowedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failed := 0
		n := &node{events: event.NewStream(event.Func(func(e event.Event) {
			if e.Kind == event.AddressesUnknown {
				failed++
			}
		}))}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		asked := 0
		ended := make(chan error, 1)
		go func() {
			ended <- n.followAddresses(ctx, func(ctx context.Context) error {
				if asked++; asked < 3 {
					return errors.New("no more sockets")
				}
				<-ctx.Done()
				return nil
			})
		}()
		time.Sleep(time.Minute)
		synctest.Wait()
		if asked != 3 || failed != 2 {
			t.Errorf("asked %d times, and told of %d failures", asked, failed)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

// A socket of systemd's that cannot be used is closed.
func TestUnusableSocketIsClosed(t *testing.T) {
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	n := &node{events: event.NewStream()}
	if err := n.listenPolicy(filepath.Join(dir, "s", "no-directory"), l, nil); err == nil {
		t.Error("a socket is served without its file")
	}
	if err := l.Close(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("it is open still: %v", err)
	}
}

// Systemd goes on to hand over a socket whose file was removed. Nobody would find it: another
// one is made, also where the file is that of one which sluice had made itself before.
func TestASocketOfSystemdWithoutItsFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for range 2 {
		os.Remove(path)
		n := &node{events: event.NewStream(), metrics: web.New(web.Options{})}
		if err := n.listenPolicy(path, l, nil); err != nil {
			t.Fatal(err)
		}
		made := n.fronts[0].socket
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		made.Close() // its file stays
	}
}
