package alert

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net"
	"net/http"
	"net/http/httptest"
	"net/mail"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

// aNotice is one with all that senders can put into it.
var aNotice = Notice{ID: "mx1-42.3.open", At: noon, Node: "mx1", State: StateOpen, Event: "limit", Severity: incident.Warning,
	Title: "a.example: its limit is used up, mostly by <eve>&co@a.example (incident mx1-42)", Text: "one & <two>\nthree\n",
	About: About{Incident: "mx1-42", Domain: "a.example", Culprit: "eve@a.example", Opened: noon}}

// A post is what a webhook was sent.
type post struct {
	header http.Header
	body   string
}

// webhook is an HTTP server that answers with a status, and hands over what it gets.
func webhook(t *testing.T, status int) (url string, posts chan post) {
	posts = make(chan post, 10)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		posts <- post{r.Header, string(body)}
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		io.WriteString(w, "as you\x1b[1m like")
	}))
	t.Cleanup(s.Close)
	return s.URL, posts
}

// channel parses a channel, that is the only one.
func channel(t *testing.T, text string) config.Channel {
	t.Helper()
	c, err := config.Parse("f.toml", "[[alert.to]]\n"+text+"\n")
	if err != nil {
		t.Fatal(err)
	}
	return c.Alert.To[0]
}

func TestAWebhookGetsWhatIsSigned(t *testing.T) {
	url, posts := webhook(t, 200)
	key := write(t, filepath.Join(t.TempDir(), "key"), "s3cret\n", 0o600)
	var s Sender
	if err := s.Send(t.Context(), channel(t, `webhook = "`+url+`/x"`+"\nsecret_file = \""+key+`"`), aNotice); err != nil {
		t.Fatal(err)
	}
	got := <-posts
	mac := hmac.New(sha256.New, []byte("s3cret"))
	io.WriteString(mac, got.body)
	if want := "sha256=" + hex.EncodeToString(mac.Sum(nil)); got.header.Get("X-Sluice-Signature") != want {
		t.Errorf("signed %s, want %s", got.header.Get("X-Sluice-Signature"), want)
	}
	if got.header.Get("X-Sluice-Id") != aNotice.ID || got.header.Get("Content-Type") != "application/json" {
		t.Errorf("header %v", got.header)
	}
	var n Notice
	if err := json.Unmarshal([]byte(got.body), &n); err != nil || n.Title != aNotice.Title || n.Domain != "a.example" {
		t.Errorf("%v in %s", err, got.body)
	}
	if err := os.Chmod(key, 0o644); err != nil {
		t.Fatal(err)
	}
	err := s.Send(t.Context(), channel(t, `webhook = "`+url+`/x"`+"\nsecret_file = \""+key+`"`), aNotice)
	if err == nil || !strings.Contains(err.Error(), "others must not be able to read") {
		t.Errorf("a key that all may read: %v", err)
	}
}

func TestOtherFormats(t *testing.T) {
	url, posts := webhook(t, 200)
	var s Sender
	if err := s.Send(t.Context(), channel(t, `webhook = "`+url+`"`+"\nformat = \"slack\""), aNotice); err != nil {
		t.Fatal(err)
	}
	var slack struct{ Text string }
	if err := json.Unmarshal([]byte((<-posts).body), &slack); err != nil || slack.Text != "*[sluice mx1]* `a.example: its limit is used up, mostly by &lt;eve&gt;&amp;co@a.example (incident mx1-42)`\n```\none &amp; &lt;two&gt;\nthree\n```" {
		t.Errorf("%v: %q", err, slack.Text)
	}
	hostile := aNotice
	hostile.Title, hostile.Text = "`<!channel> @all [a](http://evil.example)", "```\n@channel *all is fine* ![](http://evil.example/)\n"
	if text, err := body(channel(t, `webhook = "`+url+`"`+"\nformat = \"slack\""), hostile); err != nil || strings.Count(string(text), "`") != 8 || strings.Contains(string(text), "<!") {
		t.Errorf("%v: it leaves the code: %s", err, text)
	}
	if err := s.Send(t.Context(), channel(t, `webhook = "`+url+`/"`+"\nformat = \"alertmanager\""), testNotice("mx1", noon)); err != nil {
		t.Fatal(err)
	}
	if got := (<-posts).body; !strings.Contains(got, `"alertname":"SluiceTest"`) || !strings.Contains(got, `"endsAt":"2026-11-29T12:01:00Z"`) {
		t.Error(got)
	}
}

// Whatever a webhook answers, its words come to the log as text; a redirection is no delivery.
func TestAWebhookThatRefuses(t *testing.T) {
	for status, forever := range map[int]bool{500: false, 404: false, 429: false, 302: false, 400: true, 413: true, 422: true} {
		url, posts := webhook(t, status)
		err := (&Sender{}).Send(t.Context(), channel(t, `webhook = "`+url+`/secret"`), aNotice)
		_, is := errors.AsType[refused](err)
		if err == nil || is != forever || strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "\x1b") || !strings.Contains(err.Error(), `as you\u001b[1m like`) {
			t.Errorf("%d: %v (for good: %v)", status, err, is)
		}
		if len(posts) != 1 {
			t.Errorf("%d: %d posts", status, len(posts))
		}
	}
	err := (&Sender{}).Send(t.Context(), channel(t, `webhook = "http://127.0.0.1:1/secret"`), aNotice)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("nobody listens: %v", err)
	}
}

// A webhook that hangs is left after ten seconds, or when sluice ends.
func TestAWebhookThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts in the kernel, answers nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := (&Sender{}).Send(ctx, channel(t, `webhook = "http://`+l.Addr().String()+`"`), aNotice); err == nil {
		t.Error("delivered")
	}
}

// privateCA is in the environment of a process that is to believe the CA of a test.
const privateCA = "SLUICE_TEST_WEBHOOK"

// A private CA is believed where the system believes it. What the system believes is read once by
// a process, so this needs one of its own.
func TestAWebhookWithAPrivateCA(t *testing.T) {
	if url := os.Getenv(privateCA); url != "" {
		if err := (&Sender{}).Send(t.Context(), channel(t, `webhook = "`+url+`"`), aNotice); err != nil {
			t.Fatal(err)
		}
		return
	}
	hosttest.NotShort(t)
	var posts sync.Map
	s := httptest.NewTLSServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { posts.Store(r.Header.Get("X-Sluice-Id"), true) }))
	defer s.Close()
	s.Config.ErrorLog = nil
	if err := (&Sender{}).Send(t.Context(), channel(t, `webhook = "`+s.URL+`"`), aNotice); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("without its CA: %v", err)
	}
	ca := write(t, filepath.Join(t.TempDir(), "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})), 0o644)
	c := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestAWebhookWithAPrivateCA$")
	c.Env = append(os.Environ(), privateCA+"="+s.URL, "SSL_CERT_FILE="+ca)
	if out, err := c.CombinedOutput(); err != nil {
		t.Errorf("with its CA: %v\n%s", err, out)
	}
	if _, is := posts.Load(aNotice.ID); !is {
		t.Error("nothing was posted")
	}
}

func TestAProgramIsRun(t *testing.T) {
	dir := t.TempDir()
	program := write(t, dir+"/page me", "#!/bin/sh\nset -e\ncat >"+"'"+dir+"/in'\necho \"$SLUICE_EVENT $SLUICE_STATE $SLUICE_INCIDENT $SLUICE_DOMAIN $# $PWD $HOME\" >'"+dir+"/env'\n", 0o755)
	if err := (&Sender{}).Send(t.Context(), channel(t, `exec = "`+program+`"`), aNotice); err != nil {
		t.Fatal(err)
	}
	var n Notice
	in, _ := os.ReadFile(dir + "/in")
	if err := json.Unmarshal(in, &n); err != nil || n.ID != aNotice.ID {
		t.Errorf("%v in %s", err, in)
	}
	if env, _ := os.ReadFile(dir + "/env"); string(env) != "limit open mx1-42 a.example 0 / \n" {
		t.Errorf("environment %q", env)
	}
	write(t, program, "#!/bin/sh\necho no pager >&2\nexit 3\n", 0o755)
	if err := (&Sender{}).Send(t.Context(), channel(t, `exec = "`+program+`"`), aNotice); err == nil || !strings.Contains(err.Error(), "exit status 3: no pager") {
		t.Errorf("a program that fails: %v", err)
	}
	if err := os.Chmod(program, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := (&Sender{}).Send(t.Context(), channel(t, `exec = "`+program+`"`), aNotice); err == nil || !strings.Contains(err.Error(), "must be able to read and execute it") {
		t.Errorf("a program that may not be run: %v", err)
	}
}

// A program that hangs is killed, and so is what it has started.
func TestAProgramThatHangs(t *testing.T) {
	dir := t.TempDir()
	program := write(t, dir+"/page", "#!/bin/sh\n(sleep 1000; echo >"+dir+"/lived)& echo $! >"+dir+"/child; wait\n", 0o755)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- (&Sender{}).Send(ctx, channel(t, `exec = "`+program+`"`), aNotice) }()
	child := ""
	hosttest.Eventually(t, "it hangs", func() bool {
		text, _ := os.ReadFile(dir + "/child")
		child = strings.TrimSpace(string(text))
		return child != ""
	})
	cancel()
	if err := <-ended; err == nil {
		t.Error("delivered")
	}
	hosttest.Eventually(t, "what it has started ends", func() bool {
		text, err := os.ReadFile("/proc/" + child + "/stat")
		return err != nil || strings.Contains(string(text), ") Z ")
	})
}

// serve plays systemd: each connection to a socket is answered by f.
func serve(t *testing.T, f func(net.Conn)) (socket string) {
	socket = filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	served.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f(c)
			c.Close()
		}
	})
	t.Cleanup(func() { l.Close(); served.Wait() })
	return socket
}

// Where there is a helper it delivers, and sluice itself does nothing. To whom a mail goes the
// helper finds in its own configuration.
func TestHelpersDeliver(t *testing.T) {
	url, posts := webhook(t, 200)
	c, err := config.Parse("f.toml", "[[alert.to]]\nmail = \"ops@example.net\"\n")
	if err != nil {
		t.Fatal(err)
	}
	var sent []string
	s := Sender{
		Notify: serve(t, func(h net.Conn) { ServeJob(t.Context(), h, h) }),
		Deliver: serve(t, func(h net.Conn) {
			r := bufio.NewReader(h)
			if line, _ := r.ReadString('\n'); line != MailVerb {
				t.Errorf("told %q", line)
			}
			ServeMail(r, h, c, func(to config.Channel, n Notice) error {
				sent = append(sent, to.Target+" "+n.ID)
				if n.ID == "bad" {
					return errors.New("no Exim")
				}
				return nil
			})
		}),
		Mail: func(context.Context, config.Channel, Notice) error { t.Error("sluice sends mail itself"); return nil },
	}
	if err := s.Send(t.Context(), channel(t, `webhook = "`+url+`"`), aNotice); err != nil || len(posts) != 1 {
		t.Errorf("%v, %d posts", err, len(posts))
	}
	if err := s.Send(t.Context(), c.Alert.To[0], aNotice); err != nil {
		t.Error(err)
	}
	bad := aNotice
	bad.ID = "bad"
	if err := s.Send(t.Context(), c.Alert.To[0], bad); err == nil || err.Error() != "no Exim" {
		t.Errorf("without Exim: %v", err)
	}
	if err := s.Send(t.Context(), channel(t, `mail = "eve@evil.example"`), aNotice); err == nil || !strings.Contains(err.Error(), "no such channel") {
		t.Errorf("to somebody else: %v", err)
	}
	if got := strings.Join(sent, ", "); got != "ops@example.net mx1-42.3.open, ops@example.net bad" {
		t.Errorf("sent %s", got)
	}
	url, _ = webhook(t, 400)
	if _, is := errors.AsType[refused](s.Send(t.Context(), channel(t, `webhook = "`+url+`"`), aNotice)); !is {
		t.Error("what a webhook refuses for good is not known to be")
	}
}

// A helper that is killed has delivered nothing as far as is known.
func TestAHelperThatEndsWithoutAnAnswer(t *testing.T) {
	s := Sender{Notify: serve(t, func(h net.Conn) { io.ReadAll(h) })}
	if err := s.Send(t.Context(), channel(t, `exec = "/bin/true"`), aNotice); err == nil {
		t.Error("delivered")
	}
}

// The message of a notice: whatever is in it becomes a subject and a text.
func TestMessage(t *testing.T) {
	c := channel(t, `mail = "ops@example.net"`)
	evil := aNotice
	evil.ID, evil.Title, evil.Text = "x> \nBcc: a@b.example", "Re\u00e7u \u202e\r\nBcc: a@b.example", "one\n.\n\x1b[2J\r\nBcc: a@b.example\n"
	for _, n := range []Notice{aNotice, evil} {
		m, err := mail.ReadMessage(strings.NewReader(string(Message("sluice@mx1.example", c, "mx1", n))))
		if err != nil {
			t.Fatal(err)
		}
		if m.Header.Get("Bcc") != "" || m.Header.Get("To") != "ops@example.net" || !strings.Contains(m.Header.Get("From"), "<sluice@mx1.example>") {
			t.Errorf("header %v", m.Header)
		}
		subject, err := new(mime.WordDecoder).DecodeHeader(m.Header.Get("Subject"))
		body, _ := io.ReadAll(m.Body)
		switch {
		case err != nil, strings.ContainsAny(subject, "\r\n\u202e"), !strings.HasPrefix(subject, "[sluice mx1] "):
			t.Errorf("subject %q, %v", subject, err)
		case strings.ContainsAny(string(body), "\r\x1b"), !strings.HasPrefix(string(body), "one"):
			t.Errorf("text %q", body)
		}
	}
	hosttest.Golden(t, "testdata/message", string(Message("sluice@mx1.example", c, "mx1", evil)))
}

// The card of an incident is a second part of the message, by the name of the incident, whatever is
// in it and in the text.
func TestMessageWithTheCard(t *testing.T) {
	n := aNotice
	n.Incident, n.Card = "mx1-42", "example.com   STOPPED BY SLUICE\n   300 |   .  |\n \u2582\u2584 \u202e\r\nContent-Type: text/html\n"+strings.Repeat("wide ", 40)+"\n"
	n.Text = "one\n--" + boundary(n) + "--\nContent-Type: text/html\n\n<b>two\n"
	for _, id := range []string{"mx1-42", "\"; name=x.exe\r\nBcc: a@b.example\""} {
		n.Incident = id
		m, err := mail.ReadMessage(strings.NewReader(string(Message("sluice@mx1.example", channel(t, `mail = "ops@example.net"`), "mx1", n))))
		if err != nil {
			t.Fatal(err)
		}
		kind, values, err := mime.ParseMediaType(m.Header.Get("Content-Type"))
		if err != nil || kind != "multipart/mixed" || m.Header.Get("Bcc") != "" {
			t.Fatalf("%v: %v", err, m.Header)
		}
		parts := multipart.NewReader(m.Body, values["boundary"])
		for i, want := range []string{printable.Lines(n.Text), printable.Lines(n.Card)} {
			part, err := parts.NextRawPart()
			if err != nil {
				t.Fatal(err)
			}
			var body io.Reader = part
			if i == 1 {
				body = base64.NewDecoder(base64.StdEncoding, part)
			}
			text, err := io.ReadAll(body)
			if err != nil || string(text) != want || part.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("part %d: %v %v, got\n%q, want\n%q", i, err, part.Header, text, want)
			}
			if name := map[string]string{"mx1-42": "mx1-42.txt"}[id]; i == 1 && name != "" && part.FileName() != name || strings.ContainsAny(part.FileName(), "\" \r\n;") {
				t.Errorf("its name is %q", part.FileName())
			}
		}
		if _, err := parts.NextPart(); err != io.EOF {
			t.Errorf("there is a third part: %v", err)
		}
	}
	n.Incident = "mx1-42"
	hosttest.Golden(t, "testdata/message-card", string(Message("sluice@mx1.example", channel(t, `mail = "ops@example.net"`), "mx1", n)))
}
