package alert

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/incident"
)

const anyone = "[[alert.to]]\nmail = \"ops@example.net\"\n"

// What is not critical waits for the log to name the culprit; what is critical does not wait.
func TestWhenAnIncidentIsTold(t *testing.T) {
	d := newDesk(t, anyone)
	slow := d.opened(1, "a.example", incident.Warning)
	d.after(29 * time.Second)
	d.wantTold("mail")
	d.after(time.Second)
	d.wantTold("mail", "open mx1-1")
	urgent := d.opened(2, "b.example", incident.Critical)
	d.step(d.now)
	d.wantTold("mail", "open mx1-1", "open mx1-2")
	d.opened(3, "c.example", incident.Info) // not told at at_least = "warning"
	d.after(time.Hour)
	d.closes(urgent)
	d.closes(slow)
	d.step(d.now)
	d.wantTold("mail", "open mx1-1", "open mx1-2", "closed mx1-2", "closed mx1-1")
	d.after(48 * time.Hour)
	d.wantTold("mail", "open mx1-1", "open mx1-2", "closed mx1-2", "closed mx1-1")
}

func TestWhatIsToldOfAnOpenIncident(t *testing.T) {
	d := newDesk(t, anyone)
	i := d.opened(1, "a.example", incident.Warning)
	d.after(30 * time.Second)
	d.changes(i, func(i *incident.Incident) { i.Evidence.Sent = 5 })
	d.after(time.Minute)
	d.wantTold("mail", "open mx1-1") // nothing that matters has changed
	d.changes(i, func(i *incident.Incident) { i.Culprit.Author = "eve@a.example" })
	d.after(time.Minute)
	d.changes(i, func(i *incident.Incident) { i.Culprit.Stopped = true })
	d.after(29 * time.Second)
	d.wantTold("mail", "open mx1-1", "changed mx1-1", "changed mx1-1")
	d.after(2 * time.Hour) // an account has three notices in an hour
	d.changes(i, func(i *incident.Incident) { i.Severity = incident.Critical })
	d.step(d.now)
	d.wantTold("mail", "open mx1-1", "changed mx1-1", "changed mx1-1", "changed mx1-1")
	d.after(24*time.Hour - time.Second)
	d.wantTold("mail", "open mx1-1", "changed mx1-1", "changed mx1-1", "changed mx1-1")
	d.after(24*time.Hour + 2*time.Minute)
	d.wantTold("mail", "open mx1-1", "changed mx1-1", "changed mx1-1", "changed mx1-1", "still-open mx1-1", "still-open mx1-1")
	ids := map[string]bool{}
	for _, n := range d.told("mail") {
		if ids[n.ID] {
			t.Errorf("two notices have the id %s", n.ID)
		}
		ids[n.ID] = true
	}
}

// An incident that is opened again is told again; one that was over before it was worth telling
// is not, and neither are those from before there was the channel.
func TestIncidentsThatAreOver(t *testing.T) {
	d := newDesk(t, anyone)
	old := d.opened(1, "a.example", incident.Warning)
	old.Opened, old.Closed = d.now.Add(-time.Hour), d.now.Add(-time.Minute)
	d.Changed(*old)
	short := d.opened(2, "b.example", incident.Warning)
	d.after(10 * time.Second)
	d.closes(short)
	d.after(time.Minute)
	d.wantTold("mail")
	flaps := d.opened(3, "c.example", incident.Warning)
	d.after(time.Minute)
	d.closes(flaps)
	d.after(time.Minute)
	d.changes(flaps, func(i *incident.Incident) { i.Closed = time.Time{} })
	d.step(d.now)
	d.wantTold("mail", "open mx1-3", "closed mx1-3", "open mx1-3")
}

// What has begun and ended while a crash kept it from being told is told, begin first.
func TestAnIncidentThatACrashKeptFromBeingTold(t *testing.T) {
	d := newDesk(t, anyone)
	d.step(d.now)
	i := &incident.Incident{ID: incident.ID{Node: "mx1", Number: 7}, Revision: 2, Domain: "a.example", Severity: incident.Warning,
		Opened: d.now.Add(time.Minute), Closed: d.now.Add(20 * time.Minute)}
	d.now = d.now.Add(time.Hour)
	d.open(d.Dir)
	d.Changed(*i)
	d.after(2 * time.Second)
	d.wantTold("mail", "open mx1-7", "closed mx1-7")
}

func TestChannelsHaveFilters(t *testing.T) {
	d := newDesk(t, `[[alert.to]]
mail = "all@example.net"
at_least = "info"
[[alert.to]]
mail = "a@example.net"
domains = ["a.example"]
[[alert.to]]
exec = "/bin/true"
at_least = "critical"
`)
	d.opened(1, "a.example", incident.Info)
	d.opened(2, "a.example", incident.Warning)
	d.opened(3, "b.example", incident.Critical)
	node := d.opened(4, "", incident.Warning)
	node.Condition = incident.Redis
	d.after(30 * time.Second)
	d.wantTold("mail", "open mx1-3", "open mx1-2", "open mx1-4", "open mx1-1")
	d.wantTold("mail-2", "open mx1-2")
	d.wantTold("exec", "open mx1-3")
}

// A thousand domains at once are 20 notices and one digest, which names those that it has room for.
func TestAThousandDomainsAtOnce(t *testing.T) {
	for _, severity := range []incident.Severity{incident.Warning, incident.Critical} {
		d := newDesk(t, anyone)
		var all []*incident.Incident
		for n := range int64(1000) {
			all = append(all, d.opened(n, fmt.Sprintf("d%d.example", n), severity))
		}
		d.after(2 * time.Minute)
		told := d.told("mail")
		if len(told) != 21 || told[20].State != StateDigest || len(told[20].Incidents) != 980 ||
			!strings.Contains(told[20].Title, "980 more incidents") || !strings.Contains(told[20].Text, "d20.example: its limit is used up (incident mx1-20)\n") ||
			!strings.Contains(told[20].Text, "\nand 940 more\n") {
			t.Fatalf("%v: told %d times, last %+v", severity, len(told), told[len(told)-1])
		}
		d.after(10 * time.Minute)
		for _, i := range all {
			d.closes(i)
		}
		d.after(2 * time.Hour)
		for n, notice := range d.told("mail")[21:] {
			if notice.State != StateClosed || n >= 20 { // the end of what a digest has told is not told
				t.Errorf("%v: told %s of %s", severity, notice.State, notice.Incident)
			}
		}
		if now := len(d.told("mail")); now != 41 {
			t.Errorf("%v: told %d times in all", severity, now)
		}
	}
}

// What is critical has a budget of its own, and no flood of what is not uses it up.
func TestAFloodDrownsNothingCritical(t *testing.T) {
	d := newDesk(t, anyone)
	for n := range int64(100) {
		d.opened(n, fmt.Sprintf("d%d.example", n), incident.Warning)
	}
	d.after(time.Minute)
	d.opened(500, "x.example", incident.Critical)
	d.step(d.now)
	told := d.told("mail")
	if last := told[len(told)-1]; len(told) != 22 || last.Incident != "mx1-500" {
		t.Errorf("told %d times, last %+v", len(told), last)
	}
}

// No tenant can drown another's alarm: an account has three notices in an hour, and then a line.
func TestAnAccountWithManyDomains(t *testing.T) {
	d := newDesk(t, anyone)
	for n := range int64(50) {
		domain := fmt.Sprintf("d%d.example", n)
		d.accounts[domain] = "hog"
		d.opened(n, domain, incident.Critical)
	}
	d.step(d.now)
	d.opened(100, "x.example", incident.Critical)
	d.step(d.now)
	d.wantTold("mail", "open mx1-0", "open mx1-1", "open mx1-2", "open mx1-100")
	d.after(30 * time.Second)
	told := d.told("mail")
	if last := told[len(told)-1]; len(told) != 5 || last.State != StateDigest || !strings.HasPrefix(last.Text, "hog: 47 more\n") {
		t.Fatalf("told %d times, last %+v", len(told), last)
	}
	d.after(20 * time.Minute)
	for n := range int64(10) {
		domain := fmt.Sprintf("e%d.example", n)
		d.accounts[domain] = "hog"
		d.opened(200+n, domain, incident.Critical)
	}
	d.after(30 * time.Minute)
	if now := d.told("mail"); len(now) != 5 {
		t.Errorf("told %d times in an hour", len(now))
	}
	d.after(10 * time.Minute)
	if now := d.told("mail"); len(now) != 9 || now[8].State != StateDigest && now[7].State != StateDigest {
		t.Errorf("an hour later told %d times", len(now))
	}
}

// A domain without a known owner has one budget, what it forwards included.
func TestADomainWithForwarders(t *testing.T) {
	d := newDesk(t, anyone)
	for n := range int64(2) {
		d.opened(2*n, "hog.example", incident.Critical)
		d.opened(2*n+1, "forward:hog.example", incident.Critical)
	}
	d.step(d.now)
	d.wantTold("mail", "open mx1-0", "open mx1-1", "open mx1-2")
}

// Nothing is told twice after a crash, whether the notice was delivered or not, and how much was
// told in this hour is known too.
func TestACrashTellsNothingTwice(t *testing.T) {
	d := newDesk(t, anyone+"[alert]\nper_hour = 3\n")
	first := d.opened(1, "a.example", incident.Warning)
	d.opened(2, "b.example", incident.Warning)
	d.after(30 * time.Second)
	d.restart()
	d.after(time.Minute)
	d.wantTold("mail", "open mx1-1", "open mx1-2")
	d.closes(first)
	d.step(d.now)
	d.opened(3, "c.example", incident.Warning)
	d.opened(4, "d.example", incident.Warning)
	d.after(20 * time.Second)
	d.restart()
	d.after(time.Minute)
	d.restart()
	d.after(time.Minute)
	d.wantTold("mail", "open mx1-1", "open mx1-2", "closed mx1-1", "digest")
}

// A crash between the notice and the record: the notice is there once, and has its id.
func TestACrashBeforeTheRecord(t *testing.T) {
	d := newDesk(t, anyone)
	d.step(d.now)
	d.opened(1, "a.example", incident.Critical)
	d.receive()
	q := d.queues[d.config.Load().Alert.To[0].Key()]
	r := rule{Channel: d.config.Load().Alert.To[0]}
	for _, i := range d.sorted {
		if err := d.write(q, d.now, &r, item{named: i, state: StateOpen, kind: critical}, critical); err != nil {
			t.Fatal(err)
		}
	}
	d.restart()
	d.after(time.Minute)
	d.wantTold("mail", "open mx1-1")
	if d.files() != 1 {
		t.Errorf("%d files", d.files())
	}
}

// A record that cannot be read is said, and what is open is told again.
func TestARecordThatIsDamaged(t *testing.T) {
	d := newDesk(t, anyone)
	d.opened(1, "a.example", incident.Critical)
	d.step(d.now)
	q := d.queues[d.config.Load().Alert.To[0].Key()]
	for _, p := range q.waiting {
		q.done(p, nil)
	}
	write(t, q.dir+"/"+recordName, "{", 0o600)
	write(t, noticePath(q.dir, 77), "{", 0o600)
	write(t, q.dir+"/.half", "{", 0o600)
	d.restart()
	d.after(time.Second)
	d.wantTold("mail", "open mx1-1")
	if len(d.events) != 1 || d.events[0].Kind != event.NoticesFailed || !strings.Contains(d.events[0].Err.Error(), "000000000077.json") {
		t.Errorf("%+v", d.events)
	}
}

// Without a place to write nothing is told, and that is said each time; then it is made good.
func TestNoticesThatCannotBeWritten(t *testing.T) {
	d := newDesk(t, anyone)
	dir := d.Dir
	d.open(write(t, dir+"/file", "", 0o600) + "/notices")
	d.opened(1, "a.example", incident.Critical)
	d.after(2 * time.Second)
	if len(d.events) != 2 || d.events[0].Kind != event.NoticesFailed {
		t.Errorf("%+v", d.events)
	}
	d.Dir = dir
	d.step(d.now)
	d.wantTold("mail", "open mx1-1")
}

// So many files at most, of all channels: what is more waits for a digest.
func TestThereIsABoundOfFiles(t *testing.T) {
	d := newDesk(t, anyone)
	d.step(d.now)
	q := d.queues[d.config.Load().Alert.To[0].Key()]
	q.waiting = make([]*pending, maxWaiting)
	for n := range q.waiting {
		q.waiting[n] = &pending{number: int64(n), notice: Notice{At: d.now}}
	}
	d.opened(1, "a.example", incident.Critical)
	d.opened(2, "b.example", incident.Critical)
	d.after(time.Minute)
	if d.files() != 0 {
		t.Fatalf("%d files", d.files())
	}
	q.waiting = nil
	d.after(time.Second)
	d.wantTold("mail", "open mx1-1", "open mx1-2")
}
