package policyd

import (
	"bytes"
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
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
	Token   string        // on TCP
	Timeout time.Duration // for one question; default 1 s
}

// ErrNoAnswer says that the server has closed the connection instead of answering.
var ErrNoAnswer = errors.New("no answer")

// maxReply is the largest reply that is read, in bytes; ours have at most two
// texts of a kilobyte.
const maxReply = 64 << 10

// Ask asks one question on a connection of its own and returns the reply without the
// newlines at its end: "action=DUNNO\nroom=3". It fails if there is no answer, an
// empty one, or that to another question, before ctx or Timeout ends.
//
// A question has a number, which the reply repeats. If fields have one, the reply that is
// returned has it too.
func (c *Client) Ask(ctx context.Context, fields []Field) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(c.Timeout, time.Second))
	defer cancel()
	number := strconv.FormatUint(uint64(rand.Uint32()), 10)
	i := slices.IndexFunc(fields, func(f Field) bool { return f.Name == "number" })
	if i >= 0 {
		number = fields[i].Value
	}
	question, err := appendQuestion(nil, c.Token, number, fields)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", c.Path, err)
	}
	reply, err := c.exchange(ctx, question)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", c.Path, cmp.Or(ctx.Err(), err))
	}
	answer, ours := strings.CutSuffix(reply, "\nnumber="+number)
	if !ours {
		return "", fmt.Errorf("ask %s: %w: it answers another question, or is older than this program", c.Path, ErrNoAnswer)
	}
	if i >= 0 {
		return reply, nil
	}
	return answer, nil
}

func (c *Client) exchange(ctx context.Context, question []byte) (string, error) {
	nc, err := c.dial(ctx)
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

// dial connects. EAGAIN says that the queue of the server's socket is full, which lasts as
// long as it takes to accept.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	var d net.Dialer
	for {
		nc, err := d.DialContext(ctx, cmp.Or(c.Network, "unix"), c.Path)
		if !errors.Is(err, syscall.EAGAIN) {
			return nc, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// AppendRequest appends a whole question of the kind request=sluice, of version 1, with
// the values in base64.
func AppendRequest(dst []byte, fields []Field) ([]byte, error) {
	return appendFields(append(dst, "request=sluice\n"...), fields)
}

// appendQuestion appends a whole question of version 2. The token comes first, so that the
// server need read no more of a stranger's.
func appendQuestion(dst []byte, token, number string, fields []Field) ([]byte, error) {
	dst = append(dst, "request=sluice\nversion=2\n"...)
	if token != "" {
		dst = append(append(append(dst, "token="...), token...), '\n')
	}
	dst = append(append(append(dst, "number="...), number...), '\n')
	return appendFields(dst, slices.DeleteFunc(slices.Clone(fields), func(f Field) bool { return f.Name == "number" || f.Name == "version" }))
}

func appendFields(dst []byte, fields []Field) ([]byte, error) {
	dst = append(dst, "encoding=base64\n"...)
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
