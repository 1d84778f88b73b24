package attribution

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
	"sluice/sidecar/senders"
	"sluice/sidecar/usual"
)

// A bench is an Attribution on a real journal, with a clock that the test sets.
type bench struct {
	*Attribution
	t      testing.TB
	o      Options
	dir    string
	store  *journal.Store
	log    hosttest.Log
	now    time.Time
	counts map[string]Counts
	epochs map[string]int64
}

func newBench(t testing.TB, o Options) *bench {
	t.Helper()
	b := &bench{t: t, o: o, dir: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), counts: map[string]Counts{}, epochs: map[string]int64{}}
	b.o.Events = event.NewStream(event.NewLog(slog.New(slog.NewTextHandler(&b.log, nil))))
	b.open()
	t.Cleanup(func() { b.store.Close() })
	return b
}

func (b *bench) open() {
	b.t.Helper()
	var err error
	if b.store, err = journal.Open(b.dir, journal.Options{Ledger: ratelimit.Options{Keep: time.Hour}}); err != nil {
		b.t.Fatal(err)
	}
	o := b.o
	o.Clock, o.Notes = ratelimit.NewClock(b.now, b.store), b.store
	o.Epoch = func(subject string) int64 { return b.epochs[subject] }
	o.Counts = func(_ time.Time, subject string) Counts { return b.counts[subject] }
	o.Spike, o.Rule = func(string, string) string { return "" }, func(string, string) usual.Rule { return usual.Rule{Least: 50, Factor: 3} }
	b.Attribution = New(o)
}

// kill ends without a save, and starts again from what is on the disk.
func (b *bench) kill() {
	b.t.Helper()
	if err := b.store.Close(); err != nil {
		b.t.Fatal(err)
	}
	b.open()
}

func (b *bench) restart() {
	b.t.Helper()
	b.Stop(context.Background(), b.now)
	b.kill()
}

// message is one of a mailbox to n recipients.
func message(mailbox string, n int) *Message {
	m := &Message{Subject: envelope.DomainOf(mailbox), Author: sidecar.Author{Key: mailbox, Proof: sidecar.Proven, Account: "bob"},
		Request: &sidecar.Request{Sender: mailbox, Submitter: sidecar.Submitter{ClientAddress: "203.0.113.9"}}}
	for i := range n {
		m.To = append(m.To, envelope.Address{Local: fmt.Sprint("u", i), Domain: "far.example"})
	}
	return m
}

// send counts n sends of a mailbox, of a message of its own.
func (b *bench) send(mailbox string, n int) {
	m := message(mailbox, n)
	c := b.counts[m.Subject]
	c.Sent += int64(n)
	b.counts[m.Subject] = c
	b.Charged(b.now, m, n)
}

// want compares "NAME TRIED/SENT" of each author of a subject.
func (b *bench) want(subject string, want ...string) {
	b.t.Helper()
	r, _ := b.Of(b.now, subject)
	var got []string
	for _, a := range r.Authors {
		got = append(got, fmt.Sprintf("%s %d/%d", a.Key, a.Tried, a.Sent))
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		b.t.Errorf("%s has %q, want %q", subject, got, want)
	}
}

var hour = Options{Window: time.Hour}

// What was sent counts for an hour, and up to ten minutes longer.
func TestPanesSlide(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 5)
	b.now = b.now.Add(30 * time.Minute)
	b.send("b@x.example", 3)
	b.send("a@x.example", 1)
	b.want("x.example", "a@x.example 6/6", "b@x.example 3/3")
	b.now = b.now.Add(39 * time.Minute)
	b.want("x.example", "a@x.example 6/6", "b@x.example 3/3")
	b.now = b.now.Add(time.Minute) // 12:00 to 12:10 has left
	b.want("x.example", "b@x.example 3/3", "a@x.example 1/1")
	b.now = b.now.Add(30 * time.Minute)
	b.Tick(t.Context(), b.now)
	if b.want("x.example"); b.Status().Subjects != 0 {
		t.Errorf("still there: %+v", b.Status())
	}
}

// The system's clock may be set back: the panes follow that of the store.
func TestAClockThatIsSetBack(t *testing.T) {
	b := newBench(t, hour)
	b.now = time.Now() // with a monotonic reading
	b.kill()
	b.send("a@x.example", 5)
	b.now = b.now.Add(71 * time.Minute)
	b.send("b@x.example", 1)
	b.want("x.example", "b@x.example 1/1")
}

// A client that tries a refused recipient again tries nothing new, and neither does one that
// gets through with it in the end.
func TestRetriesAreNotNew(t *testing.T) {
	b := newBench(t, hour)
	m := message("a@x.example", 3)
	for range 5 {
		b.Refused(b.now, m)
	}
	b.want("x.example", "a@x.example 3/0")
	b.send("a@x.example", 2)
	b.want("x.example", "a@x.example 3/2")
	b.send("a@x.example", 2)
	b.want("x.example", "a@x.example 5/4")
	b.now = b.now.Add(80 * time.Minute)
	b.Refused(b.now, m)
	b.want("x.example", "a@x.example 3/0")
}

// Of no author more is shown than of the domain.
func TestNoMoreThanTheDomain(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 50)
	b.counts["x.example"] = Counts{Sent: 40, Limit: 100}
	b.want("x.example", "a@x.example 50/40")
	b.counts["x.example"] = Counts{Sent: 60, Refused: 10}
	r, _ := b.Of(b.now, "x.example")
	if r.Unattributed != 10 || r.Tried != 70 || r.Authors[0].Share != 71 {
		t.Errorf("%+v", r)
	}
	if r, known := b.Of(b.now, "y.example"); known || len(r.Authors) != 0 || r.Unattributed != 0 {
		t.Errorf("%+v", r)
	}
}

// outcome is that of a send of a mailbox.
func outcome(mailbox string, token int, result ratelimit.Outcome, cause sidecar.Cause) logline.Outcome {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	return logline.Outcome{Entry: &logline.Entry{At: at, Attempt: logline.Attempt{Recipient: "u@far.example", Host: "mx.far.example", Text: "550 " + string(cause)}},
		Payer: &sidecar.Payer{Domain: envelope.DomainOf(mailbox)}, Author: &sidecar.Author{Key: mailbox, Proof: sidecar.Proven},
		Token: ratelimit.Token(token), When: at, To: "far.example", Result: result, Cause: cause}
}

// Bad sends of an author are exact: one that goes wrong twice is one, and one that is
// delivered in the end is none.
func TestBadByCause(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 4)
	b.send("b@x.example", 1)
	for range 2 {
		b.Recorded(b.now, []logline.Outcome{
			outcome("a@x.example", 1, ratelimit.Failed, sidecar.NoSuchUser), outcome("a@x.example", 2, ratelimit.Deferred, sidecar.Greylist),
			outcome("a@x.example", 3, ratelimit.Failed, sidecar.CalledSpam), outcome("b@x.example", 4, ratelimit.Delivered, ""),
		})
		b.Recorded(b.now, []logline.Outcome{outcome("a@x.example", 2, ratelimit.Delivered, "")})
	}
	for range 2 {
		r, _ := b.Of(b.now, "x.example")
		if a := r.Authors[0]; a.Bad != 2 || fmt.Sprint(a.Causes) != "map[called-spam:1 no-such-address:1]" || r.Authors[1].Bad != 0 {
			t.Errorf("%+v", r.Authors)
		}
		if c := r.CalledSpam; c == nil || fmt.Sprint(c.Servers) != "[mx.far.example]" || c.Text != "550 called-spam" {
			t.Errorf("%+v", c)
		}
		b.restart()
	}
	b.now = b.now.Add(80 * time.Minute)
	b.send("a@x.example", 1)
	if r, _ := b.Of(b.now, "x.example"); r.Authors[0].Bad != 0 {
		t.Errorf("%+v", r.Authors)
	}
}

// What nobody has asked about is charged from the log, and counts when its message arrived.
func TestLateCharges(t *testing.T) {
	b := newBench(t, hour)
	late := outcome("a@x.example", 1, ratelimit.Delivered, "")
	late.Charged = true
	old := late
	old.When = b.now.Add(-80 * time.Minute)
	b.now = b.now.Add(50 * time.Minute)
	b.Recorded(b.now, []logline.Outcome{late, old})
	b.want("x.example", "a@x.example 1/0")
	b.counts["x.example"] = Counts{Sent: 1}
	b.want("x.example", "a@x.example 1/1")
	b.now = b.now.Add(20 * time.Minute)
	b.want("x.example")
}

// After a stop all is there, after a kill all but the last minute, which nobody is named for.
func TestRestart(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 5)
	b.Refused(b.now, message("b@x.example", 2))
	b.restart()
	b.want("x.example", "a@x.example 5/5", "b@x.example 2/0")
	b.Refused(b.now, message("b@x.example", 2)) // the same again
	b.want("x.example", "a@x.example 5/5", "b@x.example 2/0")
	b.send("a@x.example", 1)
	b.Tick(t.Context(), b.now.Add(59*time.Second))
	b.kill()
	b.want("x.example", "a@x.example 5/5", "b@x.example 2/0")
	if r, _ := b.Of(b.now, "x.example"); r.Unattributed != 1 {
		t.Errorf("%+v", r)
	}
	b.send("a@x.example", 1)
	b.Tick(t.Context(), b.now.Add(61*time.Second))
	b.kill()
	b.want("x.example", "a@x.example 6/6", "b@x.example 2/0")
	b.now = b.now.Add(3 * time.Hour)
	b.Tick(t.Context(), b.now)
	b.Tick(t.Context(), b.now)
	b.store.Notes("who/", func(key string, _ []byte) { t.Errorf("%s is still noted", key) })
}

// Another window has other panes.
func TestTheWindowHasChanged(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 5)
	b.o.Window = 2 * time.Hour
	b.restart()
	b.want("x.example")
	b.Tick(t.Context(), b.now)
	b.store.Notes("who/", func(key string, _ []byte) { t.Errorf("%s is still noted", key) })
}

func TestResetForgets(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 5)
	b.send("a@y.example", 5)
	reset := sidecar.Reset{Subject: "x.example", Epoch: 7}
	b.Reset(t.Context(), b.now, reset)
	b.want("x.example")
	b.want("y.example", "a@y.example 5/5")
	b.epochs["x.example"] = 7
	b.send("a@x.example", 2)
	b.Reset(t.Context(), b.now, reset) // again, as another node tells it
	b.want("x.example", "a@x.example 2/2")
	b.restart()
	b.Reset(t.Context(), b.now, reset)
	b.want("x.example", "a@x.example 2/2")
}

// A script that changes its directory for each message is one row in the end, and so is who
// makes up addresses that are forwarded. Neither takes anything from others.
func TestMadeUpAuthors(t *testing.T) {
	b := newBench(t, hour)
	sent := map[string]int64{}
	for i := range 3000 {
		script := sidecar.Author{Key: fmt.Sprintf("script:/home/bob/www/%d", i), Proof: sidecar.Claimed, Account: "bob"}
		b.Charged(b.now, &Message{Subject: "x.example", Author: script}, 1)
		forward := sidecar.Author{Key: fmt.Sprintf("forward:u%d@x.example", i), Proof: sidecar.Proven, Account: "bob"}
		b.Charged(b.now, &Message{Subject: "forward:x.example", Author: forward}, 1)
		if i%500 == 499 {
			b.now = b.now.Add(10 * time.Minute)
		}
	}
	b.counts["x.example"], b.counts["forward:x.example"] = Counts{Sent: 3000}, Counts{Sent: 3000}
	for subject, rest := range map[string]string{"x.example": "script:/home/bob/*", "forward:x.example": "forward:*@x.example"} {
		r, _ := b.Of(b.now, subject)
		for _, a := range r.Authors {
			sent[subject] += a.Sent
		}
		if n := len(r.Authors); n != maxChosen+1 || r.Authors[0].Key != rest || r.Authors[0].Sent != 3000-maxChosen || sent[subject] != 3000 {
			t.Errorf("%s: %d authors, %+v", subject, n, r.Authors[0])
		}
	}
	if n := len(b.authors.numbers); n != 2*maxChosen+2 {
		t.Errorf("%d authors are known", n)
	}
	b.restart()
	script := sidecar.Author{Key: "script:/home/bob/new", Proof: sidecar.Claimed, Account: "bob"}
	for i := range 100 {
		script.Key += fmt.Sprint(i % 10)
		b.Charged(b.now, &Message{Subject: "x.example", Author: script}, 1)
	}
	if r, _ := b.Of(b.now, "x.example"); len(r.Authors) != maxChosen+1 || r.Authors[0].Key != "script:/home/bob/*" {
		t.Errorf("%d authors, %+v", len(r.Authors), r.Authors[0])
	}
	for key, want := range map[string]string{"script:/home/bob": "script:/home/bob/*", "script:/srv/x": "script:*", "script:/home2/bob/x/bob/y": "script:/home2/bob/*"} {
		if got := others(&sidecar.Author{Key: key, Account: "bob"}).Key; got != want {
			t.Errorf("%s counts on %s, want %s", key, got, want)
		}
	}
}

// Where the memory is full the domain that was quiet for the longest loses its names.
func TestMemory(t *testing.T) {
	b := newBench(t, Options{Window: time.Hour, Memory: 1 << 20})
	for i := range 5000 {
		b.send(fmt.Sprintf("a@d%d.example", i), 1)
		b.send("a@x.example", 1)
		if i%1000 == 0 {
			b.now = b.now.Add(10 * time.Minute)
		}
	}
	st := b.Status()
	if st.Memory > 1<<20 || st.Memory < 1<<19 || st.Dropped == 0 || st.Subjects+int(st.Dropped) != 5001 {
		t.Errorf("%+v", st)
	}
	if r, _ := b.Of(b.now, "x.example"); len(r.Authors) != 1 || r.Unattributed != 0 {
		t.Errorf("%+v", r)
	}
	b.want("d0.example")
	b.want("d4999.example", "a@d4999.example 1/1")
}

// Where there is no room for another author, names are left out, and those known stay. Who
// has nothing in the window any more makes room.
func TestAuthorsFull(t *testing.T) {
	b := newBench(t, Options{Window: time.Hour, MaxAuthors: 3})
	for _, mailbox := range []string{"a@x.example", "b@x.example", "c@x.example", "d@x.example"} {
		b.send(mailbox, 2)
	}
	b.want("x.example", "a@x.example 2/2", "b@x.example 2/2", "c@x.example 2/2")
	if r, _ := b.Of(b.now, "x.example"); r.Unattributed != 2 {
		t.Errorf("%+v", r)
	}
	b.now = b.now.Add(80 * time.Minute)
	b.send("d@x.example", 1)
	b.want("x.example", "d@x.example 1/1")
	if n := len(b.authors.numbers); n != 3 {
		t.Errorf("%d authors", n)
	}
}

// A bug costs names, and nothing else.
func TestBroken(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 5)
	b.subjects.byName["x.example"].panes[0].Entries[0].Author = 1 << 30
	b.send("a@x.example", 5)
	b.now = b.now.Add(80 * time.Minute)
	b.send("a@x.example", 5)
	if r, known := b.Of(b.now, "x.example"); known || r.Sent != 15 || r.Unattributed != 15 || len(r.Authors) != 0 {
		t.Errorf("%+v", r)
	}
	if who, _, _ := b.Most(b.now, "x.example"); who.Key != "" || len(b.largest(b.now, 20)) != 0 {
		t.Errorf("%+v", who)
	}
	b.Refused(b.now, message("a@x.example", 1))
	b.Recorded(b.now, []logline.Outcome{outcome("a@x.example", 1, ratelimit.Failed, sidecar.NoSuchUser)})
	b.Tick(t.Context(), b.now)
	b.Stop(t.Context(), b.now)
	b.Reset(t.Context(), b.now, sidecar.Reset{Subject: "x.example", Epoch: 1})
	if b.Status().Trouble == "" || strings.Count(b.log.String(), "who sends is not known any more") != 1 {
		t.Errorf("%+v\n%s", b.Status(), b.log.String())
	}
}

func TestMost(t *testing.T) {
	b := newBench(t, hour)
	if who, tried, of := b.Most(b.now, "x.example"); who.Key != "" || tried != 0 || of != 0 {
		t.Errorf("%+v %d of %d", who, tried, of)
	}
	b.send("a@x.example", 5)
	b.send("b@x.example", 7)
	b.now = b.now.Add(20 * time.Minute)
	b.send("a@x.example", 5)
	if who, tried, of := b.Most(b.now, "x.example"); who != (sidecar.Author{Key: "a@x.example", Proof: sidecar.Proven, Account: "bob"}) || tried != 10 || of != 17 {
		t.Errorf("%+v %d of %d", who, tried, of)
	}
	all, newest := b.Uses(b.now.Add(40*time.Minute), "x.example", false), b.Uses(b.now.Add(40*time.Minute), "x.example", true)
	if len(all) != 2 || len(newest) != 1 || newest[0].Sent != 5 {
		t.Errorf("%+v, newest %+v", all, newest)
	}
}

func TestLargest(t *testing.T) {
	b := newBench(t, hour)
	for i := range 300 {
		b.send(fmt.Sprintf("a@d%d.example", i), i+1)
		b.send(fmt.Sprintf("b@d%d.example", i), 1)
	}
	b.send("c@d299.example", 299)
	r := b.largest(b.now, 3)
	if len(r) != 2 || r[0].Domain != "d299.example" || len(r[0].Authors) != 2 || r[0].Sent != 600 || r[1].Authors[0].Key != "a@d298.example" {
		t.Errorf("%+v", r)
	}
}

// At this rate the limit is reached in half an hour.
func TestFullAt(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 20)
	b.now = b.now.Add(10 * time.Minute)
	b.send("a@x.example", 20)
	b.counts["x.example"] = Counts{Sent: 40, Limit: 100}
	if r, _ := b.Of(b.now, "x.example"); r.FullAt == nil || r.FullAt.Sub(b.now) != 15*time.Minute {
		t.Errorf("%v", r.FullAt)
	}
	b.counts["x.example"] = Counts{Sent: 40, Limit: 1000}
	if r, _ := b.Of(b.now, "x.example"); r.FullAt != nil {
		t.Errorf("%v", r.FullAt)
	}
}

func TestEvidence(t *testing.T) {
	b := newBench(t, hour)
	m := message("a@x.example", 1)
	for i := range 461 {
		m.To[0] = envelope.Address{Local: fmt.Sprint("u", i), Domain: []string{"mail.example", "post.example", "mail.example"}[i%3]}
		m.Request.ClientAddress, m.Request.Script = fmt.Sprintf("203.0.%d.%d", 113+max(0, i-300)/20, i%250), "1001:mailer.php"
		m.Request.Subject = []string{"Your invoice 8841", "other"}[min(1, i%50/49)]
		b.Charged(b.now, m, 1)
	}
	b.counts["x.example"] = Counts{Sent: 461}
	r, _ := b.Of(b.now, "x.example")
	a := r.Authors[0]
	if a.Recipients < 430 || a.Recipients > 461 || a.Senders != 1 || a.Header != "1001:mailer.php" || a.Subject != "Your invoice 8841" || a.SubjectCount != 452 || a.MoreNetworks {
		t.Errorf("%+v", a)
	}
	if len(a.Networks) != 9 || a.Networks[0] != (senders.Share{Name: "203.0.113.0/24", Tried: 320}) || len(a.Destinations) != 2 || a.Destinations[0] != (senders.Share{Name: "mail.example", Tried: 307}) {
		t.Errorf("%+v %+v", a.Networks, a.Destinations)
	}
	for range 3 { // it is that of the last hour or two
		b.now = b.now.Add(60 * time.Minute)
		b.send("a@x.example", 1)
	}
	if r, _ = b.Of(b.now, "x.example"); r.Authors[0].Networks[0].Tried > 2 || len(r.Authors[0].Networks) != 1 {
		t.Errorf("%+v", r.Authors[0])
	}
	b.now = b.now.Add(80 * time.Minute)
	if b.Tick(t.Context(), b.now); b.sheets != 0 || slices.ContainsFunc(b.authors.all, func(x author) bool { return x.evidence != nil }) {
		t.Errorf("%d sheets are left", b.sheets)
	}
}

// Of a log nothing is ever forgotten.
func TestALogIsOnePane(t *testing.T) {
	a := New(Options{Events: event.NewStream(), Spike: func(string, string) string { return "" }})
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for i := range 1000 {
		a.Charged(at.Add(time.Duration(i)*time.Hour), message(fmt.Sprintf("u%d@x.example", i%100), 2), 2)
	}
	r, _ := a.Of(at.Add(5000*time.Hour), "x.example")
	if len(r.Authors) != 100 || r.Sent != 2000 || r.Tried != 2000 || r.Authors[0].Sent != 20 || r.Unattributed != 0 {
		t.Errorf("%d authors, %d sent, first %+v", len(r.Authors), r.Sent, r.Authors[0])
	}
}

// Who has sent on an earlier day is known to have, after a restart too that has forgotten all
// that was not in the window; of another domain's authors it says nothing.
func TestFirstSeenOutlastsARestart(t *testing.T) {
	b := newBench(t, hour)
	first := b.now
	b.send("ann@a.example", 3)
	b.now = b.now.AddDate(0, 0, 3)
	b.Tick(t.Context(), b.now)
	b.restart()
	b.send("ann@a.example", 1)
	b.send("eve@a.example", 1)
	r, _ := b.Of(b.now, "a.example")
	for _, a := range r.Authors {
		year, month, day := first.Local().Date()
		want := time.Date(year, month, day, 0, 0, 0, 0, time.Local)
		if a.Key == "eve@a.example" {
			want = time.Unix(b.now.Unix(), 0)
		}
		if !a.FirstSeen.Equal(want) {
			t.Errorf("%s was first seen at %v, want %v", a.Key, a.FirstSeen, want)
		}
	}
}
