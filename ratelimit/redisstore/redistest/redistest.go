package redistest

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"sluice/sidecar/hosttest"
)

// A Server is a redis-server of a test, on loopback and on a unix socket. It
// keeps nothing over a restart, unless its arguments say so.
type Server struct {
	Dir      string
	Port     int
	Password string // which Do gives

	t    testing.TB
	args []string
	cmd  *exec.Cmd
	end  func() // kills it
}

// Quiet has go-redis log nothing: tests stop servers on purpose.
var Quiet = sync.OnceFunc(logging.Disable)

// Start starts a server, killed at the end of the test.
func Start(t testing.TB, args ...string) *Server { return start(t, "", args...) }

func start(t testing.TB, password string, args ...string) *Server {
	t.Helper()
	Quiet()
	s := &Server{t: t, Password: password, Dir: t.TempDir(), Port: hosttest.FreePort(t), args: args}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// Start starts it, again after a Kill.
func (s *Server) Start() {
	s.t.Helper()
	args := append([]string{"--port", fmt.Sprint(s.Port), "--bind", "127.0.0.1", "--unixsocket", filepath.Join(s.Dir, "s"),
		"--save", "", "--dir", s.Dir, "--logfile", filepath.Join(s.Dir, "log"), "--daemonize", "no"}, s.args...)
	s.exec("redis-server", args...)
	c := s.Client()
	defer c.Close()
	hosttest.Eventually(s.t, "redis-server", func() bool { return c.Ping(context.Background()).Err() == nil })
}

// exec starts its program. It ends with the test process at the latest.
func (s *Server) exec(program string, args ...string) {
	s.t.Helper()
	s.cmd = exec.Command(hosttest.Program(s.t, program), args...)
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.end = hosttest.Guard(s.t, s.cmd.Process)
}

// Kill ends the server at once, as kill -9 does.
func (s *Server) Kill() {
	if s.cmd != nil {
		s.end()
		s.cmd.Wait()
		s.cmd = nil
	}
}

// Addr is its host and port.
func (s *Server) Addr() string { return fmt.Sprintf("127.0.0.1:%d", s.Port) }

// URL is a store.url that leads to it.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Client returns a client for the test, over the unix socket: it works in whatever
// network namespace the server is, and waits as long as the machine takes. It dials again if
// the test itself had no turn while it dialed: nothing was sent yet.
func (s *Server) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Network: "unix", Addr: s.Socket(), Password: s.Password, Protocol: 2, DisableIdentity: true, DialerRetries: 3, DialerRetryTimeout: 10 * time.Millisecond, MaxRetries: -1,
		DialTimeout: hosttest.Patience(), ReadTimeout: hosttest.Patience(), WriteTimeout: hosttest.Patience()})
}

// Do runs a command as given on a command line.
func (s *Server) Do(command ...any) any {
	s.t.Helper()
	c := s.Client()
	defer c.Close()
	v, err := c.Do(context.Background(), command...).Result()
	if err != nil && err != redis.Nil {
		s.t.Fatalf("%v: %v", command, err)
	}
	return v
}

// Socket is its unix socket.
func (s *Server) Socket() string { return filepath.Join(s.Dir, "s") }

// Freeze stops the server with SIGSTOP until Thaw.
func (s *Server) Freeze() { s.cmd.Process.Signal(syscall.SIGSTOP) }

// Thaw continues the server.
func (s *Server) Thaw() { s.cmd.Process.Signal(syscall.SIGCONT) }
