package eximconfig_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A question is what Exim asked, by attribute, decoded.
type question map[string]string

// A responder stands in for Sluice where a test needs certain replies, or
// replies that Sluice would never give.
type responder struct {
	mu        sync.Mutex
	questions []question
	listener  net.Listener
	conns     map[net.Conn]bool
	accepted  int
	wg        sync.WaitGroup
}

// respond answers each question with what answer says, as it is but for the number of the
// question in its last line.
func (h *host) respond(t *testing.T, answer func(question) string) *responder {
	t.Helper()
	r := h.serve(t, nil)
	r.wg.Go(func() {
		r.accept(func(c net.Conn) {
			in := bufio.NewReader(c)
			for {
				q, err := readQuestion(in)
				if err != nil {
					return
				}
				r.mu.Lock()
				r.questions = append(r.questions, q)
				r.mu.Unlock()
				if _, err := io.WriteString(c, numberedAs(q, answer(q))); err != nil {
					return
				}
			}
		})
	})
	return r
}

// numberedAs is a reply with the number of a question.
func numberedAs(q question, reply string) string {
	text, ended := strings.CutSuffix(reply, "\n\n")
	if !ended {
		return reply
	}
	return text + "\nnumber=" + q["number"] + "\n\n"
}

// serve listens where Exim asks. handle, unless nil, has each connection.
func (h *host) serve(t *testing.T, handle func(net.Conn)) *responder {
	t.Helper()
	r := &responder{listener: h.listen(t), conns: map[net.Conn]bool{}}
	t.Cleanup(r.close)
	if handle != nil {
		r.wg.Go(func() { r.accept(handle) })
	}
	return r
}

func (h *host) listen(t *testing.T) net.Listener {
	t.Helper()
	network, address := "unix", h.path(policySocket)
	if h.way == "tcp" {
		network, address = "tcp", fmt.Sprintf("127.0.0.1:%d", h.tcpPort)
	} else {
		os.Remove(address)
	}
	l, err := net.Listen(network, address)
	if err == nil && network == "unix" {
		err = os.Chmod(address, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// shrinkBacklog makes a listener's backlog so short that it can be filled.
func shrinkBacklog(t *testing.T, l syscall.Conn, n int) {
	t.Helper()
	raw, err := l.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	if cerr := raw.Control(func(fd uintptr) { err = syscall.Listen(int(fd), n) }); cerr != nil || err != nil {
		t.Fatal(cerr, err)
	}
}

func (r *responder) accept(handle func(net.Conn)) {
	for {
		c, err := r.listener.Accept()
		if err != nil {
			return
		}
		r.mu.Lock()
		r.conns[c] = true
		r.accepted++
		r.mu.Unlock()
		r.wg.Go(func() {
			defer r.hangUp(c)
			handle(c)
		})
	}
}

func (r *responder) hangUp(c net.Conn) {
	c.Close()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.conns, c)
}

// close stops listening and ends all connections. The socket file goes too.
func (r *responder) close() {
	r.listener.Close()
	r.hangUpAll()
	r.wg.Wait()
}

// hangUpAll ends all connections, as a restart of the server would.
func (r *responder) hangUpAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for c := range r.conns {
		c.Close()
	}
}

// die ends like a process killed by kill -9: the socket file stays.
func (r *responder) die() {
	if l, ok := r.listener.(*net.UnixListener); ok {
		l.SetUnlinkOnClose(false)
	}
	r.close()
}

// asked are the questions so far at a stage, or at all of them for "".
func (r *responder) asked(stage string) []question {
	r.mu.Lock()
	defer r.mu.Unlock()
	var qs []question
	for _, q := range r.questions {
		if stage == "" || q["stage"] == stage {
			qs = append(qs, q)
		}
	}
	return qs
}

// connections is how many were made so far.
func (r *responder) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.accepted
}

// readQuestion reads one request. It is as strict as Sluice.
func readQuestion(in *bufio.Reader) (question, error) {
	q := question{}
	encoded := false
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return nil, err
		}
		if line == "\n" {
			return q, nil
		}
		name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if _, twice := q[name]; !ok || twice {
			q["malformed"] += line
		}
		if encoded {
			plain, err := base64.StdEncoding.DecodeString(value)
			if err != nil {
				q["malformed"] += line
			}
			value = string(plain)
		}
		encoded = encoded || name == "encoding"
		q[name] = value
	}
}

// pass lets everything pass that has room for n recipients.
func pass(room string) func(question) string {
	return func(q question) string {
		switch q["stage"] {
		case "rcpt":
			return "action=DUNNO\nroom=" + room + "\n\n"
		case "data", "local":
			return "action=DUNNO\ncharged=yes\n\n"
		default:
			return "action=DUNNO\n\n"
		}
	}
}
