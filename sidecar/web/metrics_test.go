package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/engine"
	"sluice/sidecar/event"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
	"sluice/sidecar/settings"
	"sluice/sidecar/stop"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A site is an Engine with its metrics, on its real store.
type site struct {
	*engine.Engine
	t       testing.TB
	metrics *Metrics
	asker   Asker
	store   *journal.Store
	now     time.Time
	ids     int
}

// Deliver implements hold.Queue.
func (s *site) Deliver(context.Context, []string) error { return nil }

func newSite(t testing.TB, text string) *site {
	t.Helper()
	c, err := config.Parse("test.toml", text)
	if err != nil {
		t.Fatal(err)
	}
	s := &site{t: t, now: time.Now()}
	s.metrics = New(Options{Measures: func(now time.Time) operator.Measures { return s.Measures(now) }, Version: "v1",
		Attributed: func(now time.Time, subject string) int64 { return s.Who.Attributed(now, subject) },
		Notices:    func() []Notices { return []Notices{{"mail", 5, 3, 1, 2}, {"webhook", 0, 0, 0, 0}} },
		Queue: func() map[string]Waiting {
			return map[string]Waiting{"active": {7, s.now.Add(-time.Hour)}, "frozen": {}, "held": {}, "bounce": {}}
		},
		Settings: func() *settings.Settings { return s.Settings.Load() }, Top: int(c.Metrics.Top), Now: s.now})
	store, err := journal.Open(t.TempDir(), journal.Options{Ledger: ratelimit.Options{Keep: c.LongestWindow(), MaxSubjects: 1_000_000}})
	if err != nil {
		t.Fatal(err)
	}
	s.store = store
	t.Cleanup(func() { store.Close() })
	locks, err := lockdir.Open(lockdir.Options{Path: t.TempDir(), Notes: store})
	if err != nil {
		t.Fatal(err)
	}
	s.Engine = engine.New(engine.Options{Config: c, Node: "mx1.example", Exim: engine.Exim{User: "exim"}, Store: store, Notes: store, Locks: locks,
		Queue: s, Events: event.NewStream(event.NewLog(slog.New(slog.DiscardHandler)), s.metrics), Now: s.now})
	s.OnSurvey(s.metrics.Survey)
	s.Recorder.AddObserver(s.metrics)
	s.asker = s.metrics.Asker(s.Engine)
	return s
}

// ask asks about one recipient of a message of a mailbox.
func (s *site) ask(stage sidecar.Stage, from string) sidecar.Reply {
	r := sidecar.Request{Stage: stage, Sender: from, Recipient: "u@far.example", Submitter: sidecar.Submitter{Auth: from, ClientAddress: "192.0.2.1"}}
	if stage != sidecar.StageRcpt {
		s.ids++
		r.ID, r.Recipients = s.id(), "u@far.example"
	}
	return s.asker.Ask(s.t.Context(), s.now, r)
}

// id is that of a message of now, in Exim's way: seconds in base 62.
func (s *site) id() string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var seconds [6]byte
	for i, n := 5, s.now.Unix(); i >= 0; i, n = i-1, n/62 {
		seconds[i] = digits[n%62]
	}
	return fmt.Sprintf("%s-%06d-0q", seconds[:], s.ids)
}

// values are those of an exposition, by name and labels.
func (s *site) values() map[string]float64 {
	s.t.Helper()
	all := map[string]float64{}
	for line := range strings.Lines(s.exposition()) {
		name, value, ok := strings.Cut(strings.TrimSpace(line), "} ")
		if name += "}"; !ok {
			name, value, _ = strings.Cut(strings.TrimSpace(line), " ")
		}
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = v
		}
	}
	return all
}

func (s *site) exposition() string {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		s.t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Body.String()
}

// want compares some values.
func (s *site) want(want map[string]float64) {
	s.t.Helper()
	all := s.values()
	for name, v := range want {
		if got, there := all[name]; !there || got != v {
			s.t.Errorf("%s is %v (there: %v), want %v", name, got, there, v)
		}
	}
}

// survey has all subjects looked at, as the loop of a running node does.
func (s *site) survey() {
	s.Run(&ended{Context: s.t.Context()})
}

// standings are those of all subjects.
func (s *site) standings() (all []ratelimit.Standing) {
	s.store.Standings(s.now, func(st ratelimit.Standing) bool {
		all = append(all, st)
		return true
	})
	return all
}

// An ended context ends a loop after its first look at all subjects.
type ended struct{ context.Context }

// Done implements context.Context.
func (ended) Done() <-chan struct{} {
	done := make(chan struct{})
	close(done)
	return done
}

const limit4 = "[limits]\nhourly = 4\n[limits.domain.\"full.example\"]\nhourly = 2\n[limits.domain.\"free.example\"]\nhourly = 0\ndaily = 100\n"

func TestQuestionsAndWhatBecameOfThem(t *testing.T) {
	s := newSite(t, limit4)
	for range 4 {
		s.ask(sidecar.StageData, "news@a.example")
	}
	for range 2 {
		s.ask(sidecar.StageRcpt, "news@a.example")
	}
	for range 3 { // a queue run asks again
		s.ids = 90
		if r := s.ask(sidecar.StageRoute, "news@a.example"); r.Action != sidecar.Defer {
			t.Fatalf("%+v", r)
		}
	}
	s.ask(sidecar.StageMilterEnd, "news@b.example")
	s.want(map[string]float64{
		`sluice_questions_total{answer="accept",front="exim",stage="data"}`:   4,
		`sluice_questions_total{answer="reject",front="exim",stage="rcpt"}`:   2,
		`sluice_questions_total{answer="defer",front="exim",stage="route"}`:   3,
		`sluice_questions_total{answer="accept",front="milter",stage="end"}`:  1,
		`sluice_questions_total{answer="accept",front="postfix",stage="end"}`: 0,
		`sluice_question_duration_seconds_count{front="exim"}`:                9,
		`sluice_sends_total{result="accepted"}`:                               5,
		`sluice_sends_total{result="refused"}`:                                2,
		`sluice_sends_total{result="held"}`:                                   1,
		`sluice_refusals_total{reason="hourly"}`:                              3,
		`sluice_refusals_total{reason="stop"}`:                                0,
		`sluice_held_recipients`:                                              1,
		`sluice_queue_messages{state="active"}`:                               7,
		`sluice_queue_oldest_seconds{state="active"}`:                         3600,
		`sluice_queue_oldest_seconds{state="frozen"}`:                         0,
		`sluice_notices_total{channel="mail",result="delivered"}`:             5,
		`sluice_notices_total{channel="mail",result="failed"}`:                3,
		`sluice_notices_waiting{channel="mail"}`:                              2,
		`sluice_ledger_sends`:                                                 5,
		`sluice_limit_overshoot_sends`:                                        0,
		`sluice_store_mode{mode="embedded"}`:                                  1,
		`sluice_store_mode{mode="shared"}`:                                    0,
		`sluice_build_info{version="v1"}`:                                     1,
	})
}

func TestRefusalsByReason(t *testing.T) {
	s := newSite(t, limit4+"[limits.domain.\"daily.example\"]\ndaily = 1\n[limits.domain.\"watched.example\"]\nhourly = 1\nmode = \"watch\"\n")
	ctx := t.Context()
	s.ask(sidecar.StageData, "news@daily.example")
	s.ask(sidecar.StageData, "news@daily.example")
	s.ask(sidecar.StageData, "news@watched.example")
	s.ask(sidecar.StageData, "news@watched.example")
	if _, err := s.Lock(ctx, s.now, "locked.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.ask(sidecar.StageRcpt, "news@locked.example")
	s.ask(sidecar.StageData, "hacked@b.example")
	if _, _, err := s.Operator.Stop(ctx, s.now, stop.Request{Scope: "hacked@b.example", Who: "root"}); err != nil {
		t.Fatal(err)
	}
	s.ask(sidecar.StageRcpt, "hacked@b.example")
	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{"held.example": {Place: "hold:1"}}})
	s.ask(sidecar.StageRcpt, "news@held.example")
	gone := sidecar.Request{Stage: sidecar.StageRcpt, Sender: "x@c.example", Recipient: "u@far.example",
		Submitter: sidecar.Submitter{ClientAddress: "127.0.0.1"}, Connection: sidecar.Connection{Socket: sidecar.SocketGone}}
	s.asker.Ask(ctx, s.now, gone)
	s.want(map[string]float64{
		`sluice_refusals_total{reason="daily"}`:             1,
		`sluice_refusals_total{reason="lock"}`:              1,
		`sluice_refusals_total{reason="stop"}`:              1,
		`sluice_refusals_total{reason="panel"}`:             1,
		`sluice_refusals_total{reason="gone"}`:              1,
		`sluice_refusals_total{reason="hourly"}`:            0,
		`sluice_sends_total{result="watched"}`:              1,
		`sluice_sends_total{result="refused"}`:              5,
		`sluice_locks{kind="max_hourly"}`:                   1,
		`sluice_locks{kind="max_deferfail"}`:                0,
		`sluice_stops{cause="operator"}`:                    1,
		`sluice_stops{cause="deferfail"}`:                   0,
		`sluice_limit_overshoot_sends`:                      0, // what is only watched is none
		`sluice_events_total{event="command",level="info"}`: 1,
	})
}

func TestOutcomesLogAndEvents(t *testing.T) {
	s := newSite(t, limit4)
	record := func(kind logline.Kind, text string) {
		s.ask(sidecar.StageData, "news@a.example")
		id := s.id()
		entries := []logline.Entry{
			{Kind: logline.Arrived, ID: id, At: s.now, Arrival: logline.Arrival{Sender: "news@a.example", Auth: "news@a.example", ClientAddress: "192.0.2.1"}},
			{Kind: kind, ID: id, At: s.now, Attempt: logline.Attempt{Recipient: "u@far.example", Router: "dnslookup", Transport: "remote_smtp", Text: text}},
			{Kind: logline.Completed, ID: id, At: s.now}, {Kind: logline.Moved, ID: id, At: s.now},
		}
		s.metrics.Read("exim", entries)
		s.Record(t.Context(), s.now, entries)
	}
	record(logline.Delivered, "")
	record(logline.Failed, "550 5.1.1 no such user")
	record(logline.Deferred, "451 greylisted, come back")
	s.metrics.Emit(event.Event{Kind: event.StoreFailed})
	s.metrics.Emit(event.Event{Kind: event.Refused}) // only of the debug log
	s.metrics.CalledRedis(3*time.Millisecond, nil)
	s.metrics.CalledRedis(time.Second, errors.New("timeout"))
	s.want(map[string]float64{
		`sluice_outcomes_total{cause="none",outcome="delivered"}`:         1,
		`sluice_outcomes_total{cause="no-such-address",outcome="failed"}`: 1,
		`sluice_outcomes_total{cause="greylist",outcome="deferred"}`:      1,
		`sluice_outcomes_total{cause="dns",outcome="deferred"}`:           0,
		`sluice_log_lines_total{kind="arrived",log="exim"}`:               3,
		`sluice_log_lines_total{kind="delivered",log="exim"}`:             1,
		`sluice_log_lines_total{kind="other",log="exim"}`:                 3,
		`sluice_events_total{event="store-failed",level="error"}`:         1,
		`sluice_redis_duration_seconds_count`:                             2,
		`sluice_redis_duration_seconds_bucket{le="0.005"}`:                1,
		`sluice_redis_errors_total`:                                       1,
	})
	if strings.Contains(s.exposition(), `event="refused"`) {
		t.Error("an event of the debug log is counted")
	}
}

func TestDomainsOverAndTheBusiest(t *testing.T) {
	s := newSite(t, "[metrics]\ntop = 2\n"+limit4+"[limits.domain.\"c.example\"]\nhourly = 4\n")
	for domain, n := range map[string]int{"full.example": 2, "a.example": 3, "b.example": 1, "c.example": 3, "free.example": 1} {
		for range n {
			s.ask(sidecar.StageData, "news@"+domain)
		}
	}
	s.ask(sidecar.StageData, "news@reset.example")
	if err := s.Operator.Reset(t.Context(), s.now, "reset.example", "root"); err != nil { // its epoch is kept
		t.Fatal(err)
	}
	s.survey()
	s.want(map[string]float64{
		`sluice_domains`:                       5,
		`sluice_domains_over{threshold="50"}`:  3,
		`sluice_domains_over{threshold="80"}`:  1,
		`sluice_domains_over{threshold="100"}`: 1,
		`sluice_top_sends{domain="c.example"}`: 3,
	})
	text := s.exposition()
	if n := strings.Count(text, "\nsluice_top_sends{"); n != 2 {
		t.Errorf("%d of the busiest are told of, want 2", n)
	}
	if strings.Contains(text, "a.example") {
		t.Error("a domain is a label though only its senders have named it")
	}
}

// Sends of which no author is known are counted once, whatever else of theirs has a limit, and only
// those.
func TestSendsWithoutAnAuthor(t *testing.T) {
	s := newSite(t, limit4+"[limits.mailbox.\"news@a.example\"]\nhourly = 4\n")
	for range 3 {
		s.ask(sidecar.StageData, "news@a.example")
	}
	s.ask(sidecar.StageData, "news@b.example")
	s.survey()
	s.want(map[string]float64{"sluice_who_unattributed": 0})
	for i, name := range []string{"a.example", "login:bob", "login:bob"} { // charged as by another node that tells nothing of it
		var subjects []ratelimit.Subject
		for _, name := range []string{name, "news@a.example", "account:bob"} {
			subjects = append(subjects, ratelimit.Subject{Name: name, Limits: []ratelimit.Limit{{Window: time.Hour, Max: 100}}})
		}
		if _, err := s.store.Take(t.Context(), s.now, ratelimit.Take{Subjects: subjects, Tokens: []ratelimit.Token{ratelimit.Token(i + 1)}}); err != nil {
			t.Fatal(err)
		}
	}
	s.survey()
	s.want(map[string]float64{"sluice_who_unattributed": 3})
}

func TestTheBusiestAreKept(t *testing.T) {
	for _, order := range [][]int64{{1, 2, 3, 4}, {4, 3, 2, 1}, {2, 4, 1, 3}, {3, 1, 4, 2}} {
		var f found
		for _, sent := range order {
			f.addBusiest(busy{sent: sent}, 2)
		}
		if len(f.top) != 2 || f.top[0].sent != 4 || f.top[1].sent != 3 {
			t.Errorf("of %v: %v", order, f.top)
		}
	}
}

// Whatever senders choose, it is in no label.
func TestNoLabelHoldsWhatASenderChooses(t *testing.T) {
	s := newSite(t, "[metrics]\ntop = 1000\n"+limit4)
	before := strings.Count(s.exposition(), "\n")
	for i := range 100 {
		r := sidecar.Request{Stage: sidecar.StageData, ID: fmt.Sprintf("1xUzSN-%06d-0q", i), Sender: fmt.Sprintf("chosen%d@chosen%d.example", i, i), Subject: "chosen",
			Recipients: fmt.Sprintf("chosen%d@chosen%d.example", i, i), Submitter: sidecar.Submitter{Login: "bob", CWD: fmt.Sprintf("/home/bob/chosen%d", i), UID: "1000"}}
		s.asker.Ask(t.Context(), s.now, r)
	}
	s.survey()
	text := s.exposition()
	if strings.Contains(text, "chosen") || strings.Count(text, "\n") != before {
		t.Errorf("%d lines became %d", before, strings.Count(text, "\n"))
	}
	if before > 400 {
		t.Errorf("%d lines", before)
	}
}

func TestLint(t *testing.T) {
	s := newSite(t, "[metrics]\ntop = 5\n"+limit4)
	s.ask(sidecar.StageData, "news@full.example")
	s.survey()
	problems, err := promlint.New(strings.NewReader(s.exposition())).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

func TestReadiness(t *testing.T) {
	s := newSite(t, limit4)
	logs := []logline.Progress{{Key: "exim.mainlog", Read: 100, Size: 150}}
	s.ShowProgress(func() []logline.Progress { return logs })
	of := s.Measures(s.now)
	s.metrics.options.Measures = func(time.Time) operator.Measures { return of }
	get := func(path string) (int, string) {
		w := httptest.NewRecorder()
		s.metrics.Handler().ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		return w.Code, w.Body.String()
	}
	wants := func(what string, code int, parts ...string) {
		t.Helper()
		got, text := get("/readyz")
		if got != code {
			t.Errorf("%s: %d, want %d", what, got, code)
		}
		for _, part := range parts {
			if !strings.Contains(text, part) {
				t.Errorf("%s: it does not say %q:\n%s", what, part, text)
			}
		}
	}
	if code, text := get("/healthz"); code != http.StatusOK || text != "ok\n" {
		t.Errorf("it lives: %d %q", code, text)
	}
	wants("nobody has asked", 503, "not ready\n", "store  ok", "log    ok: exim.mainlog is read, but for 50 bytes", "asked  not ready: no mail server has asked since", "sluice doctor")
	s.asker.Ask(t.Context(), s.now, sidecar.Request{Stage: sidecar.StageRcpt, Sender: Watchdog})
	wants("only itself has asked", 503, "asked  not ready")
	s.ask(sidecar.StageRcpt, "news@a.example")
	wants("Exim has asked", 200, "ready\n", "asked  ok: a mail server has asked last at")
	of.Logs[0].Trouble = "open the log: there is no /var/log/exim4/mainlog"
	wants("no log", 503, "log    not ready: exim.mainlog: open the log: there is no /var/log/exim4/mainlog", "store  ok")
	of.Logs[0].Trouble, of.Logs[0].Size = "", 100+farBehind
	wants("nearly far behind", 200)
	of.Logs[0].Size++
	wants("far behind", 503, "log    not ready: exim.mainlog: 16777217 bytes")
	of.Logs = nil
	wants("none followed", 200, "log    ok: none is followed")
	of.Journal = "disk full"
	wants("a full disk", 503, "store  not ready: what is answered would not survive a crash: disk full")
	s.want(map[string]float64{`sluice_ready{part="store"}`: 0, `sluice_ready{part="log"}`: 1, `sluice_ready{part="asked"}`: 1})
	of.Journal, of.Shared = "ok", &operator.SharedStatus{Mode: "share"}
	wants("without Redis", 200, `store  ok: what is answered is on disk; Redis does not answer, and this node decides alone (store.outage = "share")`)
	s.want(map[string]float64{`sluice_store_mode{mode="share"}`: 1, `sluice_store_mode{mode="embedded"}`: 0})
	of.Shared.Mode = "closed"
	wants("closed without Redis", 503, "store  not ready: Redis does not answer, and until then all mail gets 450")
	of.Shared.Mode = "shared"
	wants("with Redis", 200)
}

func TestTokens(t *testing.T) {
	s := newSite(t, limit4)
	for _, c := range []struct {
		path, authorization string
		want                int
	}{
		{"/metrics", "", 401}, {"/metrics", "Bearer 0123456789abcdef", 200}, {"/metrics", "Bearer fedcba9876543210", 200},
		{"/metrics", "Bearer 0123456789abcde", 401}, {"/metrics", "Bearer ", 401}, {"/readyz", "", 401}, {"/readyz", "Bearer 0123456789abcdef", 503},
		{"/healthz", "", 200}, {"/", "Bearer 0123456789abcdef", 404},
	} {
		w, r := httptest.NewRecorder(), httptest.NewRequest("GET", c.path, nil)
		if c.authorization != "" {
			r.Header.Set("Authorization", c.authorization)
		}
		s.metrics.Handler("0123456789abcdef", "fedcba9876543210").ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%s with %q: %d, want %d", c.path, c.authorization, w.Code, c.want)
		}
		if c.want == 401 && (strings.Contains(w.Body.String(), "sluice_") || w.Header().Get("WWW-Authenticate") != "Bearer") {
			t.Errorf("%s with %q: %v %s", c.path, c.authorization, w.Header(), w.Body)
		}
	}
}

func TestTextfile(t *testing.T) {
	s := newSite(t, limit4)
	dir := filepath.Join(t.TempDir(), "textfile")
	var events []event.Kind
	sink := event.Func(func(e event.Event) { events = append(events, e.Kind) })
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.metrics.Write(ctx, dir, sink) }()
		time.Sleep(WriteEvery + time.Second)
		synctest.Wait()
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Error(err)
		}
		time.Sleep(WriteEvery)
		synctest.Wait()
		text, err := os.ReadFile(filepath.Join(dir, Textfile))
		if err != nil || !strings.Contains(string(text), "\nsluice_domains 0\n") {
			t.Errorf("%v: %s", err, text)
		}
		if info, err := os.Stat(filepath.Join(dir, Textfile)); err != nil || info.Mode().Perm() != 0o644 {
			t.Errorf("node_exporter cannot read it: %v, %v", info, err)
		}
		if fmt.Sprint(events) != "[metrics-failed metrics-mended]" {
			t.Errorf("events: %v", events)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("at the end there is %v, %v", left, err)
	}
}
