package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/alert"
	"sluice/sidecar/attribution"
	"sluice/sidecar/config"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/event"
	"sluice/sidecar/history"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
	"sluice/sidecar/limit"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
	"sluice/sidecar/policyd"
	"sluice/sidecar/policyd/policytest"
	"sluice/sidecar/queue"
	"sluice/sidecar/refusal"
	"sluice/sidecar/senders"
	"sluice/sidecar/stop"
	"sluice/sidecar/totals"
	"sluice/sidecar/typed"
)

func TestMain(m *testing.M) {
	policytest.Main()
	time.Local = time.UTC  // the transcripts show times
	os.Setenv("TZ", "UTC") // likewise for programs: what the tests log is read by them
	hosttest.UsualModes()
	hosttest.Shuffle()
	flag.Parse()
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if builtDir != "" {
			os.RemoveAll(builtDir)
		}
		os.Exit(code)
	}))
}

// noon is the time of every transcript.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(d time.Duration) *time.Time { return new(noon.Add(d)) }

// stage is a policy with fixed answers, so that what is printed is the same
// each time. Commands and questions reach it over real sockets.
type stage struct {
	status operator.Status
	filled filled
	who    senders.Who
	queue  queue.Report

	past      operator.Past
	incidents []incident.Incident
	lies      bool // it answers with all incidents, whoever is asked for
}

// filled is what a stage answers about thresholds.
type filled struct {
	Result      operator.Result
	History     []history.Change
	Explanation operator.Explanation
	Saved       []history.Saved
	Import      operator.Import
}

func (s stage) Status(_ context.Context, _ time.Time, scope string) (operator.Status, error) {
	if scope == "" {
		return s.status, nil
	}
	one := s.status
	one.Domains, one.Scopes = nil, nil
	one.Stops = slices.DeleteFunc(slices.Clone(s.status.Stops), func(st operator.StopStatus) bool { return stop.DomainOf(st.Scope) != scope && st.Scope != scope })
	for _, d := range s.status.Domains {
		if d.Domain == scope {
			one.Domains = []operator.DomainStatus{d}
			return one, nil
		}
	}
	for _, sc := range s.status.Scopes {
		if sc.Scope == scope {
			one.Scopes = []operator.ScopeStatus{sc}
			return one, nil
		}
	}
	return operator.Status{}, fmt.Errorf("nothing is counted or locked: %w", typed.ErrNotFound)
}

func (s stage) WhoSends(_ time.Time, scope string, n int) (senders.Who, error) {
	w := s.who
	w.Domains = slices.DeleteFunc(slices.Clone(w.Domains), func(r senders.Report) bool { return scope != "" && r.Domain != scope })
	if len(w.Domains) == 0 && scope != "" {
		return w, fmt.Errorf("nothing is counted or locked: %w", typed.ErrNotFound)
	}
	return w, nil
}

func (s stage) Lock(_ context.Context, _ time.Time, domain, _ string) (warning string, err error) {
	if domain == "exmaple.com" {
		warning = "nothing of exmaple.com is counted; did you mean example.com?"
	}
	return warning, nil
}

func (s stage) Unlock(ctx context.Context, now time.Time, domain, _ string) error {
	_, err := s.Status(ctx, now, domain)
	return err
}

func (s stage) StayStopped(_ time.Time, domain string) string {
	if domain == "held.example" {
		return "hacked@held.example stays stopped: sluice start hacked@held.example"
	}
	return ""
}

func (s stage) Stop(_ context.Context, _ time.Time, o stop.Request) (operator.StopStatus, string, error) {
	st := stop.Stop{Mark: "1772366400000-A", Scope: o.Scope, Since: noon, Cause: stop.Operator, Reject: o.Reject, Who: "root", Node: "mx1", Why: o.Why}
	if o.For > 0 {
		st.Until = noon.Add(o.For)
	}
	warning := ""
	if !lockfile.StopFile(o.Scope) {
		warning = "only while sluice runs: its name can be that of no file"
	}
	return operator.StopStatus{Stop: st, State: "in force", Held: 3}, warning, nil
}

func (s stage) Start(_ context.Context, _ time.Time, scope, _ string, release bool) (string, error) {
	switch {
	case scope == "nobody@example.com":
		return "", fmt.Errorf("%w: it is not stopped", typed.ErrNotFound)
	case release:
		return "", nil
	}
	return "3 recipients of messages over an hour old stay held: sluice start " + scope + " --release", nil
}

func (s stage) LeaveOut(context.Context, time.Time, string, string, string) (operator.StopStatus, error) {
	return operator.StopStatus{}, nil
}

func (s stage) EndStop(context.Context, time.Time, string, string, string) (string, error) {
	return "", nil
}

func (s stage) Learn(_ time.Time, all map[string]attribution.Hours) attribution.Learned {
	return attribution.Learned{Domains: len(all)}
}

// Stops has also three stops that are over: sluice has made and ended one, a hand another, and the third has expired.
func (s stage) Stops(time.Time, string) ([]operator.StopStatus, error) {
	all := slices.Clone(s.status.Stops)
	if len(all) == 0 {
		return all, nil
	}
	for i, who := range []string{"sluice", "a hand (its file)"} {
		st := operator.StopStatus{State: "ended", Stop: stop.Stop{Mark: fmt.Sprint(i), Scope: "news@example.com", Since: noon.Add(-time.Hour), Who: who, Node: "mx1", Cause: stop.Operator}}
		if st.Ended, st.EndedBy, st.EndedOn = noon.Add(-time.Minute), who, "mx2"; i == 0 {
			st.Cause, st.Of, st.Why = stop.Deferfail, "example.com", "20/5 (100%) of its sends deferred or failed, of all of example.com 31/5 (41%)"
		}
		all = append(all, st)
	}
	return append(all, operator.StopStatus{State: "expired", Stop: stop.Stop{Mark: "2", Scope: "login:bob", Since: noon.Add(-time.Hour), Until: noon.Add(-time.Minute), Who: "root", Node: "mx2", Cause: stop.Operator}}), nil
}

func (s stage) Reset(_ context.Context, _ time.Time, scope, _ string) error {
	if scope == "full.example" {
		return errors.New("write journal: no space left on device")
	}
	return nil
}

func (s stage) Change(context.Context, time.Time, history.Edit) (operator.Result, error) {
	return s.filled.Result, nil
}

func (s stage) History(time.Time, string) ([]history.Change, error) { return s.filled.History, nil }

func (s stage) Explain(time.Time, string) (operator.Explanation, error) {
	return s.filled.Explanation, nil
}

func (s stage) Export(time.Time, string, bool) ([]history.Saved, error) {
	return s.filled.Saved, nil
}

func (s stage) Import(context.Context, time.Time, []history.Saved, string, bool) (operator.Import, error) {
	return s.filled.Import, nil
}

func (s stage) Ask(_ context.Context, _ time.Time, r sidecar.Request) sidecar.Reply {
	if r.Auth == "news@example.com" {
		return sidecar.Reply{Action: sidecar.Defer, Text: "Domain example.com has exceeded the max emails per hour (21/20 (105%)) allowed.  Message will be reattempted later"}
	}
	if r.Auth == "sales@example.com" { // as with refusal.details = "operator"
		return sidecar.Reply{Action: sidecar.Reject, Text: "Domain example.com has been suspended from sending.", Log: "Domain example.com has been suspended from sending. [sluice on mx1]"}
	}
	return sidecar.Reply{Room: 17}
}

func window(seconds float64, sent, limit int64) []operator.Window {
	w := operator.Window{Seconds: seconds, Sent: sent, Limit: limit}
	if limit > 0 {
		w.Percent = sent * 100 / limit
	}
	return []operator.Window{w}
}

// stages are the policies of the transcripts, by the word in their name.
var stages = map[string]stage{
	"quiet": {status: operator.Status{Node: "mx1", Now: noon, Totals: operator.Totals{Journal: "ok", Locks: "ok", Sockets: "ok"}}},
	"busy": {status: operator.Status{
		Node: "mx1", Now: noon,
		Domains: []operator.DomainStatus{
			{Domain: "a.example", Counts: operator.Counts{Sent: 3}, Usage: operator.Usage{Hourly: 500, Windows: window(3600, 3, 500)}, Mode: limit.Enforce},
			{Domain: "bulk.example", Counts: operator.Counts{Sent: 500}, Watch: refusal.Watch{Sends: 4321, First: at(-6 * 24 * time.Hour), Last: at(-time.Minute)}, Usage: operator.Usage{Hourly: 500, HourlyPercent: 100, Windows: window(3600, 500, 500)}, Mode: limit.Watch},
			{Domain: "calm.example", Counts: operator.Counts{Sent: 5}, Usage: operator.Usage{Hourly: 500, HourlyPercent: 1, Windows: window(3600, 5, 500)}, Mode: limit.Watch},
			{
				Domain: "example.com", Account: "bob", Counts: operator.Counts{Sent: 20, Refused: 3, Delivered: 15, Deferred: 2, Failed: 1},
				Usage: operator.Usage{Hourly: 20, HourlyPercent: 100, Windows: window(3600, 20, 20)}, DeferfailStatus: operator.DeferfailStatus{DeferfailPercent: 25, DeferfailNow: 15, DeferfailMin: 5}, Held: 1,
				Locks:   []operator.LockStatus{{Kind: lockfile.Hourly, Since: noon.Add(-20 * time.Minute), Until: at(12 * time.Minute), Owner: "sluice"}},
				FreesAt: at(12 * time.Minute),
			},
			{
				Domain: "held.example", Counts: operator.Counts{Sent: 450}, Usage: operator.Usage{Hourly: 500, HourlyPercent: 90, Windows: append(window(3600, 450, 500), window(86400, 1980, 2000)...)}, DeferfailStatus: operator.DeferfailStatus{DeferfailPercent: 25, DeferfailMin: 5},
				Locks: []operator.LockStatus{{Kind: lockfile.DeferFail, Since: noon.Add(-26 * time.Hour), Owner: "operator"}},
			},
			{Domain: "stopped.example", Usage: operator.Usage{Hourly: 500, Windows: window(3600, 0, 500)}, Blocked: operator.Blocked{Stopped: "Account carol is on hold.", StoppedBy: "panel"}},
			{Domain: "free.example", Counts: operator.Counts{Sent: 12345}, Usage: operator.Usage{Windows: window(3600, 12345, 0)}, Mode: limit.Enforce},
			{
				Domain: "tripped.example", Counts: operator.Counts{Sent: 12, Refused: 7, Failed: 6}, Usage: operator.Usage{Hourly: 500, HourlyPercent: 2, Windows: window(3600, 12, 500)}, DeferfailStatus: operator.DeferfailStatus{DeferfailPercent: 25, DeferfailNow: 50, DeferfailMin: 5,
					Trip: &deferfail.TripStatus{Since: noon.Add(-10 * time.Minute), By: "failures", Ends: noon.Add(50 * time.Minute)}},
				Locks: []operator.LockStatus{{Kind: lockfile.DeferFail, Since: noon.Add(-10 * time.Minute), Until: at(50 * time.Minute), Owner: "sluice"}},
			},
			{Domain: "near.example", Counts: operator.Counts{Sent: 499}, Usage: operator.Usage{Hourly: 500, HourlyPercent: 99, Windows: window(3600, 499, 500)}},
		},
		Scopes: []operator.ScopeStatus{
			{Scope: "account:bob", Counts: operator.Counts{Refused: 2}, Windows: append(window(3600, 20, 5000), window(86400, 6000, 6000)...), FreesAt: at(3 * time.Hour)},
			{Scope: "account:carol", Windows: []operator.Window{}, Stopped: "Account carol is on hold.", StoppedBy: "panel"},
			{Scope: "news@example.com", Windows: window(3600, 20, 200)},
			{
				Scope: "forward:example.com", Counts: operator.Counts{Sent: 10, Delivered: 2, Deferred: 8}, Windows: window(3600, 10, 500), Held: 2,
				DeferfailStatus: operator.DeferfailStatus{DeferfailPercent: 25, DeferfailNow: 60, DeferfailMin: 5,
					Causes:  []deferfail.CauseStatus{{Cause: sidecar.RemoteDefer, Count: 8, LastLine: "== x@far.example R=dnslookup T=remote_smtp defer (-44) H=mx.far.example [192.0.2.7]: 450 try again"}},
					LeftOut: []deferfail.LeftOut{{Destination: "mx.far.example", Cause: sidecar.RemoteDefer, Count: 2}},
					Trip:    &deferfail.TripStatus{Since: noon.Add(-time.Minute), By: "deferrals", Ends: noon.Add(40 * time.Minute)}},
			},
			{Scope: "service:www-data", Windows: window(3600, 500, 500), Held: 4, FreesAt: at(time.Minute)},
		},
		Stops: []operator.StopStatus{{State: "in force", Held: 212,
			Stop: stop.Stop{Mark: "1772365800000-B", Scope: "hacked@example.com", Since: noon.Add(-10 * time.Minute), Until: noon.Add(23 * time.Hour), Cause: stop.Operator, Who: "alice (as root)", Node: "mx2", Why: "stolen password"}}},
		Totals: operator.Totals{Who: attribution.Status{Subjects: 9, Authors: 12, Memory: 4711, Dropped: 3}, Decisions: totals.Decisions{Accepted: 13317, Refused: 4, Exempt: 2, Watched: 99}, Journal: "ok", Locks: "ok", Sockets: "ok"},
	}},
	"past": pastStage,
	"who": {who: senders.Who{Node: "mx1", Missing: []string{"mx3"}, Now: noon, Seconds: 3600, Domains: []senders.Report{
		{Domain: "example.com", Sent: 487, Tried: 518, Refused: 31, Limit: 500, FullAt: at(2 * time.Minute), Unattributed: 5, Nodes: []string{}, Uncounted: []senders.Unpaid{{Name: "exempt", Sent: 412}},
			CalledSpam: &senders.CalledSpam{Servers: []string{"mx.post.example", "mx.mail.example"}, Text: "550 5.7.1 blocked for spam", At: noon.Add(-time.Minute)},
			Authors: []senders.Author{
				{Key: "hacked@example.com", Kind: "mailbox", Proof: "proven", Parent: "bob", Tried: 490, Sent: 461, Share: 94, Bad: 175, Causes: map[sidecar.Cause]int64{sidecar.CalledSpam: 175},
					Networks: []senders.Share{{Name: "203.0.113.0/24", Tried: 300}, {Name: "198.51.100.0/24", Tried: 190}}, MoreNetworks: true, Recipients: 458, Senders: 1,
					Destinations: []senders.Share{{Name: "mail.example", Tried: 210}, {Name: "post.example", Tried: 98}}, Subject: "Your invoice 8841", SubjectCount: 455, FirstSeen: noon.Add(-time.Hour)},
				{Key: "script:/home/bob/public_html/wp", Kind: "script", Proof: "claimed", Parent: "bob", Tried: 19, Sent: 14, Error: 2, Share: 3, Causes: map[sidecar.Cause]int64{}, Header: "1001:mailer.php",
					Networks: []senders.Share{{Name: "this host", Tried: 19}}, Destinations: []senders.Share{}, Recipients: 9, FirstSeen: noon.Add(-300 * time.Hour), Stopped: "stopped by root at 2026-03-01 11:58:00: stolen"},
			}},
		{Domain: "forward:example.com", Sent: 3, Tried: 3, Uncounted: []senders.Unpaid{}, Authors: []senders.Author{{Key: "forward:$(reboot)@example.com", Kind: "forward", Proof: "proven", Tried: 3, Sent: 3, Share: 100, FirstSeen: noon}}},
	}, Uncounted: []senders.Unpaid{{Name: "bounces and warnings", Sent: 31}, {Name: "exempt", Sent: 412}}}},
	"cluster": {status: operator.Status{
		Node: "mx1", Now: noon,
		Domains: []operator.DomainStatus{{Domain: "example.com", Counts: operator.Counts{Sent: 24}, Usage: operator.Usage{Hourly: 40, Windows: window(3600, 24, 40)}, Partial: true}},
		Scopes:  []operator.ScopeStatus{{Scope: "news@example.com", Windows: window(3600, 9, 20), Partial: true}},
		Totals: operator.Totals{Journal: "ok", Locks: "ok", Sockets: "ok", Shared: &operator.SharedStatus{
			Mode: "share", Changes: 3, Unmerged: 7, Of: 2,
			Servers: []operator.ServerStatus{{Server: "redis.example:6379", Mode: "share", Since: noon.Add(-time.Minute),
				Trouble: "ask redis.example:6379: timeout: no answer within 45ms: i/o timeout", Evicts: "allkeys-lru"}},
			Nodes: []operator.NodeStatus{{Node: "mx1", SignAge: 61, Mode: "share", Milliseconds: 0.3}, {Node: "mx2", SignAge: 0.4, Mode: "shared", Milliseconds: 0.25, Differs: true, Namesake: true},
				{Node: "mx3", SignAge: 0.9, Mode: "shared", Milliseconds: 12.5}},
		}},
	}},
	"queue": {queue: queued},
	"trouble": {status: operator.Status{
		Node: "mx1", Now: noon,
		Totals: operator.Totals{
			Uncounted: 70, Subjects: 4000000,
			Logs: []logline.Progress{
				{Key: "exim.mainlog", File: "/var/log/exim4/mainlog", Read: 123 << 20, Size: 200 << 20, Last: noon.Add(-time.Hour)},
				{Key: "postfix.log", File: "/var/log/mail.log.1", Read: 5 << 20, Size: 10 << 20, Last: noon.Add(-time.Minute)},
			},
			Journal: "write /var/lib/sluice/journal: no space left on device",
			Locks:   "make lock file /var/cpanel/email_send_limits/max_hourly_a.example: no space left on device: free some space or inodes there",
		},
	}},
}

// Each testdata/NAME.txt is a session: lines "$ ARGS" as typed after sluice,
// and what was printed. Its name says which stage it plays on.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) { playTranscript(t, file) })
	}
}

func playTranscript(t *testing.T, file string) {
	dir := t.TempDir()
	word, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".txt"), "-")
	if s, ok := stages[word]; ok {
		serveStage(t, dir, s)
	}
	config := fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n[limits]\nhourly = 20\n",
		"unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock")
	writeFile(t, dir+"/sluice.toml", config)
	writeFile(t, dir+"/bad.toml", "[limits]\nhourley = 20\nwindow = 5\n")
	writeFile(t, dir+"/lost.toml", fmt.Sprintf("[listen]\npolicy = [%q]\nadmin = %q\n[limits]\nhourley = 20\n", "unix:"+dir+"/policy.sock", "unix:"+dir+"/admin.sock"))

	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var got strings.Builder
	for line := range strings.Lines(string(want)) {
		if args, ok := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "$ "); ok {
			got.WriteString(line)
			got.WriteString(play(t, dir, args))
		}
	}
	hosttest.Golden(t, file, got.String())
}

// play runs one command; "ARGS < TEXT" gives it TEXT on stdin, where \n is a
// newline. $DIR is the directory of sockets and files.
func play(t *testing.T, dir, typed string) string {
	args, stdin, _ := strings.Cut(typed, " < ")
	stdin = strings.ReplaceAll(stdin, `\n`, "\n")
	argv := strings.Fields(strings.ReplaceAll(args, "$DIR", dir))
	if !strings.Contains(args, "--config") {
		argv = append(argv, "--config", dir+"/sluice.toml")
	}
	var stdout, stderr bytes.Buffer
	code := run(t.Context(), argv, strings.NewReader(stdin), &stdout, &stderr)
	text := stdout.String()
	for line := range strings.Lines(stderr.String()) {
		text += "! " + line
	}
	if code != exitDone {
		text += fmt.Sprintf("[exit %d]\n", code)
	}
	return strings.ReplaceAll(text, dir, "$DIR")
}

// serveStage serves a stage on real sockets until the test ends.
func serveStage(t *testing.T, dir string, s stage) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	adminSocket, err := admin.Listen(dir + "/admin.sock")
	if err != nil {
		t.Fatal(err)
	}
	policySocket, err := policyd.Listen(dir + "/policy.sock")
	if err != nil {
		t.Fatal(err)
	}
	adminServer := admin.New(admin.Options{
		Backend: s,
		Config: func() []config.Value {
			return []config.Value{{Key: "limits.hourly", Value: int64(20), Origin: "sluice.toml:5"}}
		},
		Queue:      s.showQueue,
		Quarantine: func() *queue.Aside { return &s.queue.Quarantine },
		Version:    admin.Version{Version: "v1.2.3", Started: noon, PID: 4711},
		Log:        log,
		AlertTest: func(_ context.Context, channel string) (alert.Tested, error) {
			if channel != "" && channel != "mail" {
				return alert.Tested{}, alert.ErrNoChannel
			}
			all := []alert.Result{{Channel: "mail", Target: "ops@example.net"}, {Channel: "webhook", Target: "https://hooks.example.net/***", Error: "hooks.example.net answers 404 Not Found: no such hook"}}
			return alert.Tested{Channels: all[:max(1, 2-len(channel))]}, nil
		},
	})
	hosttest.Serve(t, adminServer, adminSocket)
	hosttest.Serve(t, policyd.New(s, policyd.Options{Events: event.NewLog(log)}), policySocket)
}

func writeFile(t testing.TB, name, text string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
