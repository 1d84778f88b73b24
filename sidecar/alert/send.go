package alert

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/printable"
)

// patience is how long a webhook or program may take for one notice.
const patience = 10 * time.Second

// A Sender delivers notices: by the helpers that systemd starts for a connection to their sockets,
// where there are any, and by itself where not.
type Sender struct {
	Deliver string // socket of sluice deliver, which is root and sends mail
	Notify  string // socket of sluice notify, which has the network and no rights
	// Mail sends a notice by mail.
	Mail func(ctx context.Context, c config.Channel, n Notice) error
}

// Send delivers a notice on a channel; see Options.Send.
func (s *Sender) Send(ctx context.Context, c config.Channel, n Notice) error {
	if c.Kind == config.AlertMail {
		if h := dial(s.Deliver); h != nil {
			return ask(ctx, h, MailVerb, mailRequest{c.Key(), n})
		}
		return s.Mail(ctx, c, n)
	}
	job, err := newJob(c, n)
	if err != nil {
		return err
	}
	if h := dial(s.Notify); h != nil {
		return ask(ctx, h, "", job)
	}
	return job.Do(ctx)
}

func dial(socket string) *net.UnixConn {
	c, err := net.DialTimeout("unix", socket, patience)
	if err != nil {
		return nil
	}
	return c.(*net.UnixConn)
}

// done is the answer of a helper that has delivered. Without it a notice is delivered again: the
// helper may have been killed.
const done = "done"

// ask hands a request to a helper, and waits for its answer.
func ask(ctx context.Context, h *net.UnixConn, verb string, request any) error {
	defer h.Close()
	defer context.AfterFunc(ctx, func() { h.Close() })()
	h.SetDeadline(time.Now().Add(3 * patience)) // the helper has patience itself
	text, err := json.Marshal(request)
	if err == nil {
		_, err = h.Write(append([]byte(verb), text...))
	}
	if err = errors.Join(err, h.CloseWrite()); err != nil {
		return fmt.Errorf("hand the notice to the helper: %w", err)
	}
	reply, err := io.ReadAll(io.LimitReader(h, 1<<10))
	switch text := strings.TrimSpace(string(reply)); {
	case text == done:
		return nil
	case strings.HasPrefix(text, refusedPrefix):
		return refused{errors.New(clean(strings.TrimPrefix(text, refusedPrefix), maxLine))}
	case text != "":
		return errors.New(clean(text, maxLine))
	case err != nil:
		return fmt.Errorf("wait for the helper: %w", err)
	}
	return errors.New("the helper ended without an answer")
}

// refusedPrefix begins the answer of a helper about a notice that will always be refused.
const refusedPrefix = "refused: "

// answer is the other end of ask. Its error is that the answer could not be written; what went
// wrong with the notice is for whoever has asked.
func answer(w io.Writer, err error) error {
	text := done
	if err != nil {
		text = err.Error()
	}
	if _, is := errors.AsType[refused](err); is {
		text = refusedPrefix + text
	}
	_, err = fmt.Fprintln(w, text)
	return err
}

// maxRequest is more than any request has, in bytes.
const maxRequest = 1 << 20

// MailVerb begins what sluice deliver is told if it is to send a notice.
const MailVerb = "notice\n"

// A mailRequest is a notice for sluice deliver. To whom it goes, and from whom, that program finds
// in its own configuration.
type mailRequest struct {
	Channel string `json:"channel"` // Channel.Key
	Notice  Notice `json:"notice"`
}

// ServeMail reads a notice, behind MailVerb, and has send send it on the channel of the
// configuration that is meant. It writes what became of it.
func ServeMail(r *bufio.Reader, w io.Writer, c *config.Config, send func(config.Channel, Notice) error) error {
	var q mailRequest
	if err := json.NewDecoder(io.LimitReader(r, maxRequest)).Decode(&q); err != nil {
		return answer(w, fmt.Errorf("read a notice: %w", err))
	}
	for _, to := range c.Alert.To {
		if to.Kind == config.AlertMail && to.Key() == q.Channel {
			return answer(w, send(to, q.Notice))
		}
	}
	return answer(w, errors.New("sluice's configuration has no such channel by mail: was it just changed?"))
}

// A job is what sluice notify does: a post to a webhook, or a program to run.
type job struct {
	URL    string            `json:"url,omitempty"`
	Header map[string]string `json:"header,omitempty"`
	Exec   string            `json:"exec,omitempty"`
	Env    []string          `json:"env,omitempty"`
	Body   string            `json:"body"` // the body, or the standard input
}

func newJob(c config.Channel, n Notice) (job, error) {
	text, err := body(c, n)
	if err != nil {
		return job{}, err
	}
	if c.Kind == config.AlertExec {
		return job{Exec: c.Target, Body: string(text), Env: []string{"SLUICE_EVENT=" + n.Event, "SLUICE_STATE=" + string(n.State),
			"SLUICE_INCIDENT=" + n.Incident, "SLUICE_DOMAIN=" + n.Domain}}, nil
	}
	key, err := c.Secret()
	if err != nil {
		return job{}, err
	}
	j := job{URL: postURL(c), Body: string(text), Header: map[string]string{"Content-Type": "application/json", "User-Agent": "sluice", "X-Sluice-Id": n.ID}}
	if key != nil {
		j.Header["X-Sluice-Signature"] = sign(key, text)
	}
	return j, nil
}

// ServeJob reads a job, does it, and writes what became of it.
func ServeJob(ctx context.Context, r io.Reader, w io.Writer) error {
	var j job
	if err := json.NewDecoder(io.LimitReader(r, maxRequest)).Decode(&j); err != nil {
		return answer(w, fmt.Errorf("read a notice: %w", err))
	}
	return answer(w, j.Do(ctx))
}

// Do posts, or runs the program.
func (j job) Do(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	if j.Exec != "" {
		return j.run(ctx)
	}
	return j.post(ctx)
}

// post posts, and follows no redirection: what is signed for one server is for no other.
func (j job) post(ctx context.Context) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, j.URL, strings.NewReader(j.Body))
	if err != nil {
		return errors.New("the URL of the webhook cannot be used")
	}
	for name, value := range j.Header {
		r.Header.Set(name, value)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true
	client := http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(r)
	if err != nil {
		if failed, is := errors.AsType[*url.Error](err); is { // which has the URL, and that may have a secret
			err = failed.Err
		}
		return fmt.Errorf("post to %s: %w", r.URL.Host, err)
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
	switch {
	case resp.StatusCode/100 == 2:
		return nil
	case resp.StatusCode == http.StatusBadRequest, resp.StatusCode == http.StatusRequestEntityTooLarge, resp.StatusCode == http.StatusUnprocessableEntity:
		return refused{fmt.Errorf("%s answers %s: %s", r.URL.Host, resp.Status, printable.Of(string(said)))}
	}
	return fmt.Errorf("%s answers %s: %s", r.URL.Host, resp.Status, printable.Of(string(said)))
}

// run runs the program, without a shell and without arguments. When it takes too long, all of its
// processes are killed.
func (j job) run(ctx context.Context) error {
	c := exec.CommandContext(ctx, j.Exec)
	c.Dir = "/"
	c.Env = append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C.UTF-8"}, j.Env...)
	c.Stdin = strings.NewReader(j.Body)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &limited{w: &out, left: 1 << 10}, &limited{w: &out, left: 1 << 10}
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	err := c.Run()
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%s did not end within %v", j.Exec, patience)
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("run %s: %w; who runs it is nobody in particular, and must be able to read and execute it", j.Exec, err)
	case err != nil:
		return fmt.Errorf("run %s: %w: %s", j.Exec, err, strings.TrimSpace(out.String()))
	}
	return nil
}

// limited writes only the first bytes, and takes all.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	n := min(len(p), l.left)
	l.left -= n
	if _, err := l.w.Write(p[:n]); err != nil {
		return 0, err
	}
	return len(p), nil
}
