package incident

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/ratelimit"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/notes"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(minutes float64) time.Time { return noon.Add(time.Duration(minutes * float64(time.Minute))) }

// A script is Incidents whose domains are as the test says.
type script struct {
	*Incidents
	t      *testing.T
	notes  hosttest.Notes
	there  map[string]bool // "domain cause": it is there
	view   map[string]View
	looks  int
	told   []string
	unread int

	node  string
	board notes.Board
	alive func(string) bool
}

func newScript(t *testing.T) *script {
	s := &script{t: t, notes: hosttest.Notes{}, there: map[string]bool{}, view: map[string]View{}, node: "mx1"}
	s.restart(noon)
	return s
}

// restart is a crash and a start.
func (s *script) restart(now time.Time) {
	s.Incidents = New(Options{Node: s.node, Notes: s.notes, Now: now, Board: s.board, Alive: func() func(string) bool { return s.alive },
		Events: event.Func(func(event.Event) { s.unread++ }),
		Present: func(_ time.Time, domain string, c Cause) bool {
			return s.there[strings.TrimSpace(domain+" "+c.Name+" "+c.Scope)]
		},
		Look: func(_ time.Time, domain string) View {
			s.looks++
			return s.view[domain]
		}})
	s.told = nil
	s.Watch(func(i Incident) {
		state := "open"
		if !i.Open() {
			state = "closed"
		}
		s.told = append(s.told, fmt.Sprintf("%s r%d %s%s %s %s %s", i.ID, i.Revision, i.Domain, i.Condition, i.Severity, state, i.Culprit.Author))
	})
}

// event is an event of a kind, after which the causes in there are there or, with a minus, gone.
func (s *script) event(minute float64, kind event.Kind, domain string, attrs ...any) {
	s.Event(event.Event{Kind: kind, At: at(minute), Domain: domain, Attrs: event.Attrs(attrs...)})
	s.Tick(s.t.Context(), at(minute))
}

// until ticks every ten seconds.
func (s *script) until(from, to float64) {
	for now := at(from); !now.After(at(to)); now = now.Add(10 * time.Second) {
		s.Tick(s.t.Context(), now)
	}
}

// expect checks what watchers were told since the last time.
func (s *script) expect(want ...string) {
	s.t.Helper()
	if diff := cmp.Diff(want, s.told); diff != "" {
		s.t.Errorf("told (-want +got)\n%s", diff)
	}
	s.told = nil
}

func (s *script) only() Incident {
	s.t.Helper()
	all := s.List(func(*Incident) bool { return true })
	if len(all) != 1 {
		s.t.Fatalf("%d incidents", len(all))
	}
	return all[0]
}

func most(author string, n, of int64) Culprit {
	return Culprit{Author: author, Kind: "mailbox", Proof: "proven", Count: n, Of: of}
}

func of(tried int64, who ...string) View {
	v := View{Evidence: Evidence{Sent: tried, Tried: tried, Limit: 500}}
	for _, w := range who {
		v.Who = append(v.Who, Sender{Author: w, Tried: tried})
	}
	return v
}

// One incident has all of it: the limit, the stop, the operator, the end; it closes ten minutes
// after the last cause is gone, and within the hour it is the same one again.
func TestOneIncident(t *testing.T) {
	s := newScript(t)
	v := of(487, "hacked@shop.example", "info@shop.example")
	v.Most = most("hacked@shop.example", 461, 487)
	s.view["shop.example"], s.there["shop.example limit"] = v, true
	s.event(0, event.LimitReached, "shop.example", "sent", "500/500 (100%)")
	s.expect("mx1-1 r1 shop.example info open hacked@shop.example")
	s.until(0, 5)
	s.expect()

	v.MostBad = most("hacked@shop.example", 40, 50)
	v.Lines = []Line{{Cause: "called-spam", Text: "a line"}}
	s.view["shop.example"], s.there["shop.example culprit hacked@shop.example"] = v, true
	s.event(5, event.Stopped, "shop.example", "scope", "hacked@shop.example", "who", "sluice", "of", "shop.example")
	s.until(5, 6)
	s.expect("mx1-1 r2 shop.example warning open hacked@shop.example", "mx1-1 r3 shop.example warning open hacked@shop.example")
	if c := s.only().Culprit; !c.Stopped || c.Count != 40 {
		t.Errorf("the culprit is %+v", c)
	}
	s.there["shop.example deferfail"] = true
	s.event(6, event.Tripped, "shop.example", "bad", "12/5 (30%)")
	s.expect("mx1-1 r4 shop.example critical open hacked@shop.example")

	s.event(7, event.Command, "", "who", "alice", "command", "unlock", "scope", "shop.example")
	s.event(7, event.Command, "", "who", "alice", "command", "unlock", "scope", "other.example")
	s.event(7, event.Stopped, "", "who", "alice", "scope", "hacked@shop.example")
	clear(s.there)
	s.event(8, event.TripEnded, "shop.example", "bad", "2/5 (3%)")
	s.until(8, 17.9)
	s.expect()
	s.until(18, 18.4)
	s.expect("mx1-1 r5 shop.example critical closed hacked@shop.example")

	i := s.only()
	var timeline []string
	for _, e := range i.Timeline {
		timeline = append(timeline, fmt.Sprintf("%s %dx %s %s|%s", e.At.Format("15:04"), e.Count, e.Event, e.By, e.Text))
	}
	want := []string{"12:00 1x limit-reached |sent 500/500 (100%)", "12:05 1x stop sluice|scope hacked@shop.example, of shop.example",
		"12:06 1x trip |bad 12/5 (30%)", "12:07 1x command alice|command unlock, scope shop.example",
		"12:07 1x stop alice|scope hacked@shop.example", "12:08 1x trip-ended |bad 2/5 (3%)"}
	if diff := cmp.Diff(want, timeline); diff != "" {
		t.Errorf("timeline (-want +got)\n%s", diff)
	}
	if len(i.Evidence.Who) != 2 || i.Evidence.Tried != 487 || len(i.Evidence.Lines) != 1 || len(i.Causes) != 3 {
		t.Errorf("evidence %+v, causes %+v", i.Evidence, i.Causes)
	}

	closed := i.Closed.Sub(noon).Minutes()
	s.there["shop.example limit"] = true
	s.event(closed+60, event.LimitReached, "shop.example")
	s.expect("mx1-1 r6 shop.example critical open hacked@shop.example")
	delete(s.there, "shop.example limit")
	s.until(closed+60.2, closed+70.4)
	s.expect("mx1-1 r7 shop.example critical closed hacked@shop.example")
	s.there["shop.example limit"] = true
	s.event(closed+140, event.LimitReached, "shop.example")
	s.expect("mx1-2 r1 shop.example info open hacked@shop.example")
}

// A restart, by a crash too, forgets nothing that watchers were told: they get each incident
// as it is, and no number twice.
func TestRestart(t *testing.T) {
	s := newScript(t)
	s.view["a.example"], s.there["a.example limit"] = of(20, "x@a.example"), true
	s.event(0, event.LimitReached, "a.example")
	s.event(0, event.RedisAway, "", "server", "r1:6379")
	s.event(0, event.LogTrouble, "", "file", "/var/log/mainlog")
	before := s.List(func(*Incident) bool { return true })
	s.restart(at(1))
	s.expect("mx1-1 r1 a.example info open ", "mx1-2 r1 redis warning open ", "mx1-3 r1 log warning open ")
	after := s.List(func(*Incident) bool { return true })
	for n := range after { // of the node, causes are gone until they are found again
		for c := range after[n].Causes {
			if after[n].Condition != "" && !after[n].Causes[c].Gone.Equal(at(1)) {
				t.Errorf("%s: %+v", after[n].ID, after[n].Causes)
			}
			after[n].Causes[c].Gone = time.Time{}
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	s.event(2, event.RedisAway, "", "server", "r1:6379")
	s.until(3, 12)
	s.expect("mx1-3 r2 log warning closed ")
	s.event(13, event.RedisBack, "", "server", "r1:6379")
	s.until(13, 23.2)
	s.expect("mx1-2 r2 redis warning closed ")
	s.drop(s.all[len(s.all)-1])
	s.restart(at(24))
	s.told = nil
	s.event(24, event.MemoryCeiling, "")
	s.expect("mx1-4 r1 store critical open ")
	s.until(24, 34)
	s.expect("mx1-4 r2 store critical closed ")
	if s.unread != 0 {
		t.Errorf("%d events", s.unread)
	}
}

// What was so before the start is an incident even if its event was lost, and is none twice.
func TestFound(t *testing.T) {
	s := newScript(t)
	s.there["a.example deferfail"], s.there["a.example limit"] = true, true
	found := func() {
		s.Found(at(0), "a.example", Cause{Name: CauseDeferfail, Severity: Critical})
		s.Found(at(0), "a.example", Cause{Name: CauseLimit, Severity: Info})
		s.Tick(t.Context(), at(0))
	}
	found()
	s.expect("mx1-1 r1 a.example critical open ")
	found()
	s.expect()
	s.restart(at(1))
	s.told = nil
	found()
	s.expect()
	if i := s.only(); len(i.Causes) != 2 || !i.Causes[0].Since.Equal(noon) {
		t.Errorf("%+v", i.Causes)
	}
}

// Two who send alike take no turns as culprits; who is stopped is it.
func TestCulpritStands(t *testing.T) {
	s := newScript(t)
	s.there["a.example limit"] = true
	now := 0.0
	see := func(v View) {
		s.view["a.example"] = v
		now++
		s.Tick(t.Context(), at(now))
	}
	s.event(0, event.LimitReached, "a.example")
	s.told = nil
	v := of(100, "x@a.example", "y@a.example")
	v.Most = most("x@a.example", 50, 100)
	see(v)
	s.expect("mx1-1 r2 a.example info open x@a.example")
	v.Most = most("y@a.example", 51, 102)
	see(v)
	s.expect()
	v.Most = most("y@a.example", 52, 103)
	see(v)
	s.expect("mx1-1 r3 a.example info open y@a.example")
	see(View{})
	s.expect()
	v.Unusual = true
	see(v)
	s.expect("mx1-1 r4 a.example warning open y@a.example")
	s.there["a.example culprit z@a.example"] = true
	s.event(now+1, event.Stopped, "", "scope", "z@a.example", "of", "a.example", "who", "sluice")
	now += 2
	see(v)
	s.expect("mx1-1 r5 a.example warning open z@a.example")
	if got := s.only(); !got.Culprit.Stopped || got.Evidence.Tried != 100 {
		t.Errorf("%+v", got)
	}
	see(of(99, "w@a.example"))
	if got := s.only(); got.Evidence.Who[0].Author != "x@a.example" {
		t.Errorf("not at its worst: %+v", got.Evidence)
	}
}

// A thousand domains flood at once: as many incidents as there is room for, the critical ones
// among them, each told, and a bounded look at each.
func TestFlood(t *testing.T) {
	s := newScript(t)
	for n := range 3 * maxIncidents {
		domain := fmt.Sprintf("d%d.example", n)
		s.there[domain+" limit"], s.there[domain+" deferfail"] = true, true
		kind := event.LimitReached
		if n%100 == 99 {
			kind = event.Tripped
		}
		s.Event(event.Event{Kind: kind, At: noon, Domain: domain})
	}
	s.Tick(t.Context(), noon)
	if s.looks != maxChecks {
		t.Errorf("%d looks in one tick", s.looks)
	}
	counts := map[string]int{}
	for _, told := range s.told {
		counts[strings.Join(strings.Fields(told)[3:], " ")]++
	}
	if want := map[string]int{"info open": maxIncidents - 30, "info closed": 20, "critical open": 30}; !maps.Equal(counts, want) {
		t.Errorf("told %v, want %v", counts, want)
	}
	if len(s.all) != maxIncidents || len(s.of) != maxIncidents || len(s.notes) != maxIncidents+1 {
		t.Errorf("%d incidents of %d domains in %d notes", len(s.all), len(s.of), len(s.notes))
	}
	for range maxIncidents / maxChecks {
		s.Tick(t.Context(), noon)
	}
	if s.looks != maxIncidents {
		t.Errorf("%d looks after all", s.looks)
	}
	clear(s.there)
	s.told = nil
	s.until(1, 30)
	if len(s.told) != maxIncidents {
		t.Errorf("%d of %d closed", len(s.told), maxIncidents)
	}
	s.Event(event.Event{Kind: event.LimitReached, At: at(31), Domain: "new.example"})
	if s.Tick(t.Context(), at(31)); s.told[len(s.told)-1] != fmt.Sprintf("mx1-%d r1 new.example info open ", s.last) || len(s.all) != maxIncidents {
		t.Errorf("%d incidents, the last told %s", len(s.all), s.told[len(s.told)-1])
	}
}

// A domain is looked at every ten seconds.
func TestLooksEveryTenSeconds(t *testing.T) {
	s := newScript(t)
	s.there["a.example limit"] = true
	s.event(0, event.LimitReached, "a.example")
	for second := range 31 {
		s.Tick(t.Context(), noon.Add(time.Duration(second)*time.Second))
	}
	if s.looks != 4 {
		t.Errorf("%d looks in half a minute", s.looks)
	}
}

// What one domain does all the time, and with names by the thousand, has bounds too.
func TestOneIncidentIsBounded(t *testing.T) {
	s := newScript(t)
	long := strings.Repeat("ü", 5000)
	for n := range 1000 {
		s.there["a.example culprit "+fmt.Sprintf("%d@a.example", n)] = true
		s.Event(event.Event{Kind: event.Stopped, At: at(float64(n)), Attrs: event.Attrs("scope", fmt.Sprintf("%d@a.example", n), "of", "a.example", "who", fmt.Sprint("sluice", n), "why", long)})
	}
	v := of(10)
	for n := range 100 {
		v.Who = append(v.Who, Sender{Author: fmt.Sprint(n), Subject: long})
		v.Lines = append(v.Lines, Line{Cause: fmt.Sprint(n), Text: long})
	}
	s.view["a.example"] = v
	s.Tick(t.Context(), at(1000))
	i := s.only()
	if len(i.Timeline) != maxTimeline || i.Timeline[firstEntries-1].By != "sluice15" || i.Timeline[firstEntries].By != "sluice952" || len(i.Causes) != maxCauses {
		t.Errorf("%d causes, %d entries: %s, %s", len(i.Causes), len(i.Timeline), i.Timeline[firstEntries-1].By, i.Timeline[firstEntries].By)
	}
	if size := len(s.notes["incident/mx1/0000000000000001"]); size > 64<<10 || size < 10_000 {
		t.Errorf("its note has %d bytes", size)
	}
	s.restart(at(1000))
	if s.unread != 0 || len(s.only().Evidence.Who) != maxWho {
		t.Errorf("%d notes unread", s.unread)
	}
}

// What the machine does again within ten minutes is one entry.
func TestEntriesAreJoined(t *testing.T) {
	s := newScript(t)
	s.there["a.example limit"] = true
	s.event(0, event.LimitReached, "a.example", "sent", "20/20")
	for _, minute := range []float64{1, 9.9, 10} {
		s.event(minute, event.LimitReached, "a.example", "sent", fmt.Sprint(minute))
	}
	if tl := s.only().Timeline; len(tl) != 2 || tl[0].Count != 3 || tl[0].Text != "sent 9.9" || !tl[0].Last.Equal(at(9.9)) || tl[1].Count != 1 {
		t.Errorf("%+v", tl)
	}
}

// A note that cannot be right is left out, and reported.
func TestHostileNotes(t *testing.T) {
	s := newScript(t)
	s.there["a.example limit"] = true
	s.event(0, event.LimitReached, "a.example")
	const key = "incident/mx1/0000000000000001"
	good := string(s.notes[key])
	clear(s.notes)
	s.notes[key] = []byte(good)
	second := strings.Replace(good, `"number":1`, `"number":2`, 1)
	for key, value := range map[string]string{
		"mx1/0000000000000002": good,
		"mx2/0000000000000002": second,
		"mx1":                  good,
		"mx1/0000000000000003": "no",
	} {
		s.notes["incident/"+key] = []byte(value)
	}
	for n, change := range [][2]string{
		{`"severity":"info"`, `"severity":"fatal"`},
		{`"severity":"info",`, ``},
		{`"revision":1`, `"revision":0`},
		{`"domain":"a.example"`, `"domain":"a.example","condition":"log"`},
		{`"domain":"a.example",`, ``},
		{`"causes":[`, `"causes":[` + strings.Repeat(`{"severity":"info"},`, maxCauses)},
		{`"timeline":[`, `"timeline":[` + strings.Repeat(`{"severity":"info"},`, maxTimeline)},
		{`"opened":"2026-03-01T12:00:00Z",`, ``},
		{`"causes":[{`, `"causes":[],"x":[{`},
		{`"a.example"`, `"` + strings.Repeat("a", maxText+1) + `"`},
	} {
		number := fmt.Sprintf(`"number":%d`, n+10)
		bad := strings.Replace(strings.Replace(good, `"number":1`, number, 1), change[0], change[1], 1)
		if !strings.Contains(good, change[0]) {
			t.Fatalf("there is no %s in %s", change[0], good)
		}
		s.notes[fmt.Sprintf("incident/mx1/%016d", n+10)] = []byte(bad)
	}
	s.notes["incident-number/last"] = []byte(`"x"`)
	s.restart(at(1))
	if s.expect("mx1-1 r1 a.example info open "); s.unread != 15 {
		t.Errorf("%d notes unread", s.unread)
	}
}

// A store that fails is an incident itself, and no loop.
func TestEveryRuleIsOfAKind(t *testing.T) {
	for kind, r := range rules {
		if kind.Text() == "" || r.severity < Info {
			t.Errorf("%q: %+v", kind, r)
		}
		if r.effect == ends && !slices.ContainsFunc(slices.Collect(maps.Values(rules)), func(o rule) bool {
			return o.effect == begins && o.cause == r.cause && o.condition == r.condition && o.scope == r.scope
		}) {
			t.Errorf("%q ends %q, which nothing begins", kind, r.cause)
		}
	}
	s := newScript(t)
	s.Event(event.Event{Kind: event.StoreFailed, At: noon, Err: errors.New("disk full")})
	s.Event(event.Event{Kind: event.Serving, At: noon})
	s.Event(event.Event{Kind: event.Command, At: noon, Attrs: event.Attrs("who", "root")})
	s.Tick(t.Context(), noon)
	if s.expect("mx1-1 r1 store warning open "); s.only().Timeline[0].Text != "disk full" {
		t.Errorf("%+v", s.only().Timeline)
	}
}

// That mail cannot be counted while Redis is away is part of that, and no trouble with the store of
// this node.
func TestMailThatCannotBeCountedIsOfRedis(t *testing.T) {
	s := newScript(t)
	s.event(0, event.RedisAway, "", "server", "192.0.2.1:6379")
	s.Event(event.Event{Kind: event.Uncounted, At: at(1), Err: fmt.Errorf("take: %w", ratelimit.ErrUncounted)})
	s.Tick(t.Context(), at(1))
	if i := s.only(); i.Condition != Redis || len(i.Causes) != 2 {
		t.Errorf("%s has %+v", i.Condition, i.Causes)
	}
	s.Event(event.Event{Kind: event.StoreFailed, At: at(2), Err: errors.New("no space left on device")})
	s.Tick(t.Context(), at(2))
	if all := s.List(func(i *Incident) bool { return i.Condition == Store }); len(all) != 1 {
		t.Errorf("%d incidents of the store", len(all))
	}
}
