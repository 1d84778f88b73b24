package policyd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"syscall"
	"time"
)

// A Field is one attribute of a question.
type Field struct{ Name, Value string }

// A Client asks a Server. `sluice check` and the tests use it.
type Client struct {
	Network string        // "unix", the default, or "tcp"
	Path    string        // of the unix socket, or HOST:PORT
	Timeout time.Duration // for one question; default 1 s
}

// ErrNoAnswer says that the server has closed the connection instead of answering.
var ErrNoAnswer = errors.New("no answer")

// maxReply is the largest reply that is read, in bytes; ours have at most a kilobyte.
const maxReply = 64 << 10

// Ask asks one question on a connection of its own and returns the reply without the
// newlines at its end: "action=DUNNO\nroom=3". It fails if there is no answer, or an
// empty one, before ctx or Timeout ends.
func (c *Client) Ask(ctx context.Context, fields []Field) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, time.Second))
	defer cancel()
	question, err := AppendRequest(nil, fields)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", c.Path, err)
	}
	reply, err := c.exchange(ctx, question)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", c.Path, cmp.Or(ctx.Err(), err))
	}
	return reply, nil
}

func (c *Client) exchange(ctx context.Context, question []byte) (string, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, cmp.Or(c.Network, "unix"), c.Path)
	if err != nil {
		return "", err
	}
	defer nc.Close()
	defer context.AfterFunc(ctx, func() { nc.Close() })()
	if _, err := nc.Write(question); errors.Is(err, syscall.EPIPE) {
		return "", ErrNoAnswer
	} else if err != nil {
		return "", err
	}
	var reply []byte
	buf := make([]byte, 1024)
	for !bytes.HasSuffix(reply, []byte("\n\n")) {
		n, err := nc.Read(buf)
		reply = append(reply, buf[:n]...)
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
			return "", ErrNoAnswer
		case err != nil:
			return "", err
		case len(reply) > maxReply:
			return "", fmt.Errorf("the answer is longer than %d bytes", maxReply)
		}
	}
	return strings.TrimRight(string(reply), "\n"), nil
}

// AppendRequest appends a whole question of the kind request=sluice, with the values in
// base64.
func AppendRequest(dst []byte, fields []Field) ([]byte, error) {
	dst = append(dst, "request=sluice\nencoding=base64\n"...)
	for _, f := range fields {
		if f.Name == "" || strings.ContainsAny(f.Name, "=\n") {
			return nil, fmt.Errorf("%q cannot be the name of an attribute", f.Name)
		}
		dst = append(append(dst, f.Name...), '=')
		dst = base64.StdEncoding.AppendEncode(dst, []byte(f.Value))
		dst = append(dst, '\n')
	}
	return append(dst, '\n'), nil
}
