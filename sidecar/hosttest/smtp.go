package hosttest

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A Client is an SMTP client that returns each reply.
type Client struct {
	Slowest time.Duration // longest time of a command so far

	t testing.TB
	w io.Writer
	r *bufio.Reader
}

// A Reply is the server's reply to one command.
type Reply struct {
	Code int
	Text string // unfolded, with the enhanced code: "4.7.1 Domain ..."
}

func (r Reply) String() string { return fmt.Sprintf("%d %s", r.Code, r.Text) }

// Dial connects to a server on TCP and says EHLO.
func Dial(t testing.TB, address string) *Client {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * Patience()))
	return NewClient(t, conn, conn)
}

// NewClient reads and writes the connection of a server, and says EHLO.
func NewClient(t testing.TB, r io.Reader, w io.Writer) *Client {
	t.Helper()
	c := &Client{t: t, w: w, r: bufio.NewReader(r)}
	c.Want(c.Reply(), 220)
	c.Want(c.Cmd("EHLO client.example"), 250)
	return c
}

// In returns the client for a subtest, which fails instead of the test.
func (c *Client) In(t testing.TB) *Client {
	within := *c
	within.t = t
	return &within
}

// Login authenticates, with the password "secret".
func (c *Client) Login(id string) *Client {
	c.t.Helper()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + id + "\x00secret"))
	c.Want(c.Cmd("AUTH PLAIN %s", plain), 235)
	return c
}

// Cmd sends one command and returns the reply.
func (c *Client) Cmd(format string, args ...any) Reply {
	c.t.Helper()
	return c.Timed(fmt.Sprintf(format, args...) + "\r\n")
}

// Timed sends text and returns the reply.
func (c *Client) Timed(text string) Reply {
	c.t.Helper()
	start := time.Now()
	c.Write(text)
	r := c.Reply()
	c.Slowest = max(c.Slowest, time.Since(start))
	return r
}

// Write sends text as it is.
func (c *Client) Write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.w, text); err != nil {
		c.t.Fatalf("write to the server: %v", err)
	}
}

// enhanced is the enhanced status code that servers repeat on each line (RFC 2034).
var enhanced = regexp.MustCompile(`^[245]\.\d+\.\d+ `)

// Reply reads a reply. Exim folds long ones at a space, so the lines are joined by one.
func (c *Client) Reply() Reply {
	c.t.Helper()
	var r Reply
	for first := true; ; first = false {
		line, err := c.r.ReadString('\n')
		if err != nil || len(line) < 5 {
			c.t.Fatalf("read from the server: %q %v", line, err)
		}
		text := strings.TrimSuffix(line[4:], "\r\n")
		if first {
			fmt.Sscan(line[:3], &r.Code)
			r.Text = text
		} else {
			r.Text += " " + strings.TrimPrefix(text, enhanced.FindString(text))
		}
		if line[3] == ' ' {
			return r
		}
	}
}

// Want fails the test unless the reply has the code, and the text if one is given.
func (c *Client) Want(got Reply, code int, text ...string) {
	c.t.Helper()
	if got.Code != code || len(text) > 0 && got.Text != text[0] {
		c.t.Fatalf("the server said\n%v\nbut should have said\n%d %s", got, code, strings.Join(text, ""))
	}
}

// WantPart fails the test unless the reply has the code and contains the text.
func (c *Client) WantPart(got Reply, code int, text string) {
	c.t.Helper()
	if got.Code != code || !strings.Contains(got.Text, text) {
		c.t.Fatalf("the server said\n%v\nbut should have said\n%d ... %s ...", got, code, text)
	}
}

// Mail begins a message.
func (c *Client) Mail(from string) {
	c.t.Helper()
	c.Want(c.Cmd("MAIL FROM:<%s>", from), 250)
}

// Rcpt adds a recipient.
func (c *Client) Rcpt(to string) Reply {
	c.t.Helper()
	return c.Cmd("RCPT TO:<%s>", to)
}

// Data sends a message after its recipients.
func (c *Client) Data(message string) Reply {
	c.t.Helper()
	c.Want(c.Cmd("DATA"), 354)
	return c.Timed(OnTheWire(message))
}

// OnTheWire returns a message as it is sent after DATA, with the final dot.
func OnTheWire(message string) string {
	return strings.ReplaceAll(strings.ReplaceAll(message, "\n", "\r\n"), "\r\n.", "\r\n..") + ".\r\n"
}

// Send sends a message to recipients who must all be accepted.
func (c *Client) Send(from, message string, to ...string) Reply {
	c.t.Helper()
	c.Mail(from)
	for _, rcpt := range to {
		c.Want(c.Rcpt(rcpt), 250)
	}
	return c.Data(message)
}

// QueuedID returns the message id in Exim's reply to DATA.
func (r Reply) QueuedID() string {
	_, id, _ := strings.Cut(r.Text, "id=")
	return id
}

// Letter returns a small message.
func Letter(subject string) string {
	return "From: a@here.example\nSubject: " + subject + "\n\nDear all,\n.\n..and so on.\n"
}
