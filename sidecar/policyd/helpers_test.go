package policyd

import (
	"cmp"
	"context"
	"io"
	"net"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// askFunc is an Asker that needs neither context nor time.
type askFunc func(sidecar.Request) sidecar.Reply

func (f askFunc) Ask(_ context.Context, _ time.Time, r sidecar.Request) sidecar.Reply { return f(r) }

// patient are options with which no client is cut off for being slow, where o does not say when:
// on a starved machine one who behaves well is slow too.
func patient(o Options) Options {
	o.RequestTimeout, o.WriteTimeout = cmp.Or(o.RequestTimeout, 2*hosttest.Patience()), cmp.Or(o.WriteTimeout, 2*hosttest.Patience())
	return o
}

// serve runs a server on a unix socket at path until the test ends.
func serve(tb testing.TB, path string, asker Asker, opts Options) *Server {
	tb.Helper()
	ln, err := Listen(path)
	if err != nil {
		tb.Fatal(err)
	}
	s := New(asker, patient(opts))
	stop := run(tb, s, ln)
	tb.Cleanup(stop)
	return s
}

// listenAt listens at path until the test ends.
func listenAt(t *testing.T, path string) *net.UnixListener {
	t.Helper()
	ln, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// run serves on ln; the function it returns stops that and waits.
func run(tb testing.TB, s *Server, ln net.Listener) (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	return func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				tb.Error(err)
			}
			ended <- nil // stop may be called again
		case <-time.After(20 * time.Minute): // also by the clock of synctest
			tb.Error("the server does not stop")
		}
	}
}

// BenchmarkAnswer measures a question without its connection.
func BenchmarkAnswer(b *testing.B) {
	s := New(askFunc(func(sidecar.Request) sidecar.Reply { return sidecar.Reply{} }), Options{})
	whole, err := AppendRequest(nil, []Field{
		{"stage", "data"}, {"id", "1xUzSN-0005dd-0q"}, {"sender", "news@tenant17.example"},
		{"recipients", "a@far.example.net, b@far.example.net"}, {"auth", "news@tenant17.example"},
		{"login", ""}, {"uid", ""}, {"cwd", ""}, {"script", ""}, {"client_address", "192.0.2.17"},
	})
	if err != nil {
		b.Fatal(err)
	}
	raw, out, now := make([]byte, len(whole)-1), make([]byte, 0, 160), time.Now()
	b.ReportAllocs()
	for b.Loop() {
		copy(raw, whole) // answer decodes in place
		if _, err := s.answer(b.Context(), now, new(conn), raw, out); err != nil {
			b.Fatal(err)
		}
	}
}

// exchangeOnce asks one question and returns the answer.
func exchangeOnce(t *testing.T, nc net.Conn, question string) string {
	t.Helper()
	nc.SetDeadline(time.Now().Add(hosttest.Patience()))
	if _, err := io.WriteString(nc, question); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2000)
	n, err := nc.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}
