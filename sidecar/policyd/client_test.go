package policyd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
)

func logTo(w io.Writer) event.Sink { return event.NewLog(slog.New(slog.NewTextHandler(w, nil))) }

func TestClientAsks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var got sidecar.Request
	serve(t, path, askFunc(func(r sidecar.Request) sidecar.Reply {
		got = r
		return sidecar.Reply{Room: 3}
	}), Options{})
	c := Client{Path: path, Timeout: hosttest.Patience()}
	reply, err := c.Ask(t.Context(), []Field{{"stage", "rcpt"}, {"sender", "a\n\n=b@x"}, {"sent", "4"}})
	if err != nil || reply != "action=DUNNO\nroom=3" {
		t.Errorf("reply %q, %v", reply, err)
	}
	if want := (sidecar.Request{Stage: "rcpt", Sender: "a\n\n=b@x", Sent: 4}); got != want {
		t.Errorf("asked %+v, want %+v", got, want)
	}
	if _, err := c.Ask(t.Context(), []Field{{"a=b", ""}}); err == nil {
		t.Error("a name with = in it was sent")
	}
}

func TestClientWithoutAnswer(t *testing.T) {
	dir := t.TempDir()
	listenAt(t, filepath.Join(dir, "hangs"))
	serve(t, filepath.Join(dir, "closes"), accepting, Options{})
	reply := func(name, text string) {
		ln := listenAt(t, filepath.Join(dir, name))
		go func() {
			for {
				nc, err := ln.Accept()
				if err != nil {
					return
				}
				nc.Read(make([]byte, 1000))
				io.WriteString(nc, text)
				nc.Close()
			}
		}()
	}
	reply("talks", strings.Repeat("x", 1<<20))
	reply("stops", "action=DUNNO\n")
	reply("answers another question", "action=DUNNO\nnumber=0\n\n")
	reply("is older", "action=DUNNO\nroom=1\n\n")
	ask := func(ctx context.Context, name string) error {
		c := Client{Path: filepath.Join(dir, name), Timeout: 50 * time.Millisecond}
		_, err := c.Ask(ctx, []Field{{"stage", "nowhere"}})
		return err
	}
	if err := ask(t.Context(), "hangs"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("server that hangs: %v", err)
	}
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ask(cancelled, "hangs"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	var op *net.OpError
	if err := ask(t.Context(), "absent"); !errors.As(err, &op) {
		t.Errorf("absent server: %v", err)
	}
	for _, name := range []string{"closes", "talks", "stops", "answers another question", "is older"} {
		if err := ask(t.Context(), name); err == nil {
			t.Errorf("server that %s: no error", name)
		}
	}
}

// S-09: a queue of connections that is full for a moment is no reason to give up.
func TestClientWaitsForItsTurn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	ln := listenAt(t, path)
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { syscall.Listen(int(fd), 0) }) // a queue of one
	ahead, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ahead.Close()
	if _, err := net.Dial("unix", path); !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("the queue is not full: %v", err)
	}
	ask := func(timeout time.Duration) error {
		_, err := (&Client{Path: path, Timeout: timeout}).Ask(t.Context(), []Field{{"stage", "rcpt"}})
		return err
	}
	if err := ask(50 * time.Millisecond); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("did not wait until its deadline: %v", err)
	}
	t.Cleanup(run(t, New(accepting, patient(Options{})), ln))
	if err := ask(hosttest.Patience()); err != nil {
		t.Error(err)
	}
}
