package hosttest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"log"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-smtp"
)

// A Sink is the mail server of all remote domains: a real SMTP server that stores what it
// receives.
type Sink struct {
	Port int

	mu       sync.Mutex
	messages []Message
	refused  map[string]*smtp.SMTPError // by recipient
}

// A Message was received by a Sink.
type Message struct {
	From string
	To   []string
	Data string // header and body, as received
	Sum  string // of the body
}

// NewSink starts a sink on 127.0.0.1 that ends with the test.
func NewSink(t testing.TB) *Sink {
	t.Helper()
	return NewSinkOn(t, "127.0.0.1:0")
}

// NewSinkOn is NewSink on another address.
func NewSinkOn(t testing.TB, address string) *Sink {
	t.Helper()
	l, err := net.Listen("tcp", address)
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

// Refuse has the sink refuse a recipient with a code and a text.
func (s *Sink) Refuse(recipient string, code int, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.refused[recipient] = &smtp.SMTPError{Code: code, Message: text}
}

// Accept has the sink accept a recipient again.
func (s *Sink) Accept(recipient string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refused, recipient)
}

// Received returns the messages so far.
func (s *Sink) Received() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.messages)
}

// Recipients returns the recipients of all messages so far, sorted.
func (s *Sink) Recipients() []string {
	var to []string
	for _, m := range s.Received() {
		to = append(to, m.To...)
	}
	slices.Sort(to)
	return to
}

// Count returns how many recipients have got their message.
func (s *Sink) Count() int { return len(s.Recipients()) }

// NewSession is called by the SMTP server for each connection.
func (s *Sink) NewSession(*smtp.Conn) (smtp.Session, error) { return &sinkSession{sink: s}, nil }

type sinkSession struct {
	sink *Sink
	from string
	to   []string
}

func (c *sinkSession) Mail(from string, _ *smtp.MailOptions) error {
	c.from = from
	return nil
}

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
	data, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	c.sink.mu.Lock()
	defer c.sink.mu.Unlock()
	c.sink.messages = append(c.sink.messages, Message{
		From: c.from, To: slices.Clone(c.to), Data: string(data), Sum: BodySum(data),
	})
	return nil
}

func (c *sinkSession) Reset()        { c.from, c.to = "", nil }
func (c *sinkSession) Logout() error { return nil }

// BodySum returns the checksum of a message's body, with any line ends.
func BodySum(message []byte) string {
	message = bytes.ReplaceAll(message, []byte("\r\n"), []byte("\n"))
	_, body, _ := bytes.Cut(message, []byte("\n\n"))
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:])
}

// Header returns a header field of the message, "" if there is none.
func (m Message) Header(name string) string {
	for line := range strings.Lines(m.Data) {
		if v, ok := strings.CutPrefix(line, name+": "); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
