package exim

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"regexp"
	"slices"
	"strings"
)

// messageID is an id of Exim, up to 4.96 and later. Ids come from whoever may
// ask, and nothing else must become an argument of a program that runs as root.
var messageID = regexp.MustCompile(`^[0-9A-Za-z]{6}-([0-9A-Za-z]{6}-[0-9A-Za-z]{2}|[0-9A-Za-z]{11}-[0-9A-Za-z]{4})$`)

// Deliver has Exim try the messages now, one after the other: it is a hold.Queue. It has `sluice deliver`
// run Exim if somebody listens on e.Helper, and runs Exim itself otherwise. What is no
// message id is left out.
func (e Exim) Deliver(ctx context.Context, ids []string) error {
	ids = slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return !messageID.MatchString(id) })
	if len(ids) == 0 {
		return nil
	}
	if c, err := net.Dial("unix", e.Helper); err == nil {
		defer c.Close()
		return askHelper(ctx, c.(*net.UnixConn), ids)
	}
	return e.deliver(ctx, ids)
}

// deliver runs Exim. Its output goes nowhere, because it may outlive us; what
// becomes of each message is in Exim's own log.
func (e Exim) deliver(ctx context.Context, ids []string) error {
	c := exec.Command(e.Binary, append([]string{"-M"}, ids...)...)
	if err := c.Start(); err != nil {
		return fmt.Errorf("run %s -M: %w", e.Binary, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }() // ends with Exim, at the latest with this program
	select {
	case <-ctx.Done():
		return nil
	case err := <-ended:
		if err != nil {
			return fmt.Errorf("run %s -M for %d messages: %w", e.Binary, len(ids), err)
		}
		return nil
	}
}

// askHelper has `sluice deliver` run Exim, and waits for it to end. The helper
// prints nothing unless something went wrong.
func askHelper(ctx context.Context, c *net.UnixConn, ids []string) error {
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_, err := io.WriteString(c, strings.Join(ids, "\n")+"\n")
	if err = errors.Join(err, c.CloseWrite()); err != nil {
		return fmt.Errorf("hand messages to sluice deliver: %w", err)
	}
	reply, err := io.ReadAll(io.LimitReader(c, 1<<10))
	switch {
	case ctx.Err() != nil:
		return nil
	case err != nil:
		return fmt.Errorf("wait for sluice deliver: %w", err)
	case len(reply) > 0:
		return fmt.Errorf("sluice deliver: %s", bytes.TrimSpace(reply))
	}
	return nil
}

// ListsVerb is the line by which `sluice deliver` is asked for Lists. It answers with JSON.
const ListsVerb = "lists\n"

// A listsAnswer is what the helper answers to ListsVerb.
type listsAnswer struct {
	Lists Lists  `json:"lists"`
	Error string `json:"error"` // why Exim was not asked; empty if it was
}

// mostLists bounds what a helper answers, in bytes.
const mostLists = 4 << 20

// askLists is Lists, by `sluice deliver` if somebody listens on e.Helper: a sluice that is confined
// cannot ask Exim itself.
func (e Exim) askLists(ctx context.Context) (Lists, error) {
	c, err := net.Dial("unix", e.Helper)
	if err != nil {
		return e.Lists(ctx)
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(ctx, 3*cmp.Or(e.Patience, patience)) // the helper asks Exim three times
	defer cancel()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_, err = io.WriteString(c, ListsVerb)
	if err = errors.Join(err, c.(*net.UnixConn).CloseWrite()); err != nil {
		return Lists{}, fmt.Errorf("ask sluice deliver: %w", err)
	}
	var answer listsAnswer
	if err := json.NewDecoder(io.LimitReader(c, mostLists)).Decode(&answer); err != nil {
		return Lists{}, fmt.Errorf("ask sluice deliver: %w", cmp.Or(ctx.Err(), err))
	}
	if answer.Error != "" {
		return Lists{}, errors.New(answer.Error)
	}
	return answer.Lists, nil
}

// ServeLists is the other end of AskLists.
func (e Exim) ServeLists(ctx context.Context, out io.Writer) error {
	lists, err := e.Lists(ctx)
	answer := listsAnswer{Lists: lists}
	if err != nil {
		answer.Error = err.Error()
	}
	return json.NewEncoder(out).Encode(answer)
}

// ServeHelper is the other end of askHelper: it reads message ids, one a line, and has
// Exim deliver them. It does not trust what it reads: a line that is no message id is
// an error, and then nothing is delivered. If Exim fails, it writes why.
func (e Exim) ServeHelper(ctx context.Context, in io.Reader, out io.Writer) error {
	var ids []string
	lines := bufio.NewScanner(io.LimitReader(in, 1<<16))
	for lines.Scan() {
		id := lines.Text()
		if !messageID.MatchString(id) {
			return fmt.Errorf("deliver: %q is no message id of Exim's", id)
		}
		ids = append(ids, id)
	}
	if err := lines.Err(); err != nil || len(ids) == 0 {
		return err
	}
	err := e.deliver(context.WithoutCancel(ctx), ids)
	if err != nil {
		fmt.Fprintln(out, err)
	}
	return err
}
