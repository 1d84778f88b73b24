package eximconfig_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// A sink is the mail server of all remote domains: a real SMTP server that
// keeps what it is given.
type sink struct {
	addr *net.TCPAddr

	mu       sync.Mutex
	messages []sunk
	refused  map[string]int // codes by recipient
}

// A sunk message reached a sink.
type sunk struct {
	from string
	to   []string
	data string // header and body, as they came
	sum  string // of the body
}

func newSink(t testing.TB) *sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{addr: l.Addr().(*net.TCPAddr), refused: map[string]int{}}
	server := smtp.NewServer(s)
	server.Domain = "sink.example"
	server.ErrorLog = log.New(io.Discard, "", 0)
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return s
}

// route is the sink as a manualroute router names it.
func (s *sink) route() string { return fmt.Sprintf("127.0.0.1::%d", s.addr.Port) }

// refusing has the sink refuse a recipient with a code, or take it again with 0.
func (s *sink) refusing(rcpt string, code int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[rcpt] = code
}

// received are the messages so far.
func (s *sink) received() []sunk {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// recipients are those of all messages so far, sorted.
func (s *sink) recipients() []string {
	var to []string
	for _, m := range s.received() {
		to = append(to, m.to...)
	}
	slices.Sort(to)
	return to
}

// count is how many recipients have got their message.
func (s *sink) count() int { return len(s.recipients()) }

// NewSession is called by the SMTP server for each connection.
func (s *sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }

type sinkSession struct {
	sink *sink
	from string
	to   []string
}

func (c *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	c.from = from
	return nil
}

func (c *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.sink.mu.Lock()
	code := c.sink.refused[to]
	c.sink.mu.Unlock()
	if code != 0 {
		return &smtp.SMTPError{Code: code, Message: "the sink does not want it"}
	}
	c.to = append(c.to, to)
	return nil
}

func (c *sinkSession) Data(r io.Reader) error {
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	c.sink.messages = append(c.sink.messages, sunk{
		from: c.from, to: slices.Clone(c.to), data: string(data), sum: bodySum(data),
	})
	return nil
}

func (c *sinkSession) Reset()        { c.from, c.to = "", nil }
func (c *sinkSession) Logout() error { return nil }

// bodySum is the checksum of a message's body, whatever its line ends.
func bodySum(message []byte) string {
	message = bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
	_, body, _ := bytes.Cut(message, []byte("\n\n"))
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// header is a header field of a sunk message, "" if it has none.
func (m sunk) header(name string) string {
	for line := range strings.Lines(m.data) {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
