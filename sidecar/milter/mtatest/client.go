package mtatest

import (
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"strings"
	"testing"
	"time"
)

// A Client speaks SMTP.
type Client struct {
	t    testing.TB
	text *textproto.Conn
}

// A Reply is what the server says to one command.
type Reply struct {
	Code int
	Text string // its lines, joined by spaces
}

// NewClient says EHLO on a connection to an SMTP server.
func NewClient(t testing.TB, nc net.Conn) *Client {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(10 * Patience))
	c := &Client{t, textproto.NewConn(nc)}
	c.Want(c.reply(), 220)
	c.Want(c.Cmd("EHLO client.example"), 250)
	return c
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
	c.Send(fmt.Sprintf(format, args...) + "\r\n")
	return c.reply()
}

// Send sends some text, whatever it is.
func (c *Client) Send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.text.W, text); err != nil {
		c.t.Fatal(err)
	}
	if err := c.text.W.Flush(); err != nil {
		c.t.Fatal(err)
	}
}

func (c *Client) reply() Reply {
	c.t.Helper()
	code, text, err := c.text.ReadResponse(0)
	if code == 0 {
		c.t.Fatalf("read a reply: %v", err)
	}
	return Reply{code, strings.ReplaceAll(text, "\n", " ")}
}

// Replies reads as many replies as are still to come.
func (c *Client) Replies(n int) (all []Reply) {
	c.t.Helper()
	for range n {
		all = append(all, c.reply())
	}
	return all
}

// Want fails the test unless the reply has the code, and the text in it if one
// is given.
func (c *Client) Want(got Reply, code int, text ...string) {
	c.t.Helper()
	if got.Code != code || len(text) > 0 && !strings.Contains(got.Text, text[0]) {
		c.t.Fatalf("the server said\n%d %s\nbut should have said\n%d %s", got.Code, got.Text, code, strings.Join(text, ""))
	}
}

// Mail begins a message.
func (c *Client) Mail(from string) {
	c.t.Helper()
	c.Want(c.Cmd("MAIL FROM:<%s>", from), 250)
}

// Rcpt names a recipient.
func (c *Client) Rcpt(to string) Reply {
	c.t.Helper()
	return c.Cmd("RCPT TO:<%s>", to)
}

// Data sends the message.
func (c *Client) Data() Reply {
	c.t.Helper()
	c.Want(c.Cmd("DATA"), 354)
	return c.Cmd("Subject: test\r\n\r\nDear all.\r\n.")
}

// Message sends a whole message to recipients who all must be taken.
func (c *Client) Message(from string, to ...string) Reply {
	c.t.Helper()
	c.Mail(from)
	for _, rcpt := range to {
		c.Want(c.Rcpt(rcpt), 250)
	}
	return c.Data()
}
