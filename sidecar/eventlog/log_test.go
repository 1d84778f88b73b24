package eventlog

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func open(m hosttest.Notes) *Log { return New(m, event.Func(func(event.Event) {}), account) }

// account is that of a domain: hog has all below hog.example.
func account(domain string) string {
	if strings.HasSuffix(domain, ".hog.example") {
		return "hog"
	}
	return ""
}

func limitReached(domain string, at time.Time) event.Event {
	return event.Event{Kind: event.LimitReached, At: at, Domain: domain, Attrs: event.Attrs("sent", "20/20 (100%)")}
}

// lines are the records of a log as text.
func lines(l *Log, since time.Time) (all []string) {
	for _, r := range l.Find(since, func(Record) bool { return true }) {
		all = append(all, fmt.Sprintf("%s-%s %dx %s %s|%s|%s: %s", r.At.Format("15:04:05"), r.Last.Format("15:04:05"), r.Count, r.Event, r.Domain, r.Scope, r.By, r.Text))
	}
	return all
}

// My mail was blocked yesterday at five: what, by whom, and since when is there a day and a
// restart later.
func TestMyMailWasBlockedYesterday(t *testing.T) {
	m := hosttest.Notes{}
	l := open(m)
	l.Event(limitReached("shop.example", noon))
	for i := range 30 {
		l.Refused(noon.Add(time.Duration(i)*time.Minute), "shop.example", "news@shop.example", "over the limit")
	}
	l.Event(limitReached("shop.example", noon.Add(59*time.Minute)))
	l.Event(limitReached("shop.example", noon.Add(60*time.Minute)))
	command := func(at time.Time, verb string) {
		l.Event(event.Event{Kind: event.Command, At: at, Attrs: event.Attrs("who", "alice", "command", verb, "scope", "shop.example")})
	}
	command(noon.Add(61*time.Minute), "unlock")
	command(noon.Add(62*time.Minute), "lock")
	command(noon.Add(63*time.Minute), "lock")
	l.Event(event.Event{Kind: event.Stopped, At: noon.Add(time.Hour), Domain: "shop.example",
		Attrs: event.Attrs("scope", "news@shop.example", "who", "bob", "until", noon.Add(2*time.Hour), "why", "spam")})
	want := []string{
		"12:00:00-12:59:00 2x limit-reached shop.example||: sent 20/20 (100%)",
		"12:00:00-12:29:00 30x refused shop.example|news@shop.example|: over the limit",
		"13:00:00-13:00:00 1x limit-reached shop.example||: sent 20/20 (100%)",
		"13:01:00-13:01:00 1x command shop.example||alice: command unlock",
		"13:02:00-13:03:00 2x command shop.example||alice: command lock",
		"13:00:00-13:00:00 1x stop shop.example|news@shop.example|bob: until " + noon.Add(2*time.Hour).Local().Format("2006-01-02 15:04:05 -0700") + ", why spam",
	}
	if diff := cmp.Diff(want, lines(l, noon)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	l.Tick(t.Context(), noon.Add(2*time.Hour))
	l = open(m)
	if diff := cmp.Diff(want, lines(l, noon)); diff != "" {
		t.Errorf("after a restart (-want +got)\n%s", diff)
	}
	if diff := cmp.Diff(want[2:], lines(l, noon.Add(time.Hour))); diff != "" {
		t.Errorf("of the last hour (-want +got)\n%s", diff)
	}
	l.Event(limitReached("shop.example", noon.Add(61*time.Minute)))
	if got := lines(l, noon)[2]; !strings.HasPrefix(got, "13:00:00-13:01:00 2x") {
		t.Errorf("after a restart it is not joined: %s", got)
	}
}

// A record that happens all the time is written once a minute, and at the stop.
func TestOftenIsSavedOnceAMinute(t *testing.T) {
	m := hosttest.Notes{}
	l := open(m)
	l.Event(limitReached("shop.example", noon))
	l.Tick(t.Context(), noon)
	again := func(at time.Duration) string {
		l.Event(limitReached("shop.example", noon.Add(at)))
		l.Tick(t.Context(), noon.Add(at))
		return lines(open(m), noon)[0]
	}
	if got := again(59 * time.Second); !strings.Contains(got, " 1x ") {
		t.Errorf("written too often: %s", got)
	}
	if got := again(60 * time.Second); !strings.Contains(got, " 3x ") {
		t.Errorf("not written: %s", got)
	}
	l.Event(limitReached("shop.example", noon.Add(61*time.Second)))
	l.Stop(t.Context(), noon.Add(61*time.Second))
	if got := lines(open(m), noon)[0]; !strings.Contains(got, " 4x ") {
		t.Errorf("not written at the stop: %s", got)
	}
}

// A domain that has its records made by the thousand loses its own oldest ones, and nobody
// else's; of all domains together there are so many.
func TestOneDomainDrownsNoOther(t *testing.T) {
	m := hosttest.Notes{}
	l := open(m)
	l.Event(limitReached("quiet.example", noon))
	for i := range 2 * maxDomain {
		l.Event(limitReached("loud.example", noon.Add(time.Duration(i)*time.Hour)))
	}
	all := lines(l, noon)
	if len(all) != maxDomain+1 || !strings.Contains(all[0], "quiet.example") {
		t.Errorf("%d records, the first %s", len(all), all[0])
	}
	for i := range 1000 {
		l.Refused(noon, "forged.example", fmt.Sprintf("script:/home/bob/%d", i), "over the limit")
	}
	refused := l.Find(noon, func(r Record) bool { return r.Domain == "forged.example" })
	if len(refused) != maxAuthors+1 || refused[maxAuthors].Scope != "" || refused[maxAuthors].Count != 1000-maxAuthors {
		t.Errorf("%d records of refusals, the last %+v", len(refused), refused[len(refused)-1])
	}
	l.Refused(noon.Add(joinFor), "forged.example", "script:/home/bob/new", "over the limit")
	if refused = l.Find(noon.Add(joinFor), func(r Record) bool { return r.Event == event.Refused }); len(refused) != 1 || refused[0].Scope == "" {
		t.Errorf("an hour later: %+v", refused)
	}
	l.Stop(t.Context(), noon)
	for i := range maxRecords {
		l.Event(limitReached(fmt.Sprintf("d%d.example", i), noon))
	}
	if n := len(l.all); n != maxRecords || len(l.open) != n || len(l.byDomain) != n {
		t.Errorf("%d records, %d open, of %d domains", n, len(l.open), len(l.byDomain))
	}
	l.Tick(t.Context(), noon.Add(time.Hour))
	if len(m) != maxSaved {
		t.Errorf("%d notes after one tick", len(m))
	}
	l.Stop(t.Context(), noon.Add(time.Hour))
	if got := open(m).all; len(m) != maxRecords || len(got) != maxRecords || got[0].Domain != "d0.example" {
		t.Errorf("%d notes, %d records, the first %+v", len(m), len(got), got[0])
	}
}

// Nor does an account with many domains.
func TestOneAccountDrownsNoOther(t *testing.T) {
	l := open(hosttest.Notes{})
	for i := range 3000 {
		l.Event(limitReached(fmt.Sprintf("d%d.example", i), noon))
	}
	for i := range 2 * maxRecords {
		l.Event(limitReached(fmt.Sprintf("d%d.hog.example", i%100), noon.Add(time.Duration(i/100)*time.Hour)))
	}
	others, last := 0, time.Time{}
	for _, r := range l.Find(noon, func(Record) bool { return true }) {
		if account(r.Domain) == "" {
			others++
		} else {
			last = r.At
		}
	}
	if others < 3000-lookEvery || len(l.all) != maxRecords || !last.Equal(noon.Add((2*maxRecords/100-1)*time.Hour)) {
		t.Errorf("%d of the others, %d in all, the last at %s", others, len(l.all), last)
	}
	for owner, n := range l.owners.records {
		if n > maxRecords-3000+lookEvery || n < 1 {
			t.Errorf("%s has %d", owner, n)
		}
	}
	for i := range maxRecords { // its own go for those of others, down to its share
		l.Event(limitReached(fmt.Sprintf("e%d.example", i), noon.Add(time.Hour)))
	}
	if n := l.owners.records["account:hog"]; n > maxOwner {
		t.Errorf("it has %d", n)
	}
}

// A note that cannot be right is left out, and reported.
func TestHostileNotes(t *testing.T) {
	good := `{"at":"2026-03-01T12:00:00Z","last":"2026-03-01T12:00:00Z","count":1,"event":"limit-reached","domain":"a.example"}`
	m := hosttest.Notes{"event/0000000000000007": []byte(good)}
	for key, value := range map[string]string{
		"1":                good,
		"0000000000000000": good,
		"-000000000000001": good,
		"0000000000000001": "no",
		"0000000000000002": strings.Replace(good, `"count":1`, `"count":0`, 1),
		"0000000000000003": strings.Replace(good, "limit-reached", "never", 1),
		"0000000000000004": strings.Replace(good, "a.example", strings.Repeat("a", maxName+1), 1),
		"0000000000000005": strings.Replace(good, `"last":"2026`, `"last":"2025`, 1),
		"0000000000000006": strings.Replace(good, `"at":"2026-03-01T12:00:00Z",`, "", 1),
	} {
		m["event/"+key] = []byte(value)
	}
	unread := 0
	l := New(m, event.Func(func(e event.Event) {
		if e.Kind == event.NoteUnread {
			unread++
		}
	}), account)
	if got := lines(l, time.Time{}); len(got) != 1 || unread != 9 {
		t.Errorf("%d unread, records %q", unread, got)
	}
	l.Event(event.Event{Kind: event.StoreFailed, At: noon, Err: errors.New(strings.Repeat("ü", maxText))})
	l.Stop(t.Context(), noon)
	if _, is := m["event/0000000000000008"]; !is || len(lines(open(m), noon)) != 2 {
		t.Error("the next number is taken, or a long text was not cut")
	}
}
