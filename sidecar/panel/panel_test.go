package panel

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/settings"
	"sluice/sidecar/typed"
)

func TestMain(m *testing.M) {
	hosttest.Shuffle()
	goleak.VerifyTestMain(m)
}

const trees = "../../testdata/panel"

// said writes down what a panel says, with paths below the root. Of settings
// that others cover, only the last is shown.
func said(root string, p settings.Panel) string {
	last := map[string]string{}
	for _, s := range p.Settings {
		last[fmt.Sprintf("%s %s", s.Scope, s.Key)] = fmt.Sprintf("%v (%s)", s.Value, s.Place)
	}
	var lines []string
	for name, value := range last {
		lines = append(lines, name+" = "+value)
	}
	for scope, stop := range p.Blocks {
		what := "on hold"
		if stop.Suspended {
			what = "suspended"
		}
		lines = append(lines, fmt.Sprintf("%s %s (%s)", scope, what, stop.Place))
	}
	slices.Sort(lines)
	for _, login := range p.ExemptLogins {
		lines = append(lines, "exempt login "+login)
	}
	trouble := slices.Clone(p.Trouble)
	slices.Sort(trouble)
	for _, t := range trouble {
		lines = append(lines, "skipped "+t)
	}
	return strings.ReplaceAll(strings.Join(lines, "\n")+"\n", root+"/", "/")
}

// Each tree says what its .want says. That of broken files shows that a line
// that cannot be understood is named, and takes no other with it.
func TestTrees(t *testing.T) {
	for _, name := range []string{"cpanel", "directadmin", "broken"} {
		t.Run(name, func(t *testing.T) {
			root, want := filepath.Join(trees, name), filepath.Join(trees, name+".want")
			got := said(root, New(root).Read(time.Now()))
			hosttest.Golden(t, want, got)
		})
	}
}

// A told is what a follower has told last.
type told struct {
	mu   sync.Mutex
	said string
	n    int
}

func (o *told) get() (string, int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.said, o.n
}

// What is edited is reported, in the soak within two seconds, and nothing else changes with it.
func TestEditsAreFollowed(t *testing.T) {
	for _, c := range []struct{ tree, file, old, text, gone, come string }{
		{"cpanel", "var/cpanel/cpanel.config", "maxemailsperhour=250", "maxemailsperhour=260", "default hourly = 250", "default hourly = 260"},
		{"cpanel", "var/cpanel/cpanel.config", "count_mailman=0", "count_mailman=1", "exempt login mailman", "default hourly = 250"},
		{"cpanel", "var/cpanel/users/alice", "PER_HOUR=1000", "PER_HOUR=1100", "alice.example hourly = 1000", "alice.example hourly = 1100"},
		{"cpanel", "etc/email_send_limits", "carol.example: 70", "carol.example: 71", "carol.example hourly = 70", "carol.example hourly = 71"},
		{"cpanel", "etc/userdomains", "carol.example: carol", "carol.example: alice", "carol.example hourly = 70", "carol.example hourly = 1000"},
		{"cpanel", "etc/outgoing_mail_hold_users", "carol", "alice", "", "account:alice on hold"},
		{"cpanel", "etc/outgoing_mail_suspended_users", "spam@bob.example", "bob", "spam@bob.example suspended", "account:bob suspended"},
		{"cpanel", "etc/container/ve.cfg", `hourly="3000"`, `hourly="3001"`, "account:alice hourly = 3000", "account:alice hourly = 3001"},
		{"cpanel", "etc/passwd", "alice:x:1001", "dave:x:1001", "account:alice hourly = 3000", "account:dave hourly = 3000"},
		{"cpanel", "var/cpanel/users/bob", "bob.example=0", "bob.example=ten", "bob.example deferfail_percent = 0", `skipped /var/cpanel/users/bob:4: deferfail_percent is "ten"`},
		{"directadmin", "etc/virtual/domainowners", "bob.example: bob", "bob.example: carol", "", "account:carol daily = 1000"},
		{"directadmin", "etc/virtual/alice.example/passwd", "info:", "sales:", "info@alice.example daily = 200", "sales@alice.example daily = 200"},
		{"directadmin", "etc/virtual/limit", "1000", "1001", "account:alice daily = 1000", "account:alice daily = 1001"},
		{"directadmin", "etc/virtual/limit_bob", "5000", "5001", "account:bob daily = 5000", "account:bob daily = 5001"},
		{"directadmin", "etc/virtual/user_limit", "200", "201", "info@alice.example daily = 200", "info@alice.example daily = 201"},
		{"directadmin", "etc/virtual/alice.example/limit/news", "500", "501", "news@alice.example daily = 500", "news@alice.example daily = 501"},
	} {
		t.Run(c.file, func(t *testing.T) {
			t.Parallel()
			root := t.TempDir()
			if err := os.CopyFS(root, os.DirFS(filepath.Join(trees, c.tree))); err != nil {
				t.Fatal(err)
			}
			f, o := New(root), &told{}
			before := said(root, f.Read(time.Now()))
			stop := run(t, f, root, o)
			start := time.Now()
			edit(t, filepath.Join(root, c.file), c.old, c.text)
			after := ""
			hosttest.EventuallyOr(t, func() string { return "told:\n" + after },
				func() bool { after, _ = o.get(); return strings.Contains(after, c.come) })
			hosttest.NotLonger(t, "an edit", time.Since(start), 2*time.Second)
			stop()
			if c.gone != "" && (!strings.Contains(before, c.gone) || strings.Contains(after, c.gone+" (") || strings.Contains(after, c.gone+"\n")) {
				t.Errorf("%q is still there:\n%s", c.gone, after)
			}
			changed := 0
			for line := range strings.Lines(after) {
				if !strings.Contains(before, line) {
					changed++
				}
			}
			if _, times := o.get(); times != 1 || changed > 3 {
				t.Errorf("told %d times, %d lines have changed:\n%s", times, changed, cmp.Diff(before, after))
			}
		})
	}
}

func run(t *testing.T, f *Follower, root string, o *told) (stop func()) {
	t.Helper()
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	go func() {
		done <- f.Run(ctx, func(_ time.Time, p settings.Panel) {
			o.mu.Lock()
			defer o.mu.Unlock()
			o.said = said(root, p)
			o.n++
		})
	}()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// edit rewrites a file in place, as WHM does.
func edit(t *testing.T, file, old, text string) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil || !strings.Contains(string(b), old) {
		t.Fatalf("%s has no %q: %v", file, old, err)
	}
	if err := os.WriteFile(file, []byte(strings.Replace(string(b), old, text, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
}

// A file that is being rewritten, or is gone for a moment, is not believed.
func TestAHalfWrittenFileIsNotBelieved(t *testing.T) {
	root := t.TempDir()
	if err := os.CopyFS(root, os.DirFS(filepath.Join(trees, "cpanel"))); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(root, cpanelConfig)
	whole, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	f := New(root)
	at := time.Now()
	before := said(root, f.Read(at))
	for i, half := range []int{0, 20, 60} {
		at = at.Add(settleTime / 2)
		if err := os.WriteFile(config, whole[:half], 0o644); err != nil {
			t.Fatal(err)
		}
		if changed, moving := f.refresh(at, false); changed || !moving {
			t.Fatalf("piece %d: changed %v, moving %v", i, changed, moving)
		}
	}
	if err := os.Remove(config); err != nil {
		t.Fatal(err)
	}
	if changed, _ := f.refresh(at.Add(time.Millisecond), false); changed || said(root, f.parse()) != before {
		t.Fatal("a file is believed to be gone at once")
	}
	if changed, _ := f.refresh(at.Add(settleTime+time.Millisecond), false); !changed || strings.Contains(said(root, f.parse()), "cpanel.config") {
		t.Fatal("a file that stays away is still believed")
	}
}

// Whatever a file holds, understanding it ends, and what is understood is good.
func FuzzUnderstand(f *testing.F) {
	for i, pattern := range patterns {
		paths, _ := filepath.Glob(filepath.Join(trees, "*") + pattern)
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(i, b)
		}
	}
	f.Fuzz(func(t *testing.T, pattern int, body []byte) {
		if pattern < 0 || pattern >= len(patterns) {
			return
		}
		follower := New("")
		path := strings.ReplaceAll(patterns[pattern], "*", "x")
		follower.files[path] = &file{body: body}
		follower.files[cpanelOwners] = &file{body: []byte("x.example: x\n")}
		if path == cpanelOwners {
			follower.files[cpanelOwners] = &file{body: body}
		}
		for _, s := range follower.parse().Settings {
			if scope, err := typed.Scope(s.Scope); err != nil || scope != s.Scope || s.Value == nil || s.Place == "" {
				t.Errorf("%+v, %v", s, err)
			}
		}
	})
}
