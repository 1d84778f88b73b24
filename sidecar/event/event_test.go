package event

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// constants are the names and values of all Kinds, in their order in kinds.go.
func constants(t *testing.T) (names []string, values []Kind) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "kinds.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if of, ok := spec.Type.(*ast.Ident); ok && of.Name == "Kind" {
			value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			names, values = append(names, spec.Names[0].Name), append(values, Kind(value))
		}
		return false
	})
	return names, values
}

func TestEveryKindIsWorded(t *testing.T) {
	names, values := constants(t)
	seen := map[Kind]bool{}
	for i, k := range values {
		if seen[k] {
			t.Errorf("%s: there are two kinds %q", names[i], k)
		}
		seen[k] = true
		if k.Text() == "" {
			t.Errorf("%s has no text", names[i])
		}
		if !regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`).MatchString(string(k)) {
			t.Errorf("%s: %q", names[i], k)
		}
	}
	for k := range kinds {
		if !seen[k] {
			t.Errorf("%q is worded, and no kind", k)
		}
	}
}

// Operators' scripts look for these names and texts.
func TestWording(t *testing.T) {
	var got strings.Builder
	limits := map[limit]string{perKind: " (once in 10 s)", perError: " (once in 10 s for each error)"}
	_, values := constants(t)
	for _, k := range values {
		fmt.Fprintf(&got, "%s %s%s: %s\n", k.Level(), k, limits[kinds[k].limit], k.Text())
	}
	hosttest.Golden(t, "testdata/wording", got.String())
}

// recorded is a Sink that records all events.
func recorded(events *[]Event) Sink { return Func(func(e Event) { *events = append(*events, e) }) }

func TestAllSubscribersGetTheSameEvents(t *testing.T) {
	var first, second []Event
	s := NewStream(recorded(&first), recorded(&second))
	failed := errors.New("disk full")
	s.Emit(Event{Kind: LimitReached, At: noon, Domain: "a.example", Attrs: Attrs("sent", "20/20 (100%)")})
	s.Emit(Event{Kind: StoreFailed, At: noon, Err: failed})
	s.Emit(Event{Kind: StoreFailed, At: noon, Err: failed}) // a repetition
	s.Emit(Event{Kind: LimitFreed, Domain: "a.example"})
	kindsOf := func(events []Event) (kinds []Kind) {
		for _, e := range events {
			kinds = append(kinds, e.Kind)
		}
		return kinds
	}
	if diff := cmp.Diff([]Kind{LimitReached, StoreFailed, LimitFreed}, kindsOf(first)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	for i := range first {
		a, b := first[i], second[i]
		if a.Kind != b.Kind || !a.At.Equal(b.At) || a.Domain != b.Domain || a.Err != b.Err || fmt.Sprint(a.Attrs) != fmt.Sprint(b.Attrs) {
			t.Errorf("%v and %v", a, b)
		}
	}
	if since := time.Since(first[2].At); since < 0 || since > time.Minute {
		t.Errorf("an event without a time is dated %v", first[2].At)
	}
}

func TestRepetitionsAreLimited(t *testing.T) {
	full := func(domain string) Event {
		return Event{Kind: LockTrouble, Domain: domain, Err: fmt.Errorf("make lock file /locks/max_hourly_%s: no space left", domain)}
	}
	store := func(text string) Event { return Event{Kind: StoreFailed, Err: errors.New(text)} }
	var got []Event
	s := NewStream(recorded(&got))
	for _, step := range []struct {
		name string
		at   time.Duration
		e    Event
		want bool
	}{
		{"the first", 0, store("timeout"), true},
		{"of the same kind", 9999 * time.Millisecond, store("refused"), false},
		{"after ten seconds", 10 * time.Second, store("refused"), true},
		{"another kind", 10 * time.Second, Event{Kind: BoardFailed, Err: errors.New("refused")}, true},
		{"a full disk", 20 * time.Second, full("a.example"), true},
		{"for another domain", 21 * time.Second, full("b.example"), false},
		{"another error of the disk", 21 * time.Second, Event{Kind: LockTrouble, Domain: "a.example", Err: errors.New("read-only")}, true},
		{"the disk again", 30 * time.Second, full("b.example"), true},
		{"a domain reaches its limit", 30 * time.Second, Event{Kind: LimitReached, Domain: "a.example"}, true},
		{"and again", 30 * time.Second, Event{Kind: LimitReached, Domain: "a.example"}, true},
	} {
		before := len(got)
		step.e.At = noon.Add(step.at)
		s.Emit(step.e)
		if passed := len(got) > before; passed != step.want {
			t.Errorf("%s: passed on %v, want %v", step.name, passed, step.want)
		}
	}
}

// Events that may come with every message are not even made when nobody would get them.
func TestEnabled(t *testing.T) {
	at := func(level slog.Level) Sink {
		return NewLog(slog.New(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{Level: level})))
	}
	info, debug := NewStream(at(slog.LevelInfo)), NewStream(at(slog.LevelInfo), at(slog.LevelDebug))
	if info.Enabled(Refused) || !info.Enabled(LimitReached) || !debug.Enabled(Refused) || NewStream().Enabled(LimitReached) {
		t.Error("enabled for the wrong levels")
	}
	if !info.Enabled(StoreFailed) {
		t.Error("the first is not enabled")
	}
	info.Emit(Event{Kind: StoreFailed})
	if info.Enabled(StoreFailed) {
		t.Error("a repetition is enabled")
	}
	if made := testing.AllocsPerRun(100, func() { info.Enabled(Refused); info.Enabled(StoreFailed) }); made > 0 {
		t.Errorf("%v allocations", made)
	}
}

func TestLog(t *testing.T) {
	var b bytes.Buffer
	log := NewStream(NewLog(slog.New(slog.NewTextHandler(&b, nil))))
	log.Emit(Event{Kind: OutageLeftOut, At: noon, Domain: "a.example", Attrs: Attrs("destination", "mx.example", "sends", 3)})
	log.Emit(Event{Kind: LogSkipped, At: noon, Attrs: Attrs("file", "/var/log/mainlog.1"), Err: errors.New("line\nbroken")})
	log.Emit(Event{Kind: Refused, At: noon})
	want := `time=2026-03-01T12:00:00.000Z level=INFO msg="destination fails for everybody, left out" domain=a.example destination=mx.example sends=3
time=2026-03-01T12:00:00.000Z level=WARN msg="` + LogSkipped.Text() + `" file=/var/log/mainlog.1 error="line\nbroken"
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestManyEmitAtOnce(t *testing.T) {
	var mu sync.Mutex
	n := 0
	s := NewStream(Func(func(Event) { mu.Lock(); n++; mu.Unlock() }))
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for j := range 1000 {
				s.Emit(Event{Kind: StoreFailed, At: noon})
				s.Emit(Event{Kind: LockTrouble, At: noon, Err: fmt.Errorf("%d %d", i, j)})
			}
		})
	}
	all.Wait()
	if n < 8001 {
		t.Errorf("%d passed on", n)
	}
	if len(s.passed) > maxPassed {
		t.Errorf("it remembers %d", len(s.passed))
	}
}
