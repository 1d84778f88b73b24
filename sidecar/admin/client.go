package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"time"

	"sluice/sidecar/alert"
	"sluice/sidecar/attribution"
	"sluice/sidecar/config"
	"sluice/sidecar/history"
	"sluice/sidecar/operator"
	"sluice/sidecar/queue"
	"sluice/sidecar/senders"
	"sluice/sidecar/typed"
)

// patience is how long a client waits for a whole answer: that about a million domains
// takes some seconds.
const patience = 10 * time.Second

// untilHeader is the header with the time until which the client waits. Client and server
// have the same clock. A server that was suspended ignores old questions when it resumes.
const untilHeader = "Sluice-Until"

// A Client asks a Server. It keeps no connection open.
type Client struct {
	path string
	http http.Client
}

// NewClient returns a client of the server at a unix socket.
func NewClient(path string) *Client {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	return &Client{path, http.Client{
		Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true},
		Timeout:   patience,
	}}
}

// Status returns that of one domain, mailbox or account, or of all for "".
func (c *Client) Status(ctx context.Context, scope string) (status operator.Status, err error) {
	path := "/status"
	if scope != "" {
		path += "?scope=" + url.QueryEscape(scope)
	}
	err = c.ask(ctx, http.MethodGet, path, nil, &status)
	return status, err
}

// WhoSends returns who sends of a scope, at most n of each domain; or for "" the n authors that
// have tried most.
func (c *Client) WhoSends(ctx context.Context, scope string, n int) (who senders.Who, err error) {
	err = c.ask(ctx, http.MethodGet, fmt.Sprintf("/who?scope=%s&top=%d", url.QueryEscape(scope), n), nil, &who)
	return who, err
}

// Queue returns what is in Exim's queue.
func (c *Client) Queue(ctx context.Context, s queue.Selection) (r queue.Report, err error) {
	err = c.ask(ctx, http.MethodPost, "/queue", s, &r)
	return r, err
}

// Learn adds how much the authors of domains usually send.
func (c *Client) Learn(ctx context.Context, all map[string]attribution.Hours) (l attribution.Learned, err error) {
	err = c.ask(ctx, http.MethodPost, "/learn", all, &l)
	return l, err
}

// Lock locks a domain until an operator unlocks it, and warns if it may be a typo.
func (c *Client) Lock(ctx context.Context, domain string) (warning string, err error) {
	var d done
	err = c.ask(ctx, http.MethodPost, "/lock", question{Domain: domain}, &d)
	return d.Warning, err
}

// Unlock removes every lock of a domain and resets it, and warns of who stays stopped.
func (c *Client) Unlock(ctx context.Context, domain string) (warning string, err error) {
	var d done
	err = c.ask(ctx, http.MethodPost, "/unlock", question{Domain: domain}, &d)
	return d.Warning, err
}

// Reset restarts the counts of a scope at zero.
func (c *Client) Reset(ctx context.Context, scope string) error {
	return c.ask(ctx, http.MethodPost, "/reset", question{Scope: scope}, nil)
}

// Change sets, unsets or rolls back limits.
func (c *Client) Change(ctx context.Context, request ChangeRequest) (r operator.Result, err error) {
	err = c.ask(ctx, http.MethodPost, "/change", request, &r)
	return r, err
}

// History returns the changes of one scope, or of all for "".
func (c *Client) History(ctx context.Context, scope string) (all []history.Change, err error) {
	err = c.ask(ctx, http.MethodGet, "/history?scope="+url.QueryEscape(scope), nil, &all)
	return all, err
}

// Explain returns what is in force for a scope.
func (c *Client) Explain(ctx context.Context, scope string) (e operator.Explanation, err error) {
	err = c.ask(ctx, http.MethodGet, "/explain?scope="+url.QueryEscape(scope), nil, &e)
	return e, err
}

// Export returns what is set live for one scope, or for all with "". With left it returns
// what was set before store.url was changed.
func (c *Client) Export(ctx context.Context, scope string, left bool) (all []history.Saved, err error) {
	err = c.ask(ctx, http.MethodGet, fmt.Sprintf("/export?scope=%s&left=%t", url.QueryEscape(scope), left), nil, &all)
	return all, err
}

// Import sets what was exported, all or nothing.
func (c *Client) Import(ctx context.Context, lines Lines) (imported operator.Import, err error) {
	err = c.ask(ctx, http.MethodPost, "/import", lines, &imported)
	return imported, err
}

// Config returns the configuration in force.
func (c *Client) Config(ctx context.Context) (values []config.Value, err error) {
	err = c.ask(ctx, http.MethodGet, "/config", nil, &values)
	return values, err
}

// AlertTest sends a test notice on a channel, or on all for "".
func (c *Client) AlertTest(ctx context.Context, channel string) (tested alert.Tested, err error) {
	err = c.ask(ctx, http.MethodPost, "/alert", question{Channel: channel}, &tested)
	return tested, err
}

// Version returns which program runs there.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	err = c.ask(ctx, http.MethodGet, "/version", nil, &v)
	return v, err
}

// ask sends a question, with body as JSON unless that is nil, and decodes the answer.
func (c *Client) ask(ctx context.Context, method, path string, body, answer any) error {
	var text io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return err
		}
		text = bytes.NewReader(b)
	}
	// HTTP requires a host; any will do.
	r, err := http.NewRequestWithContext(ctx, method, "http://sluice"+path, text)
	if err != nil {
		return err
	}
	r.Header.Set(untilHeader, time.Now().Add(c.http.Timeout).Format(time.RFC3339Nano))
	resp, err := c.http.Do(r)
	if err != nil {
		return c.unanswered(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return refused(resp)
	}
	if answer == nil {
		return nil
	}
	d := json.NewDecoder(resp.Body)
	d.UseNumber() // 4000000 rather than 4e+06
	if err := d.Decode(answer); err != nil {
		return fmt.Errorf("read the answer from %s: %w", c.path, err)
	}
	return nil
}

// unanswered words an error of the transport without the address, which the caller adds,
// and without the URL, whose host is made up.
func (c *Client) unanswered(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
		err = op.Err
	} else if outer, ok := errors.AsType[*url.Error](err); ok {
		err = outer.Err
	}
	if errors.Is(err, fs.ErrPermission) {
		return ErrForbidden
	}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return fmt.Errorf("%w within %v", ErrSilent, c.http.Timeout)
	}
	return fmt.Errorf("%w: %w", ErrUnreachable, err)
}

func refused(resp *http.Response) error {
	var r refusal
	if err := json.NewDecoder(resp.Body).Decode(&r); err != nil || r.Error == "" {
		return fmt.Errorf("unexpected answer %s", resp.Status)
	}
	switch resp.StatusCode {
	case http.StatusForbidden:
		return fmt.Errorf("%w: %s", ErrForbidden, r.Error)
	case http.StatusNotFound:
		return answeredError{r.Error, typed.ErrNotFound}
	case http.StatusConflict:
		return answeredError{r.Error, history.ErrNoEffect}
	}
	return errors.New(r.Error)
}

// answeredError has the server's words, and wraps one of our errors.
type answeredError struct {
	text string
	is   error
}

func (e answeredError) Error() string { return e.text }
func (e answeredError) Unwrap() error { return e.is }
