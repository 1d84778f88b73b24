package policyd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

func logTo(w io.Writer) event.Sink { return event.NewLog(slog.New(slog.NewTextHandler(w, nil))) }

func TestClientAsks(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var got sidecar.Request
	serve(t, path, askFunc(func(r sidecar.Request) sidecar.Reply {
		got = r
		return sidecar.Reply{Room: 3}
	}), Options{})
	c := Client{Path: path}
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
	listen(t, filepath.Join(dir, "hangs"))
	serve(t, filepath.Join(dir, "closes"), accepting, Options{})
	reply := func(name, text string) {
		ln := listen(t, filepath.Join(dir, name))
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
	for _, name := range []string{"closes", "talks", "stops"} {
		if err := ask(t.Context(), name); err == nil {
			t.Errorf("server that %s: no error", name)
		}
	}
}
