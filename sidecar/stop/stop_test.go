package stop

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/live"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/notes"
	"sluice/sidecar/printable"
	"sluice/sidecar/settings"
)

// A desk is where somebody stops others: with a board and files, both on a disk, and a clock.
type desk struct {
	*Stops
	t     *testing.T
	store *journal.Store
	board *awayBoard
	dir   string
	now   time.Time
	held  map[string]int // recipients by author
	log   hosttest.Log
}

const (
	eve = "eve@a.example"
	ann = "ann@a.example"
)

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir(), held: map[string]int{}, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	var err error
	if d.store, err = journal.Open(t.TempDir(), journal.Options{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.store.Close() })
	d.board = &awayBoard{LocalBoard: notes.LocalBoard{Notes: d.store}}
	d.open()
	return d
}

// open is a start: of the files only what stands then is seen.
func (d *desk) open() {
	d.t.Helper()
	c, err := config.Parse("test.toml", "[limits]\nhourly = 30\n[limits.mailbox.\"rich@a.example\"]\nhourly = 40\n[limits.domain.\"poor.example\"]\nhourly = 5\n")
	if err != nil {
		d.t.Fatal(err)
	}
	events := event.NewStream(event.NewLog(slog.New(slog.NewTextHandler(&d.log, nil))))
	live := live.New(live.Options{Config: c, Host: settings.Host{Node: "node1"}, Board: d.board, Notes: d.store, Events: events, Now: d.now})
	locks, err := lockdir.Open(lockdir.Options{Path: d.dir, Notes: d.store, Now: d.now})
	if err != nil {
		d.t.Fatal(err)
	}
	files, err := lockdir.Open(lockdir.Options{Path: d.dir + "/stopped", Within: locks, Notes: d.store, Now: d.now})
	if err != nil {
		d.t.Fatal(err)
	}
	d.Stops = New(Options{Board: d.board, Dir: files, Notes: d.store, Events: events, Settings: live.Load,
		Held: func(author string) int { return d.held[author] }})
}

func (d *desk) stop(o Request) *Stop {
	o.Who = "alice"
	return d.Stop(d.t.Context(), d.now, o)
}

// block is the Block of an author of a.example.
func (d *desk) block(author string) (sidecar.Block, bool) {
	return d.Block(d.now, sidecar.Author{Key: author}, sidecar.Payer{Domain: "a.example"})
}

func (d *desk) want(when, author string, stopped bool) {
	d.t.Helper()
	if _, got := d.block(author); got != stopped {
		d.t.Errorf("%s: %s is stopped: %v, want %v", when, author, got, stopped)
	}
}

// Who is stopped is so by the author, by the account of either the author or who pays, or as
// the one to blame at the expense of this payer, and nobody beside.
func TestWhomAStopConcerns(t *testing.T) {
	who := sidecar.Payer{Domain: "a.example", Account: "bob"}
	of := func(key, account string) sidecar.Author { return sidecar.Author{Key: key, Account: account} }
	for _, c := range []struct {
		scope, blamed string // of an operator, and by a machine
		author        sidecar.Author
		who           sidecar.Payer
		by            string
	}{
		{scope: eve, author: of(eve, ""), who: who, by: eve},
		{scope: eve, author: of(ann, ""), who: who},
		{scope: eve, author: of("", ""), who: who},
		{scope: "login:carl", author: sidecar.Author{Key: "script:/srv/wp", Login: "login:carl"}, who: who, by: "login:carl"},
		{scope: "login:carl", author: sidecar.Author{Key: "script:/srv/wp", Login: "login:bob", Account: "carl"}, who: who},
		{scope: "account:carl", author: of(ann, "carl"), who: who, by: "account:carl"},
		{scope: "account:carl", author: of(ann, "bob"), who: who},
		{scope: "account:bob", author: of(ann, ""), who: who, by: "account:bob"},
		{scope: "account:", author: of(ann, ""), who: sidecar.Payer{Domain: "a.example"}},
		{blamed: eve, author: of(eve, ""), who: who, by: eve},
		{blamed: eve, author: of(ann, ""), who: who},
		{blamed: eve, author: of(eve, ""), who: sidecar.Payer{Domain: "b.example"}},
		{blamed: eve, author: of(eve, ""), who: sidecar.Payer{}},
		{blamed: "account:bob", author: of(ann, "bob"), who: who},
	} {
		d := newDesk(t)
		if c.scope != "" {
			d.stop(Request{Scope: c.scope})
		} else {
			d.Blame(t.Context(), d.now, c.blamed, "a.example", "10/5 bad", "too much is bad")
		}
		b, blocked := d.Block(d.now, c.author, c.who)
		if blocked != (c.by != "") || b.Stop != c.by {
			t.Errorf("%+v: blocked %v by %q", c, blocked, b.Stop)
		}
	}
}

func TestWhatAStopAnswers(t *testing.T) {
	d := newDesk(t)
	began := d.now
	stamp := func(after time.Duration) string { return began.Add(after).Local().Format("2006-01-02 15:04:05 -0700") }
	d.stop(Request{Scope: eve, Why: "stolen", For: time.Hour})
	b, _ := d.block(eve)
	text := b.Text(sidecar.Defer)
	if b.SMTP != sidecar.Defer || b.Local != sidecar.Accept || b.By != sidecar.ByStop || b.Retries != nil ||
		text.Text != "Mailbox eve@a.example is stopped.  Message will be reattempted later" || text.Where != "sluice on node1" ||
		text.Log != "stopped by alice at "+stamp(0)+" until "+stamp(time.Hour)+": stolen" {
		t.Errorf("%+v, %+v", b, text)
	}
	d.now = d.now.Add(time.Second)
	d.stop(Request{Scope: eve, Reject: true}) // the last speaks
	b, _ = d.block(eve)
	if text = b.Text(sidecar.Reject); b.SMTP != sidecar.Reject || b.Local != sidecar.Reject || text.Text != "Mailbox eve@a.example is stopped.  Message discarded." ||
		text.Log != "stopped by alice at "+stamp(time.Second) {
		t.Errorf("with --reject: %+v, %+v", b, text)
	}
	d.Blame(t.Context(), d.now, ann, "a.example", "10/5 bad", "too much is bad")
	if b, _ = d.block(ann); b.Text(sidecar.Defer).Text != "too much is bad" || b.Retries == nil || b.SMTP != sidecar.Defer {
		t.Errorf("to blame: %+v", b)
	}
}

// sendmail's mail is held up to what the author may send in an hour, and up to 20 in any case.
func TestHowMuchOfAStoppedAuthorIsHeld(t *testing.T) {
	for _, c := range []struct {
		author string
		who    sidecar.Payer
		most   int
	}{
		{eve, sidecar.Payer{Domain: "a.example"}, 30},
		{"rich@a.example", sidecar.Payer{Domain: "a.example", Mailbox: "rich@a.example"}, 40},
		{eve, sidecar.Payer{Domain: "a.example", Mailbox: eve}, 30}, // which has no limit of its own
		{"script:/srv", sidecar.Payer{Domain: "poor.example"}, 20},
		{"script:/srv", sidecar.Payer{Special: sidecar.System}, 20}, // without a limit
	} {
		d := newDesk(t)
		d.stop(Request{Scope: c.author})
		for n, want := range map[int]sidecar.Action{c.most - 1: sidecar.Accept, c.most: sidecar.Reject, c.most + 1: sidecar.Reject} {
			d.held[c.author] = n
			if b, blocked := d.Block(d.now, sidecar.Author{Key: c.author}, c.who); !blocked || b.Local != want {
				t.Errorf("%s of %s, %d held: %+v", c.author, c.who.Subject(), n, b)
			}
		}
	}
}

// To send from another directory each time does not have more held, nor does what a limit holds
// of the same author beside the stop.
func TestHowMuchOfAStoppedAccountIsHeld(t *testing.T) {
	const script = "script:/home/carl/new"
	for _, scope := range []string{"account:carl", script} {
		d := newDesk(t)
		d.stop(Request{Scope: "account:carl"})
		for n, want := range map[int]sidecar.Action{29: sidecar.Accept, 30: sidecar.Reject} {
			d.held[scope] = n
			if b, _ := d.Block(d.now, sidecar.Author{Key: script, Account: "carl"}, sidecar.Payer{Domain: "a.example", Account: "carl"}); b.Local != want {
				t.Errorf("%d held of %s: %+v", n, scope, b)
			}
		}
	}
}

// A stop with --for ends to the second, and which end counts is the earlier one.
func TestAStopExpires(t *testing.T) {
	d := newDesk(t)
	d.stop(Request{Scope: eve, For: time.Hour})
	d.stop(Request{Scope: ann})
	end := d.now.Add(time.Hour)
	d.now = end.Add(-time.Millisecond)
	d.want("before", eve, true)
	if st := d.List(d.now, eve, true)[0]; st.State(d.now) != "in force" {
		t.Errorf("before: %s", st.State(d.now))
	}
	d.now = end
	d.want("at its end", eve, false)
	d.want("without --for", ann, true)
	if all := d.List(d.now, "", false); len(all) != 1 || all[0].Scope != ann {
		t.Errorf("in force: %+v", all)
	}
	if st := d.List(d.now, eve, true)[0]; st.State(d.now) != "expired" || !st.ended().Equal(end) {
		t.Errorf("after: %s at %v", st.State(d.now), st.ended())
	}
	d.now = end.Add(time.Hour)
	if d.Start(t.Context(), d.now, eve, "bob", false) || !d.Start(t.Context(), d.now, ann, "bob", false) || d.Start(t.Context(), d.now, ann, "bob", false) {
		t.Error("start reports whether there was a stop, and does not")
	}
	if st := d.List(d.now, ann, true)[0]; st.State(d.now) != "ended" || !st.ended().Equal(d.now) || st.EndedBy != "bob" {
		t.Errorf("after start: %+v", st)
	}
	if got, want := d.List(d.now, ann, true)[0].Ending(), "by bob on node1 at "+printable.DateTime(d.now); got != want {
		t.Errorf("it was ended %q, want %q", got, want)
	}
	if st := d.List(d.now, eve, true)[0]; st.Ending() != "" {
		t.Errorf("nobody has ended what expired, and it says %q", st.Ending())
	}
	early := &Stop{Until: end, end: end2(end.Add(-time.Minute))}
	late := &Stop{Until: end, end: end2(end.Add(time.Minute))}
	if early.State(end) != "ended" || late.State(end) != "expired" || !late.ended().Equal(end) {
		t.Errorf("%s, %s at %v", early.State(end), late.State(end), late.ended())
	}
}

func end2(at time.Time) end { return end{Ended: at} }

// A tenant chooses the name of a directory, and an operator copies the command.
func TestTheCommandThatStarts(t *testing.T) {
	d := newDesk(t)
	for scope, want := range map[string]string{
		eve:                          "sluice start eve@a.example",
		"script:/home/bob/$(reboot)": "sluice start 'script:/home/bob/$(reboot)'",
		"script:/home/bob/\u202e":    "sluice start AUTHOR",
	} {
		if got := StartCommand(scope); got != want {
			t.Errorf("%q: %s, want %s", scope, got, want)
		}
		d.stop(Request{Scope: scope, For: time.Hour})
		b, _ := d.Kept(d.now.Add(2*time.Hour), scope, d.now.Add(-2*time.Hour))
		if got := b.Text(sidecar.Defer).Where; got != want+" --release; sluice on node1" {
			t.Errorf("%q is held: %s", scope, got)
		}
	}
}

// What a stop has held and was an hour old when it ended stays, until it is released.
func TestOldMailStays(t *testing.T) {
	d := newDesk(t)
	d.stop(Request{Scope: eve, For: 2 * time.Hour})
	ended := d.now.Add(2 * time.Hour)
	kept := func(arrived time.Time) bool {
		_, kept := d.Kept(d.now, eve, arrived)
		return kept
	}
	d.now = ended.Add(-time.Second)
	if kept(ended.Add(-3 * time.Hour)) {
		t.Error("while the stop is in force it blocks, and keeps nothing")
	}
	d.now = ended.Add(time.Hour)
	if !kept(ended.Add(-oldMail-time.Second)) || kept(ended.Add(-oldMail)) || kept(ended) {
		t.Error("it is not what was over an hour old that stays")
	}
	if _, others := d.Kept(d.now, ann, ended.Add(-3*time.Hour)); others {
		t.Error("what others sent stays too")
	}
	b, _ := d.Kept(d.now, eve, ended.Add(-3*time.Hour))
	text := b.Text(sidecar.Defer)
	if b.SMTP != sidecar.Defer || b.Stop != eve || text.Text != "Mailbox eve@a.example was stopped.  Message waits until somebody releases it" ||
		text.Where != "sluice start eve@a.example --release; sluice on node1" {
		t.Errorf("%+v, %+v", b, text)
	}
	if !d.Start(t.Context(), d.now, eve, "bob", true) || kept(ended.Add(-3*time.Hour)) || d.Start(t.Context(), d.now, eve, "bob", true) {
		t.Error("it is not released, or twice")
	}
}

// Its age is that of its id.
func TestOldMailByItsID(t *testing.T) {
	const id = "1xUzSN-0005dd-0q"
	arrived, _ := envelope.IDTime(id)
	for age, want := range map[time.Duration]bool{oldMail - time.Second: false, oldMail + time.Second: true} {
		d := newDesk(t)
		d.now = arrived.Add(age)
		d.stop(Request{Scope: eve})
		d.Start(t.Context(), d.now, eve, "bob", false)
		if got := d.KeptID(d.now, eve, id); got != want {
			t.Errorf("%v old: it stays %v", age, got)
		}
	}
}

// One that was charged before may be tried again each minute, and the router may ask about it
// more than once; each blamed author has a try of its own.
func TestOneRetryAMinute(t *testing.T) {
	d := newDesk(t)
	try := func(author string, token ratelimit.Token, left int, want bool) {
		t.Helper()
		b, _ := d.block(author)
		if got := b.Retries.Left(); got != left {
			t.Errorf("%s: %d left, want %d", author, got, left)
		}
		if got := b.Retries.Allow("id", token); got != want {
			t.Errorf("%s, %d: allowed %v", author, token, got)
		}
	}
	d.Blame(t.Context(), d.now, eve, "a.example", "", "")
	d.Blame(t.Context(), d.now, ann, "a.example", "", "")
	try(eve, 1, 1, true)
	try(eve, 1, 0, true)
	try(eve, 2, 0, false)
	try(ann, 2, 1, true)
	d.now = d.now.Add(retryEvery - time.Second)
	try(eve, 2, 0, false)
	d.now = d.now.Add(time.Second)
	try(eve, 2, 1, true)
	try(eve, 1, 0, false)
}

// A machine's stop and an operator's end apart from each other by what Sluice does; an
// operator's start ends both.
func TestBlame(t *testing.T) {
	d := newDesk(t)
	d.stop(Request{Scope: eve, For: time.Hour})
	d.now = d.now.Add(time.Minute)
	since := d.now
	d.Blame(t.Context(), d.now, eve, "a.example", "10/5 bad", "")
	if got := d.Blamed(d.now); len(got) != 1 || got[0] != (sidecar.Blamed{Key: eve, Subject: "a.example", Node: "node1", Since: since}) {
		t.Errorf("blamed are %+v", got)
	}
	if b, _ := d.block(eve); b.Retries != nil {
		t.Error("the operator's stop does not speak first")
	}
	d.Forgive(t.Context(), d.now, eve, "b.example")
	d.Forgive(t.Context(), d.now, ann, "a.example")
	if len(d.Blamed(d.now)) != 1 {
		t.Error("forgiven is somebody else")
	}
	d.Forgive(t.Context(), d.now, eve, "a.example")
	d.Forgive(t.Context(), d.now, eve, "a.example")
	if got, want := d.List(d.now, eve, true)[0].Ending(), "by sluice on node1 at "+printable.DateTime(d.now); got != want {
		t.Errorf("it was ended %q, want %q", got, want)
	}
	d.want("forgiven", eve, true)
	if len(d.Blamed(d.now)) != 0 || !d.LastBlame(eve, "a.example").Equal(since) || !d.LastBlame(eve, "b.example").IsZero() || !d.LastBlame(ann, "a.example").IsZero() {
		t.Errorf("blamed are %v, the last time %v", d.Blamed(d.now), d.LastBlame(eve, "a.example"))
	}
	d.now = d.now.Add(time.Hour)
	d.want("the operator's has expired", eve, false)
	d.Blame(t.Context(), d.now, eve, "a.example", "", "")
	if !d.LastBlame(eve, "a.example").Equal(d.now) || !d.Start(t.Context(), d.now, eve, "bob", false) || len(d.Blamed(d.now)) != 0 {
		t.Error("an operator does not start who is blamed")
	}
}

func (d *desk) files() (names []string) {
	all, _ := filepath.Glob(d.dir + "/stopped/*")
	for _, name := range all {
		names = append(names, filepath.Base(name))
	}
	return names
}

func (d *desk) wantFiles(when string, want ...string) {
	d.t.Helper()
	if got := d.files(); !slices.Equal(got, want) {
		d.t.Errorf("%s: the files are %v, want %v", when, got, want)
	}
}

// The files are those that are stopped by operators, if Exim can ask for them by name.
func TestFilesOfTheStopped(t *testing.T) {
	d := newDesk(t)
	d.stop(Request{Scope: eve, For: time.Hour})
	d.stop(Request{Scope: "script:/srv/wp"})
	d.Blame(t.Context(), d.now, ann, "a.example", "", "")
	d.Follow(t.Context(), d.now)
	d.wantFiles("stopped", eve)
	if dir, err := os.Stat(d.dir + "/stopped"); err != nil || dir.Mode().Perm() != 0o711 {
		t.Errorf("the directory: %v, %v", dir.Mode(), err)
	}
	if file, err := os.Stat(d.dir + "/stopped/" + eve); err != nil || file.Mode().Perm() != 0o600 {
		t.Errorf("the file: %v, %v", file.Mode(), err)
	}
	touch := func(name string) {
		t.Helper()
		if err := os.WriteFile(d.dir+"/stopped/"+name, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		d.open()
		d.Follow(t.Context(), d.now)
	}
	touch("login:bob")
	if all := d.List(d.now, "login:bob", false); len(all) != 1 || all[0].Who != byHand || all[0].Cause != Operator {
		t.Errorf("a file by hand: %+v", all)
	}
	d.Follow(t.Context(), d.now)
	if n := len(d.List(d.now, "login:bob", true)); n != 1 {
		t.Errorf("it makes %d stops", n)
	}
	touch(eve) // which its stop had for an hour
	d.now = d.now.Add(2 * time.Hour)
	d.want("touched", eve, true)
	d.Start(t.Context(), d.now, eve, "bob", false)
	d.wantFiles("started", "login:bob")
	d.StopsEvent(lockfile.RemovedByHand, "login:bob")
	d.want("removed by hand", "login:bob", false)
	d.stop(Request{Scope: eve, For: time.Hour})
	d.now = d.now.Add(time.Hour)
	d.Tick(t.Context(), d.now)
	d.wantFiles("expired")
	d.StopsEvent(lockfile.Made, "")
	d.stop(Request{Scope: eve})
	if all := d.List(d.now, eve, true); len(all) != 4 || all[0].State(d.now) != "in force" {
		t.Errorf("in all it was stopped so: %+v", all)
	}
	if d.Failure() != nil {
		t.Errorf("it fails: %v", d.Failure())
	}
	if err := errors.Join(os.RemoveAll(d.dir+"/stopped"), os.WriteFile(d.dir+"/stopped", nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if d.open(); d.Failure() == nil {
		t.Error("with a file in place of the directory nothing is wrong")
	}
}

// StopsEvent is an event of the directory.
func (d *desk) StopsEvent(kind lockfile.EventKind, scope string) {
	d.Event(d.t.Context(), d.now, lockfile.Event{Kind: kind, File: lockfile.File{Lock: lockOf(scope)}})
}

func TestScopesThatCanBeStopped(t *testing.T) {
	for typed, want := range map[string]string{
		"Eve@A.example": eve, "loopback": "loopback", "account:bob": "account:bob", "login:bob": "login:bob", "service:www-data": "service:www-data",
		"script:/home/bob/../bob/wp/": "script:/home/bob/wp", "script:wp": "", "script:/home/bob/\x01": `script:/home/bob/\x01`,
		`script:/home/bob/\x01`: `script:/home/bob/\x01`, `script:/a\b`: `script:/a\x5cb`, "forward:Info@A.example": "forward:info@a.example", "forward:a.example": "",
		"client:192.0.2.1": "client:192.0.2.1", "client:2001:db8::1": "client:2001:db8::/64", "client:2001:db8::/64": "client:2001:db8::/64", "client:pc": "",
		"a.example": "", "": "", "account:": "", "login:": "", "web:bob": "",
	} {
		got, err := Canonical(typed)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v; want %q", typed, got, err, want)
		}
	}
	for scope, want := range map[string]string{eve: "a.example", "forward:info@a.example": "a.example", "login:x@a.example": "", "script:/a@b.example": "", "account:bob": ""} {
		if got := DomainOf(scope); got != want {
			t.Errorf("%s is of %q, want %q", scope, got, want)
		}
	}
}

func (d *desk) wantLogged(text string) {
	d.t.Helper()
	if !strings.Contains(d.log.String(), text) {
		d.t.Errorf("not in the log: %s\n%s", text, d.log.String())
	}
}
