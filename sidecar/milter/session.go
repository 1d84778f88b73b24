package milter

import (
	"context"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/emersion/go-milter"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
)

// A session is one connection of an MTA: one SMTP client with all of its
// messages, or a message from sendmail.
type session struct {
	milter.NoOpMilter
	*Server
	ctx  context.Context
	wire *wire

	client, port string // of the SMTP client; empty for sendmail

	// Of the present message.
	sender, auth, queue string
	to                  []string // recipients that were let pass
	sent                int      // those that are remote, or from sendmail all
}

// Connect begins the mail of another client.
func (c *session) Connect(_, family string, port uint16, address net.IP, _ *milter.Modifier) (milter.Response, error) {
	c.reset()
	c.client, c.port = "", ""
	// Postfix says of mail from sendmail that it comes from port 0.
	if strings.HasPrefix(family, "tcp") && port != 0 && address != nil {
		c.client, c.port = address.String(), strconv.Itoa(int(port))
	}
	return c.goOn(milter.OptNoConnReply), nil
}

// goOn lets pass, by no answer to what the MTA does not wait for. It leaves nothing to
// the library, which would take 4 KB of memory for each answer.
func (c *session) goOn(unanswered milter.OptProtocol) milter.Response {
	if c.wire.offered.protocol&uint32(unanswered) == 0 {
		c.wire.Write([]byte{0, 0, 0, 1, byte(milter.ActContinue)})
	}
	return nil
}

// MailFrom begins a message. Who has logged in is told here, and in no macro
// of later commands.
func (c *session) MailFrom(from string, m *milter.Modifier) (milter.Response, error) {
	c.reset()
	c.wire.within.Store(true)
	c.sender, c.auth = from, m.Macros["{auth_authen}"]
	c.name(m)
	return c.goOn(milter.OptNoMailReply), nil
}

// name keeps the queue id, which Postfix has only from the second recipient on.
func (c *session) name(m *milter.Modifier) {
	if id := m.Macros["i"]; id != "" {
		c.queue = id
	}
}

// RcptTo asks whether there is room for one recipient more. Mail from sendmail is
// asked about as a whole: Postfix cannot refuse one of its recipients.
func (c *session) RcptTo(to string, m *milter.Modifier) (milter.Response, error) {
	c.name(m)
	switch {
	case slices.Contains(c.to, to):
		return c.goOn(answered), nil
	case c.port == "":
		c.to, c.sent = append(c.to, to), c.sent+1
		return c.goOn(answered), nil
	}
	r := c.request(sidecar.StageMilterRcpt)
	r.Recipient, r.Sent = to, c.sent
	reply := c.ask(r)
	if reply.Action == sidecar.Accept {
		c.to = append(c.to, to)
		if !reply.Local {
			c.sent++
		}
	}
	return c.response(reply), nil
}

// Body charges the message, all of which is there now.
func (c *session) Body(m *milter.Modifier) (milter.Response, error) {
	defer c.reset()
	c.name(m)
	if c.sent == 0 {
		return c.goOn(answered), nil
	}
	r := c.request(sidecar.StageMilterEnd)
	r.Recipients = envelope.JoinRecipients(c.to)
	return c.response(c.ask(r)), nil
}

// Abort ends a message that will not come.
func (c *session) Abort(*milter.Modifier) error {
	c.reset()
	return nil
}

func (c *session) reset() {
	c.sender, c.auth, c.queue, c.to, c.sent = "", "", "", nil, 0
	c.wire.within.Store(false)
}

func (c *session) request(stage sidecar.Stage) sidecar.Request {
	return sidecar.Request{Stage: stage, ID: c.queue, Sender: c.sender, Auth: c.auth, ClientAddress: c.client, ClientPort: c.port}
}

// ask asks. A panic there is a bug that one message brought out, and costs
// only that message its answer.
func (c *session) ask(r sidecar.Request) (reply sidecar.Reply) {
	defer func() {
		if p := recover(); p != nil {
			c.opts.Events.Emit(event.Event{Kind: event.MilterPanicked, Attrs: event.Attrs("panic", p, "stack", string(debug.Stack()))})
			reply = sidecar.Reply{}
		}
	}()
	return c.asker.Ask(c.ctx, time.Now(), r)
}

// maxText is the length of a refusal in bytes: Postfix and Sendmail send it in
// one line, and RFC 5321 (section 4.5.3.1.5) gives one 512.
const maxText = 480

// response words a verdict. A percent sign is doubled, for Sendmail takes the
// text for a format and Postfix undoes it likewise (milter8.c).
func (c *session) response(r sidecar.Reply) milter.Response {
	code := ""
	switch r.Action {
	case sidecar.Defer:
		code = "450 4.7.1 "
	case sidecar.Reject:
		code = "550 5.7.1 "
	case sidecar.Discard:
		return milter.RespDiscard
	default:
		return c.goOn(answered)
	}
	text := printable(r.Text)
	return milter.NewResponseStr(byte(milter.ActReplyCode), code+strings.ReplaceAll(text[:min(len(text), maxText)], "%", "%%"))
}

// printable has each control character as a space and each other than ASCII as a
// question mark.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r < ' ' || r == 0x7f:
			return ' '
		case r > 0x7f:
			return '?'
		}
		return r
	}, text)
}
