package admin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sluice/sidecar/attribution"
	"sluice/sidecar/config"
	"sluice/sidecar/eventlog"
	"sluice/sidecar/history"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
	"sluice/sidecar/operator"
	"sluice/sidecar/senders"
	"sluice/sidecar/stop"
	"sluice/sidecar/typed"
)

func TestMain(m *testing.M) {
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}

// book is a policy that writes down what it is reported.
type book struct {
	mu    sync.Mutex
	lines []string
	entry chan struct{} // if not nil, commands announce themselves here
	leave chan struct{} // and wait for this
}

func (b *book) write(format string, args ...any) error {
	if b.entry != nil {
		b.entry <- struct{}{}
		<-b.leave
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, fmt.Sprintf(format, args...))
	if strings.Contains(b.lines[len(b.lines)-1], "none.example") {
		return fmt.Errorf("nothing is counted: %w", typed.ErrNotFound)
	}
	return nil
}

func (b *book) Status(_ context.Context, now time.Time, domain string) (operator.Status, error) {
	err := b.write("status %s", domain)
	return operator.Status{Node: "mx1", Now: now.UTC(), Domains: []operator.DomainStatus{{Domain: domain}}}, err
}

func (b *book) WhoSends(_ time.Time, scope string, n int) (senders.Who, error) {
	return senders.Who{Node: "mx1", Domains: []senders.Report{{Domain: scope}}}, b.write("who %s %d", scope, n)
}

func (b *book) Happened(now, since time.Time, scope string) (operator.Past, error) {
	return operator.Past{Node: "mx1", Events: []eventlog.Record{{Event: "stop", Scope: scope}}}, b.write("events %s %v", scope, now.Sub(since))
}

func (b *book) Incidents(scope string) ([]incident.Incident, error) {
	return []incident.Incident{{ID: incident.ID{Node: "mx1", Number: 7}, Severity: incident.Critical}}, b.write("incidents %s", scope)
}

func (b *book) Lock(_ context.Context, _ time.Time, domain, who string) (string, error) {
	return "is it " + domain + "?", b.write("lock %s %s", domain, who)
}

func (b *book) Unlock(_ context.Context, _ time.Time, domain, who string) error {
	return b.write("unlock %s %s", domain, who)
}

func (b *book) StayStopped(_ time.Time, domain string) string {
	return "x@" + domain + " stays stopped"
}

func (b *book) Stop(_ context.Context, _ time.Time, o stop.Request) (operator.StopStatus, string, error) {
	return operator.StopStatus{Stop: stop.Stop{Scope: o.Scope}}, "only while sluice runs", b.write("stop %+v", o)
}

func (b *book) LeaveOut(_ context.Context, _ time.Time, scope, subject, who string) (operator.StopStatus, error) {
	return operator.StopStatus{Stop: stop.Stop{Scope: scope, Of: subject}}, b.write("leave out %s of %s %s", scope, subject, who)
}

func (b *book) EndStop(ctx context.Context, now time.Time, scope, mark, who string) (string, error) {
	return b.Start(ctx, now, scope+" "+mark, who, false)
}

func (b *book) Start(_ context.Context, _ time.Time, scope, who string, release bool) (string, error) {
	return "2 stay held", b.write("start %s %s %v", scope, who, release)
}

func (b *book) Learn(_ time.Time, all map[string]attribution.Hours) attribution.Learned {
	_ = b.write("learn of %d", len(all))
	return attribution.Learned{Domains: len(all)}
}

func (b *book) Stops(_ time.Time, scope string) ([]operator.StopStatus, error) {
	return nil, b.write("stops %s", scope)
}

func (b *book) Reset(_ context.Context, _ time.Time, scope, who string) error {
	return b.write("reset %s %s", scope, who)
}

func (b *book) Change(_ context.Context, _ time.Time, o history.Edit) (operator.Result, error) {
	err := b.write("change %+v", o)
	return operator.Result{Change: history.Change{Number: 7, Scope: o.Scope, Who: o.Who}}, err
}

func (b *book) History(_ time.Time, scope string) ([]history.Change, error) {
	return []history.Change{{Number: 7}}, b.write("history %s", scope)
}

func (b *book) Explain(_ time.Time, scope string) (operator.Explanation, error) {
	return operator.Explanation{Scope: scope}, b.write("explain %s", scope)
}

func (b *book) Export(_ time.Time, scope string, left bool) ([]history.Saved, error) {
	return []history.Saved{{Scope: "a.example", Set: []string{"hourly=5"}}}, b.write("export %s %v", scope, left)
}

func (b *book) Import(_ context.Context, _ time.Time, lines []history.Saved, who string, preview bool) (operator.Import, error) {
	return operator.Import{Expired: []string{"f:1"}}, b.write("import %+v by %s, preview %v", lines, who, preview)
}

// lock locks a domain, and wants the warning that book has for all.
func lock(c *Client, domain string) error {
	warning, err := c.Lock(context.Background(), domain)
	if err == nil && !strings.HasPrefix(warning, "is it ") {
		return fmt.Errorf("the warning is %q", warning)
	}
	return err
}

// unlock unlocks a domain, and wants to hear who stays stopped.
func unlock(c *Client, domain string) error {
	warning, err := c.Unlock(context.Background(), domain)
	if err == nil && warning != "x@"+domain+" stays stopped" {
		return fmt.Errorf("the warning is %q", warning)
	}
	return err
}

// start runs a server and returns its socket and a function that stops it.
func start(t *testing.T, o Options) (path string, stop func() error) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "admin.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(o).Serve(ctx, l) }()
	stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return path, stop
}

func TestCommandsReachThePolicyWithWhoGaveThem(t *testing.T) {
	b := &book{}
	path, _ := start(t, Options{Backend: b})
	c, ctx := NewClient(path), t.Context()
	status, err := c.Status(ctx, "EXAMPLE.com")
	if err != nil || status.Domains[0].Domain != "example.com" {
		t.Errorf("status = %+v, %v", status, err)
	}
	if _, err := c.Status(ctx, ""); err != nil {
		t.Error(err)
	}
	for _, scope := range []string{"", "EXAMPLE.com", "script:/home/bob/x y", "login:bob", "forward:info@example.com", "News@Example.com"} {
		if _, err := c.WhoSends(ctx, scope, 5000); err != nil {
			t.Error(err)
		}
	}
	if past, err := c.Happened(ctx, "login:bob x", 90*time.Minute); err != nil || past.Events[0].Scope != "login:bob x" {
		t.Errorf("events = %+v, %v", past, err)
	}
	if all, err := c.Incidents(ctx, "mx1-7"); err != nil || all[0].ID.String() != "mx1-7" || all[0].Severity != incident.Critical {
		t.Errorf("incidents = %+v, %v", all, err)
	}
	if err := errors.Join(
		lock(c, "Bücher.example"), unlock(c, "example.com"), c.Reset(ctx, "account:bob"), c.Reset(ctx, "News@Example.com"),
	); err != nil {
		t.Error(err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"status example.com", "status ",
		"who  1000", "who example.com 1000", "who script:/home/bob/x y 1000", "who login:bob 1000", "who forward:info@example.com 1000", "who news@example.com 1000",
		"events login:bob x 1h30m0s", "incidents mx1-7",
		"lock xn--bcher-kva.example " + me.Username, "unlock example.com " + me.Username,
		"reset account:bob " + me.Username, "reset news@example.com " + me.Username,
	}
	if diff := cmp.Diff(want, b.lines); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestRefusals(t *testing.T) {
	path, _ := start(t, Options{Backend: &book{}})
	c, ctx := NewClient(path), t.Context()
	happened := func(scope string, within time.Duration) error { _, err := c.Happened(ctx, scope, within); return err }
	incidents := func(scope string) error { _, err := c.Incidents(ctx, scope); return err }
	who := func(scope string, n int) error { _, err := c.WhoSends(ctx, scope, n); return err }
	for _, tc := range []struct {
		name string
		err  error
		want string
		is   error
	}{
		{"unknown domain", unlock(c, "none.example"), "unlock none.example: nothing is counted: not found", typed.ErrNotFound},
		{"no domain", lock(c, "../x"), `lock: "../x" must be a domain name like "example.com"`, nil},
		{"default, which is no domain", lock(c, "default"), "lock: default is a scope of limits", nil},
		{"nobody's senders", who("none.example", 1), "who sends of none.example: nothing is counted: not found", typed.ErrNotFound},
		{"no number", who("", 0), "top must be a number", nil},
		{"no author", who("x y", 1), `scope "x y" must be`, nil},
		{"a long name", who("script:/"+strings.Repeat("x", 400), 1), "the scope is too long", nil},
		{"events of a long name", happened(strings.Repeat("x", longestScope+1), time.Hour), "events: the scope is too long", nil},
		{"events of no time", happened("", 0), "events: since when is a time like 90m", nil},
		{"events of nobody", happened("none.example", time.Hour), "events: nothing is counted", nil},
		{"no incident", incidents("none.example"), "incident none.example: nothing is counted: not found", typed.ErrNotFound},
		{"an incident of a long name", incidents(strings.Repeat("x", longestScope+1)), "incident: the number or name is too long", nil},
		{"default", c.Reset(ctx, "default"), "default is a scope of limits", nil},
		{"nobody", lock(NewClient(path+"x"), "example.com"), "no such file", ErrUnreachable},
	} {
		if tc.err == nil || !strings.Contains(tc.err.Error(), tc.want) || (tc.is != nil && !errors.Is(tc.err, tc.is)) {
			t.Errorf("%s: %v, want %q", tc.name, tc.err, tc.want)
		}
	}
}

func TestConfigAndVersion(t *testing.T) {
	values := config.Default().Values()
	version := Version{Version: "v1", PID: 7, Started: time.Unix(5, 0).UTC()}
	path, _ := start(t, Options{Backend: &book{}, Config: func() []config.Value { return values }, Version: version})
	c := NewClient(path)
	got, err := c.Config(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var printed, want strings.Builder
	if err := errors.Join(config.WriteTOML(&printed, got), config.WriteTOML(&want, values)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want.String(), printed.String()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if v, err := c.Version(t.Context()); err != nil || v != version {
		t.Errorf("version = %+v, %v", v, err)
	}
}

// Who is not root, the server's own user or on the list gets 403 and a reason,
// however he got to the socket.
func TestOthersMayNotAsk(t *testing.T) {
	s := New(Options{Backend: &book{}, Log: slog.New(slog.DiscardHandler), Allow: []int{4321}})
	for uid, want := range map[uint32]int{0: 200, uint32(os.Getuid()): 200, 4321: 200, 4322: 403} {
		r, err := http.NewRequestWithContext(
			context.WithValue(t.Context(), peerKey{}, caller{uid, "carol"}), http.MethodGet, "/version", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		w := &answer{header: make(http.Header), code: 200}
		s.handler().ServeHTTP(w, r)
		if w.code != want {
			t.Errorf("uid %d: %d, want %d", uid, w.code, want)
		}
		if want == 403 && !strings.Contains(w.body.String(), "carol may not ask here, root may") {
			t.Errorf("uid %d: %s", uid, w.body.String())
		}
	}
}

type answer struct {
	header http.Header
	body   strings.Builder
	code   int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
func (a *answer) WriteHeader(code int)        { a.code = code }

func TestSocketIsOnlyForItsOwner(t *testing.T) {
	path, _ := start(t, Options{Backend: &book{}})
	info, err := os.Lstat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "is sluice running already?") {
		t.Errorf("a second server: %v", err)
	}
}

// A stop waits for the command that is being carried out, and its caller gets
// the answer.
func TestStopDrains(t *testing.T) {
	b := &book{entry: make(chan struct{}), leave: make(chan struct{})}
	path, stop := start(t, Options{Backend: b})
	answered := make(chan error, 1)
	go func() { answered <- lock(NewClient(path), "example.com") }()
	<-b.entry
	stopped := make(chan error, 1)
	go func() { stopped <- stop() }()
	close(b.leave)
	if err := <-answered; err != nil {
		t.Errorf("answer: %v", err)
	}
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	if err := lock(NewClient(path), "example.com"); !errors.Is(err, ErrUnreachable) {
		t.Errorf("after the stop: %v", err)
	}
}

func TestASluiceThatHangs(t *testing.T) {
	path := filepath.Join(t.TempDir(), "admin")
	ln, err := net.Listen("unix", path) // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c := NewClient(path)
	c.http.Timeout = 20 * time.Millisecond
	if err := lock(c, "example.com"); !errors.Is(err, ErrSilent) {
		t.Errorf("asked one that hangs: %v", err)
	}
}

func TestForeignBytes(t *testing.T) {
	path, _ := start(t, Options{Backend: &book{}})
	long := strings.Repeat("x", maxBody)
	post := func(url, body string) string {
		return fmt.Sprintf("POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", url, len(body), body)
	}
	for _, tc := range []struct{ name, send, want string }{
		{"garbage", "garbage\r\n\r\n", "400"},
		{"not JSON", post("/lock", "x"), "400"},
		{"unknown field", post("/lock", `{"domain":"example.com","force":true}`), "400"},
		{"two questions", post("/lock", `{"domain":"example.com"}{}`), "400"},
		{"too long", post("/lock", `{"domain":"`+long+`"}`), "400"},
		{"long header", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 64<<10) + "\r\n\r\n", "431"},
		{"wrong method", "GET /lock HTTP/1.1\r\nHost: x\r\n\r\n", "405"},
		{"unknown path", "GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "404"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, err := net.Dial("unix", path)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if err := c.SetDeadline(time.Now().Add(hosttest.Patience())); err != nil {
				t.Fatal(err)
			}
			go io.WriteString(c, tc.send) // the server may hang up before it has all
			resp, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if !strings.HasPrefix(resp.Status, tc.want) {
				t.Errorf("%s, want %s", resp.Status, tc.want)
			}
		})
	}
}

// Who gave an order is known by the socket; whom root acts for, by what it says.
func TestOrdersReachThePolicyWithWhoGaveThem(t *testing.T) {
	b := &book{}
	path, _ := start(t, Options{Backend: b})
	c := NewClient(path)
	r, err := c.Change(t.Context(), ChangeRequest{Scope: "a.example", Set: []string{"hourly=5"}, For: time.Hour, Why: "why", Sudo: "alice", Preview: true})
	if err != nil || r.Change.Number != 7 || r.Effects == nil {
		t.Errorf("%+v, %v", r, err)
	}
	me, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	who := me.Username
	if os.Getuid() == 0 {
		who = "alice (as root)"
	}
	if r.Change.Who != who {
		t.Errorf("who is %q, want %q", r.Change.Who, who)
	}
	if _, err := c.History(t.Context(), "a.example"); err != nil {
		t.Error(err)
	}
	if _, err := c.Explain(t.Context(), "a.example"); err != nil {
		t.Error(err)
	}
	lines, err := c.Export(t.Context(), "a.example", true)
	if err != nil || len(lines) != 1 {
		t.Errorf("exported %+v, %v", lines, err)
	}
	lines[0].Why = strings.Repeat("long ", maxBody/5)
	if done, err := c.Import(t.Context(), Lines{Lines: lines, Sudo: "alice"}); err != nil || len(done.Expired) != 1 {
		t.Errorf("imported %+v, %v", done, err)
	}
	if len(b.lines) != 5 || b.lines[3] != "export a.example true" || !strings.HasSuffix(b.lines[4], " by "+who+", preview false") || !strings.Contains(b.lines[0], "Scope:a.example Set:[hourly=5] Unset:[] Rollback:0 For:1h0m0s Why:why") ||
		b.lines[1] != "history a.example" || b.lines[2] != "explain a.example" {
		t.Errorf("%q", b.lines)
	}
	for p, want := range map[caller]string{{0, "root"}: "alice (as root)", {1000, "bob"}: "bob"} {
		if got := p.onBehalfOf("alice"); got != want {
			t.Errorf("%+v: %q, want %q", p, got, want)
		}
	}
}

// A sluice that hung finds the command of an operator who was told that nobody
// answers. It is not done any more.
func TestACommandThatComesTooLateIsNotDone(t *testing.T) {
	b := &book{}
	path, _ := start(t, Options{Backend: b})
	for until, want := range map[time.Duration]int{-time.Second: http.StatusRequestTimeout, time.Minute: http.StatusOK} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://sluice/lock", strings.NewReader(`{"domain":"example.com"}`))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(untilHeader, time.Now().Add(until).Format(time.RFC3339Nano))
		resp, err := NewClient(path).http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("asked until %v from now: %s, want %d", until, resp.Status, want)
		}
	}
	if len(b.lines) != 1 {
		t.Errorf("done: %q", b.lines)
	}
}
