package mtatest

import (
	"io"
	"log"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// A Sink is the mail server of remote domains: a real SMTP server that keeps the
// recipients of what it is given.
type Sink struct {
	Port int

	mu      sync.Mutex
	refused map[string]*smtp.SMTPError
	got     []string
	bodies  []string
}

// NewSink starts a sink that ends with the test.
func NewSink(t testing.TB) *Sink {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Sink{Port: l.Addr().(*net.TCPAddr).Port, refused: map[string]*smtp.SMTPError{}}
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

// Refuse has the sink refuse a recipient, or with code 0 take it again.
func (s *Sink) Refuse(recipient string, code int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refused, recipient)
	if code != 0 {
		s.refused[recipient] = &smtp.SMTPError{Code: code, EnhancedCode: smtp.EnhancedCode{code / 100, 2, 0}, Message: text}
	}
}

// Got are the recipients so far, sorted.
func (s *Sink) Got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.got))
}

// Bodies are the messages so far.
func (s *Sink) Bodies() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.bodies)
}

// NewSession is called by the SMTP server.
func (s *Sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }

type sinkSession struct {
	sink *Sink
	to   []string
}

func (c *sinkSession) Mail(string, *smtp.MailOptions) error { return nil }

func (c *sinkSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	if refusal := c.sink.refused[to]; refusal != nil {
		return refusal
	}
	c.to = append(c.to, to)
	return nil
}

func (c *sinkSession) Data(r io.Reader) error {
	body, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	c.sink.got = append(c.sink.got, c.to...)
	c.sink.bodies = append(c.sink.bodies, string(body))
	return nil
}

func (c *sinkSession) Reset()        { c.to = nil }
func (c *sinkSession) Logout() error { return nil }
