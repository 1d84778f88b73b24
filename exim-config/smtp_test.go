package eximconfig_test

import (
	"bufio"
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"time"
)

// A client speaks SMTP and shows each reply.
type client struct {
	t       testing.TB
	w       io.Writer
	r       *bufio.Reader
	slowest time.Duration // of all commands so far
}

// A reply is what the server says to one command.
type reply struct {
	code int
	text string // unfolded, with the enhanced code: "4.7.1 Domain ..."
}

func (r reply) String() string { return fmt.Sprintf("%d %s", r.code, r.text) }

// dial connects to the host's Exim and says EHLO.
func (h *host) dial(t testing.TB) *client {
	t.Helper()
	conn, err := net.Dial("tcp", h.smtpAddress())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(10 * patience))
	return newClient(t, conn, conn)
}

func newClient(t testing.TB, r io.Reader, w io.Writer) *client {
	t.Helper()
	c := &client{t: t, w: w, r: bufio.NewReader(r)}
	c.want(c.reply(), 220)
	c.want(c.cmd("EHLO client.example"), 250)
	return c
}

// login authenticates.
func (c *client) login(id string) *client {
	c.t.Helper()
	plain := base64.StdEncoding.EncodeToString([]byte("\x00" + id + "\x00secret"))
	c.want(c.cmd("AUTH PLAIN %s", plain), 235)
	return c
}

// cmd sends one command and returns the reply.
func (c *client) cmd(format string, args ...any) reply {
	c.t.Helper()
	return c.timed(fmt.Sprintf(format, args...) + "\r\n")
}

func (c *client) timed(text string) reply {
	c.t.Helper()
	start := time.Now()
	c.write(text)
	r := c.reply()
	c.slowest = max(c.slowest, time.Since(start))
	return r
}

func (c *client) write(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c.w, text); err != nil {
		c.t.Fatalf("write to Exim: %v", err)
	}
}

// enhanced is the enhanced status code that Exim repeats on each line (RFC 2034).
var enhanced = regexp.MustCompile(`^[245]\.\d+\.\d+ `)

// reply reads a reply. Exim folds long ones at a space, which becomes the line end.
func (c *client) reply() reply {
	c.t.Helper()
	var r reply
	for first := true; ; first = false {
		line, err := c.r.ReadString('\n')
		if err != nil || len(line) < 5 {
			c.t.Fatalf("read from Exim: %q %v", line, err)
		}
		text := strings.TrimSuffix(line[4:], "\r\n")
		if first {
			fmt.Sscan(line[:3], &r.code)
			r.text = text
		} else {
			r.text += " " + strings.TrimPrefix(text, enhanced.FindString(text))
		}
		if line[3] == ' ' {
			return r
		}
	}
}

// want fails the test unless the reply has the code, and the text if one is given.
func (c *client) want(got reply, code int, text ...string) {
	c.t.Helper()
	if got.code != code || len(text) > 0 && got.text != text[0] {
		c.t.Fatalf("Exim said\n%v\nbut should have said\n%d %s", got, code, strings.Join(text, ""))
	}
}

// mail begins a message.
func (c *client) mail(from string) {
	c.t.Helper()
	c.want(c.cmd("MAIL FROM:<%s>", from), 250)
}

// rcpt names a recipient.
func (c *client) rcpt(to string) reply {
	c.t.Helper()
	return c.cmd("RCPT TO:<%s>", to)
}

// data sends a message after its recipients.
func (c *client) data(message string) reply {
	c.t.Helper()
	c.want(c.cmd("DATA"), 354)
	return c.timed(onTheWire(message))
}

// onTheWire is a message as DATA has it, with its end.
func onTheWire(message string) string {
	return strings.ReplaceAll(strings.ReplaceAll(message, "\n", "\r\n"), "\r\n.", "\r\n..") + ".\r\n"
}

// send sends a message to recipients who all must be taken.
func (c *client) send(from, message string, to ...string) reply {
	c.t.Helper()
	c.mail(from)
	for _, rcpt := range to {
		c.want(c.rcpt(rcpt), 250)
	}
	return c.data(message)
}

// queuedID is the message id in the reply to DATA.
func (r reply) queuedID() string {
	_, id, _ := strings.Cut(r.text, "id=")
	return id
}

// letter is a small message.
func letter(subject string) string {
	return "From: a@here.example\nSubject: " + subject + "\n\nDear all,\n.\n..and so on.\n"
}

// dialFrom talks to an Exim of the host that believes to be called from an
// address elsewhere, as inetd would start it.
func (h *host) dialFrom(t testing.TB, address string) *client {
	t.Helper()
	return h.pipe(t, "exim4", "-bs", "-oMa", address)
}

// pipe talks SMTP to a command of the host.
func (h *host) pipe(t testing.TB, args ...string) *client {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*patience)
	cmd := h.command(ctx, args...)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
		cancel()
	})
	return newClient(t, out, in)
}
