package milter

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
)

// libraryLog is what the library has logged, which it must not: nobody reads it.
var libraryLog hosttest.Log

func TestMain(m *testing.M) {
	log.SetOutput(&libraryLog)
	hosttest.Shuffle()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if said := libraryLog.String(); said != "" {
			fmt.Println("the library has logged:", said)
			code = 1
		}
		os.Exit(code)
	}))
}

// An asker remembers what it was asked, and answers by the recipient.
type asker struct {
	mu      sync.Mutex
	asked   []sidecar.Request
	replies map[string]sidecar.Reply
}

func (a *asker) Ask(_ context.Context, _ time.Time, r sidecar.Request) sidecar.Reply {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.asked = append(a.asked, r)
	if r.Recipient == "panic@far.example" {
		panic("a bug")
	}
	return a.replies[r.Recipient+r.Recipients]
}

func (a *asker) questions() []sidecar.Request {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

// A served is a server at a unix socket, or one whose clients are pipes, for tests whose time is
// synctest's: there no client of a starved machine is late.
type served struct {
	*Server
	path  string
	pipes *hosttest.Pipes // nil: it has a unix socket
	log   hosttest.Log
	stop  func()
}

func serve(t testing.TB, a Asker, o Options) *served {
	t.Helper()
	s := &served{path: filepath.Join(t.TempDir(), "m")}
	ln, err := net.Listen("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	s.start(t, ln, a, o, hosttest.Patience())
	return s
}

func servePipes(t testing.TB, a Asker) *served {
	s := &served{pipes: hosttest.NewPipes()}
	s.start(t, s.pipes, a, Options{}, time.Hour)
	return s
}

// start has it serve until the test ends, and stop within a time.
func (s *served) start(t testing.TB, ln net.Listener, a Asker, o Options, within time.Duration) {
	o.Events = event.NewStream(event.NewLog(slog.New(slog.NewTextHandler(&s.log, nil))))
	s.Server = New(a, o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, ln) }()
	s.stop = sync.OnceFunc(func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(within):
			t.Error("the server does not stop")
		}
		if n := s.Open(); n > 0 {
			t.Errorf("%d connections left", n)
		}
	})
	t.Cleanup(s.stop)
}

// An mta speaks the protocol.
type mta struct {
	net.Conn
	t testing.TB
}

func (s *served) dial(t testing.TB) *mta {
	t.Helper()
	if s.pipes != nil {
		here := s.pipes.Dial()
		t.Cleanup(func() { here.Close() })
		here.SetDeadline(time.Now().Add(2 * time.Hour)) // by the clock of synctest, and longer than any client may stay
		return &mta{here, t}
	}
	nc, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(hosttest.Patience()))
	return &mta{nc, t}
}

// frame is a command with its data.
func frame(command byte, data string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(1+len(data)))) + string(command) + data
}

func offers(version, actions, protocol uint32) string {
	b := binary.BigEndian.AppendUint32(nil, version)
	return frame('O', string(binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, actions), protocol)))
}

func macros(command byte, pairs ...string) string {
	data := string(command)
	for _, p := range pairs {
		data += p + "\x00"
	}
	return frame('D', data)
}

// read reads an answer, without its length.
func (m *mta) read() string {
	m.t.Helper()
	b, err := readFrame(m)
	if err != nil {
		m.t.Fatal(err)
	}
	return b
}

func readFrame(r io.Reader) (string, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return "", err
	}
	b := make([]byte, binary.BigEndian.Uint32(head[:]))
	_, err := io.ReadFull(r, b)
	return string(b), err
}

// say sends frames and reads as many answers as are wanted.
func (m *mta) say(frames string, want ...string) {
	m.t.Helper()
	if _, err := io.WriteString(m, frames); err != nil {
		m.t.Fatal(err)
	}
	for _, w := range want {
		if got := m.read(); got != w {
			m.t.Fatalf("to %q answered %q, want %q", frames, got, w)
		}
	}
}

// all is every bit of an offer, but for those by which the MTA waits for no answer.
const all = 0x1fffff &^ uint32(unanswered)

// connect begins a connection as Postfix does.
func (s *served) connect(t testing.TB) *mta {
	t.Helper()
	m := s.dial(t)
	m.say(offers(6, all, all))
	m.read()
	m.say(macros('C', "j", "pf.example", "{daemon_name}", "pf.example")+frame('C', "client.example\x004\x12\x67192.0.2.17\x00"), "c")
	return m
}

// ended reports whether the server closes the connection.
func (m *mta) unregister() bool {
	_, err := io.Copy(io.Discard, m)
	return err == nil || !os.IsTimeout(err)
}

// Open returns the number of connections now.
func (s *Server) Open() int { return s.each(func(*wire) {}) }

// stays is how long the server keeps the connection.
func (m *mta) stays() time.Duration {
	began := time.Now()
	io.Copy(io.Discard, m)
	return time.Since(began)
}
