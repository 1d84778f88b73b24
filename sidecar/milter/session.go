package milter

import (
	"context"
	"net"
	"net/netip"
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

// A session is one connection of an MTA: one SMTP client with all of its messages, or a
// message from sendmail.
type session struct {
	milter.NoOpMilter
	*Server
	ctx  context.Context
	wire *wire

	client     string // address of the SMTP client; empty for sendmail
	connection sidecar.Connection

	// These are of the present message.
	sender, auth, queue string
	to                  []string // accepted recipients
	sent                int      // number of them that count: remote ones, or all of a message from sendmail
}

// Connect begins the mail of another client.
func (c *session) Connect(_, family string, port uint16, address net.IP, m *milter.Modifier) (milter.Response, error) {
	c.reset()
	c.client, c.connection = "", sidecar.Connection{}
	// For mail from sendmail, Postfix gives port 0.
	if strings.HasPrefix(family, "tcp") && port != 0 && address != nil {
		c.client, c.connection.ClientPort = address.String(), strconv.Itoa(int(port))
		c.connection.ServerAddress, c.connection.ServerPort = serverAddress(m.Macros, address), m.Macros["{daemon_port}"]
	}
	return c.proceed(milter.OptNoConnReply), nil
}

// serverAddress is the address to which a client has connected: Postfix tells it in
// {daemon_addr}, Sendmail in {if_addr}, where {daemon_addr} may stand for all of the host's.
// To the loopback Sendmail tells none, but there the client's is mostly the same.
func serverAddress(macros map[string]string, client net.IP) string {
	for _, name := range [...]string{"{if_addr}", "{daemon_addr}"} {
		ip, err := netip.ParseAddr(strings.TrimPrefix(macros[name], "IPv6:"))
		if err == nil && !ip.IsUnspecified() {
			return ip.String()
		}
	}
	if client.IsLoopback() {
		return client.String()
	}
	return ""
}

// proceed lets the command pass. It sends nothing if the MTA does not wait for an answer.
// It writes the answer itself, because the library would take 4 KB of memory for each.
func (c *session) proceed(unanswered milter.OptProtocol) milter.Response {
	if c.wire.offered.protocol&uint32(unanswered) == 0 {
		c.wire.Write([]byte{0, 0, 0, 1, byte(milter.ActContinue)})
	}
	return nil
}

// MailFrom begins a message. Only its macros have the authenticated id, those of later
// commands do not.
func (c *session) MailFrom(from string, m *milter.Modifier) (milter.Response, error) {
	c.reset()
	c.wire.inMessage.Store(true)
	c.sender, c.auth = from, m.Macros["{auth_authen}"]
	c.setQueueID(m)
	return c.proceed(milter.OptNoMailReply), nil
}

// setQueueID notes the queue id, which Postfix has only from the second recipient on.
func (c *session) setQueueID(m *milter.Modifier) {
	if id := m.Macros["i"]; id != "" {
		c.queue = id
	}
}

// RcptTo asks whether there is room for one more recipient. For mail from sendmail it asks
// about the whole message at its end, because Postfix cannot refuse one of its recipients.
func (c *session) RcptTo(to string, m *milter.Modifier) (milter.Response, error) {
	c.setQueueID(m)
	switch {
	case slices.Contains(c.to, to):
		return c.proceed(answered), nil
	case c.connection.ClientPort == "":
		c.to, c.sent = append(c.to, to), c.sent+1
		return c.proceed(answered), nil
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

// Body charges the message, which is complete now.
func (c *session) Body(m *milter.Modifier) (milter.Response, error) {
	defer c.reset()
	c.setQueueID(m)
	if c.sent == 0 {
		return c.proceed(answered), nil
	}
	r := c.request(sidecar.StageMilterEnd)
	r.Recipients = joinRecipients(c.to)
	return c.response(c.ask(r)), nil
}

// joinRecipients makes a list for Request.Recipients of addresses as they came by SMTP.
func joinRecipients(addresses []string) string {
	var b strings.Builder
	for _, a := range addresses {
		b.WriteString(envelope.Fold(a).Listed(a))
		b.WriteString(", ")
	}
	return b.String()
}

// Abort ends a message that was given up.
func (c *session) Abort(*milter.Modifier) error {
	c.reset()
	return nil
}

func (c *session) reset() {
	c.sender, c.auth, c.queue, c.to, c.sent = "", "", "", nil, 0
	c.wire.inMessage.Store(false)
}

func (c *session) request(stage sidecar.Stage) sidecar.Request {
	return sidecar.Request{Stage: stage, ID: c.queue, Sender: c.sender, Submitter: sidecar.Submitter{Auth: c.auth, ClientAddress: c.client}, Connection: c.connection}
}

// ask calls the Asker. A panic there is a bug that this one message triggers, and costs
// only this message its answer.
func (c *session) ask(r sidecar.Request) (reply sidecar.Reply) {
	defer func() {
		if p := recover(); p != nil {
			c.opts.Events.Emit(event.Event{Kind: event.MilterPanicked, Attrs: event.Attrs("panic", p, "stack", string(debug.Stack()))})
			reply = sidecar.Reply{}
		}
	}()
	reply = c.asker.Ask(c.ctx, time.Now(), r)
	c.connection.Socket = reply.Socket
	return reply
}

// maxText is how many bytes of a refusal's text are sent: Postfix and Sendmail send it in
// one line, and RFC 5321 (section 4.5.3.1.5) limits a line to 512.
const maxText = 480

// response words a verdict. It doubles percent signs, because Sendmail takes the text as a
// format string, and Postfix undoes the doubling (milter8.c).
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
		return c.proceed(answered)
	}
	text := printable(r.Text)
	return milter.NewResponseStr(byte(milter.ActReplyCode), code+strings.ReplaceAll(text[:min(len(text), maxText)], "%", "%%"))
}

// printable replaces each control character by a space and each other character that is
// not ASCII by a question mark.
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
