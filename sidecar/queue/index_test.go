package queue

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/logline"
)

// A spool is one of a test's own, in which the test writes messages as Exim does.
type spool struct {
	*Index
	t    *testing.T
	dir  string
	now  time.Time
	held map[string]int
}

// newSpool is a spool of a host for which here.example is local, and where who has logged in
// pays with the domain of the id, and forwarders with forward:DOMAIN.
func newSpool(t *testing.T, most int) *spool {
	s := &spool{t: t, dir: t.TempDir(), now: time.Unix(1_800_000_000, 0), held: map[string]int{}}
	s.Index = New(Options{Directory: s.dir, Max: most, Held: func() map[string]int { return s.held },
		Local: func(domain string) bool { return domain == "here.example" },
		Identify: func(r *sidecar.Request) (sidecar.Payer, sidecar.Author) {
			switch {
			case r.Auth != "":
				return sidecar.Payer{Domain: envelope.DomainOf(r.Auth)}, sidecar.Author{Key: r.Auth}
			case r.Original != "":
				return sidecar.Payer{Special: "forward:" + envelope.DomainOf(r.Original)}, sidecar.Author{Key: "forward:" + r.Original}
			case r.Login == "bob" && r.CWD != "":
				return sidecar.Payer{Domain: "bob.example"}, sidecar.Author{Key: "script:" + r.CWD}
			case r.Login == "bob":
				return sidecar.Payer{Domain: "bob.example"}, sidecar.Author{Key: "login:bob"}
			case r.Login == "exim":
				return sidecar.Payer{Class: sidecar.Nobody}, sidecar.Author{}
			case r.ClientAddress != "" && r.Stage == sidecar.StageRoute:
				return sidecar.Payer{Special: "relay:" + r.ClientAddress}, sidecar.Author{}
			}
			return sidecar.Payer{Class: sidecar.Inbound}, sidecar.Author{}
		}})
	return s
}

// id is the n-th id of a message that came some time ago.
func (s *spool) id(n int, age time.Duration) string {
	seconds, text := s.now.Add(-age).Unix(), []byte("000000")
	for i := 5; i >= 0; i-- {
		text[i], seconds = digits[seconds%62], seconds/62
	}
	return fmt.Sprintf("%s-%06d-0q", text, n)
}

// write writes a file of a message, into a directory below the spool.
func (s *spool) write(dir, id, text string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, dir, id+"-H")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
	return path
}

// header is a -H file: options are lines, tree those who have it.
func header(id, sender, options, tree string, recipients ...string) string {
	submitter := "alice 1000 1000"
	if strings.Contains(options, "-ident exim") {
		submitter = "exim 100 100"
	}
	return fmt.Sprintf("%s-H\n%s\n<%s>\n1800000000 0\n%s%s\n%d\n%s\n\n006  X: y\n", id, submitter, sender, options, tree, len(recipients), strings.Join(recipients, "\n"))
}

// report sweeps and reports.
func (s *spool) report(selection Selection) Report {
	s.t.Helper()
	s.Sweep(s.t.Context(), s.now, false)
	if selection.Top == 0 {
		selection.Top, selection.List = 100, 100
	}
	r, err := s.Report("mx1", s.now, selection)
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// wantIDs fails the test unless these messages are selected.
func (s *spool) wantIDs(what string, selection Selection, want ...string) {
	s.t.Helper()
	var got []string
	for _, m := range s.report(selection).List {
		got = append(got, m.ID)
	}
	if !slices.Equal(got, want) {
		s.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

const auth = "-host_address [192.0.2.7]:4711\n-host_auth plain\n--auth_id news@shop.example\n"

// Whose a message is, where it goes and what state it is in.
func TestQueueTellsWhoseItIs(t *testing.T) {
	s := newSpool(t, 100)
	ids := make([]string, 8)
	for i := range ids {
		ids[i] = s.id(i, time.Duration(8-i)*time.Hour)
	}
	s.write("input", ids[0], header(ids[0], "forged@other.example", auth, "YY b@far.example\nNN a@far.example\nNN c@far.example", "a@far.example", "b@far.example", "c@far.example", "d@far.example", `"x y"@away.example a@b 0,-1#1`, "e@far.example"))
	s.write("input/"+ids[1][5:6], ids[1], header(ids[1], "bob@else.example", "-host_address [2001:db8::1]:25\n", "XX", "info@here.example"))
	s.write("aside/input", ids[2], header(ids[2], "", "-ident exim\n-local\n-frozen 1799999999\n", "XX", "news@here.example"))
	s.write("input", ids[3], header(ids[3], "", "-ident exim\n-local\n", "XX", "nobody@away.example"))
	s.write("input", ids[4], header(ids[4], "x@y.example", "-host_address 192.0.2.8.25\n-aclm _x 12\n-frozen 1\n\nq\n", "XX", "r@far.example"))
	s.write("input", ids[5], header(ids[5], "x@y.example", "-host_address [192.0.2.9]:25\n", "XX", "r@far.example")[:80])
	s.held[ids[0]] = 2
	r := s.report(Selection{})
	type row struct{ id, payer, author, sender, to, state string }
	var got []row
	for _, m := range r.List {
		got = append(got, row{m.ID, m.Payer, m.Author, m.Sender, m.To, fmt.Sprintf("%d left, %d held, frozen %v, unknown %v, in %q", m.Recipients, m.Held, m.Frozen != nil, m.Unknown, m.Queue)})
	}
	want := []row{
		{ids[0], "shop.example", "news@shop.example", "forged@other.example", "far.example", `3 left, 2 held, frozen false, unknown false, in ""`},
		{ids[1], "", "", "bob@else.example", "here.example", `1 left, 0 held, frozen false, unknown false, in ""`},
		{ids[2], "here.example", "", "", "here.example", `1 left, 0 held, frozen true, unknown false, in "aside"`},
		{ids[3], "", "", "", "away.example", `1 left, 0 held, frozen false, unknown false, in ""`},
		{ids[4], "relay:192.0.2.8", "", "x@y.example", "far.example", `1 left, 0 held, frozen false, unknown false, in ""`},
		{ids[5], "", "", "", "", `0 left, 0 held, frozen false, unknown true, in ""`},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(row{})); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	shares := []Share{
		{Payer: "", Messages: 2, Recipients: 2, Bounces: 1, Oldest: s.now.Add(-7 * time.Hour), To: Most{"away.example", 1}},
		{Payer: "here.example", Messages: 1, Recipients: 1, Frozen: 1, Bounces: 1, Oldest: s.now.Add(-6 * time.Hour), To: Most{"here.example", 1}},
		{Payer: "relay:192.0.2.8", Messages: 1, Recipients: 1, Oldest: s.now.Add(-4 * time.Hour), To: Most{"far.example", 1}},
		{Payer: "shop.example", Messages: 1, Recipients: 3, Held: 1, Oldest: s.now.Add(-8 * time.Hour), Author: Most{"news@shop.example", 1}, To: Most{"far.example", 1}},
	}
	if diff := cmp.Diff(shares, r.Payers); diff != "" || r.Messages != 6 || r.Recipients != 7 || r.Unknown != 1 {
		t.Errorf("%d messages, %d recipients, %d unknown; -want +got:\n%s", r.Messages, r.Recipients, r.Unknown, diff)
	}
	for what, c := range map[string]struct {
		Selection
		want []string
	}{
		"payer":      {Selection{Scope: "shop.example"}, ids[:1]},
		"author":     {Selection{Scope: "news@shop.example"}, ids[:1]},
		"sender":     {Selection{Sender: "ELSE.exam"}, ids[1:2]},
		"expression": {Selection{Sender: "~^(bob|x)@"}, []string{ids[1], ids[4]}},
		"recipient":  {Selection{Recipient: "x y"}, ids[:1]},
		"has it":     {Selection{Recipient: "b@far"}, nil},
		"id":         {Selection{ID: ids[3]}, ids[3:4]},
		"queue":      {Selection{Queue: "aside"}, ids[2:3]},
		"frozen":     {Selection{Frozen: true}, ids[2:3]},
		"held":       {Selection{Held: true}, ids[:1]},
		"bounces":    {Selection{Bounces: true}, ids[2:4]},
		"older":      {Selection{Older: 7 * time.Hour}, ids[:2]},
		"younger":    {Selection{Younger: 4 * time.Hour}, ids[5:6]},
	} {
		s.wantIDs(what, c.Selection, c.want...)
	}
	if _, err := s.Report("mx1", s.now, Selection{Sender: "~("}); err == nil {
		t.Error("a wrong expression is no error")
	}
	if r := s.report(Selection{Top: 2, List: 3}); len(r.Payers) != 2 || len(r.List) != 3 || r.List[0].ID != ids[0] || r.Messages != 6 {
		t.Errorf("bounded: %+v", r)
	}
}

// Files that are none of Exim's, or that it is writing, are counted and harm nobody.
func TestQueueOfHostileFiles(t *testing.T) {
	s := newSpool(t, 100)
	good := s.id(0, time.Hour)
	text := header(good, "a@b.example", auth, "YN z@far.example\nNN y@far.example", "z@far.example", "u@far.example")
	s.write("input", good, text)
	bad := map[string]string{
		"empty": "", "cut": text[:len(text)/2], "garbage": strings.Repeat("\xff\x00", 5000),
		"length":     header("x", "a@b.example", "-aclm _x 4294967295\nx\n", "XX", "r@far.example"),
		"negative":   header("x", "a@b.example", "-aclm _x -1\nx\n", "XX", "r@far.example"),
		"tree":       header("x", "a@b.example", auth, strings.Repeat("YY a@b.example\n", 1000), "r@far.example"),
		"count":      strings.Replace(text, "\n2\n", "\n2000000000\n", 1),
		"no sender":  strings.Replace(text, "<a@b.example>", "a@b.example", 1),
		"frozen":     header("x", "a@b.example", "-frozen soon\n", "XX", "r@far.example"),
		"long":       header("x", "a@b.example", strings.Repeat("-helo_name x\n", 1_500_000), "XX", "r@far.example"),
		"no newline": strings.Repeat("x", 2<<20),
	}
	n := 1
	for _, text := range bad {
		s.write("input", s.id(n, time.Hour), text)
		n++
	}
	secret := filepath.Join(s.dir, "secret")
	if err := os.WriteFile(secret, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	path := func() string { n++; return filepath.Join(s.dir, "input", s.id(n, time.Hour)+"-H") }
	for _, err := range []error{os.Symlink(secret, path()), unix.Mkfifo(path(), 0o644), os.Mkdir(path(), 0o755), os.Truncate(s.write("input", s.id(99, 0), "x"), 4<<30)} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"no-id", "../../x", good + "x", good[:15] + "_"} {
		s.write("input", name, text)
	}
	r := s.report(Selection{})
	if want := int64(len(bad) + 4); r.Unknown != want || r.Messages != want+1 || len(r.Payers) != 1 || r.Payers[0].Payer != "shop.example" {
		t.Errorf("%d unknown, want %d; %d messages, %+v", r.Unknown, want, r.Messages, r.Payers)
	}
	for i := 0; i < len(text); i += 5 { // as Exim writes it: nothing but the whole
		s.write("input", good, text[:i])
		s.Sweep(t.Context(), s.now, true)
		if r, _ := s.Report("mx1", s.now, Selection{ID: good, Top: 1}); r.Messages != 1 || (r.Unknown == 1) != (i < strings.Index(text, "006  X")) {
			t.Fatalf("of %d bytes: %+v", i, r)
		}
	}
}

// A sweep reads what is new or was told of, and a full one what has changed; what has left is
// gone, by the log at once.
func TestSweepReadsWhatIsNew(t *testing.T) {
	s := newSpool(t, 100)
	a, b, c := s.id(1, 3*time.Hour), s.id(2, 2*time.Hour), s.id(3, time.Hour)
	path := map[string]string{}
	write := func(id, options string) {
		path[id] = s.write("input", id, header(id, "x@y.example", auth+options, "XX", "r@far.example"))
		if err := os.Chtimes(path[id], time.Time{}, time.Now().Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
	}
	change := func(id, options string) {
		write(id, options)
		if err := os.Chtimes(path[id], time.Time{}, time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
	}
	for _, id := range []string{a, b, c} {
		write(id, "")
	}
	s.wantIDs("at first", Selection{}, a, b, c)
	frozen := Selection{Frozen: true}
	for _, id := range []string{a, b} { // since the last reading, as far as the times say
		change(id, "-frozen 1799999999\n")
	}
	s.wantIDs("nobody has told", frozen)
	s.Observe([]logline.Entry{{Kind: logline.Deferred, ID: a, Attempt: logline.Attempt{Recipient: "r@far.example"}}})
	s.wantIDs("the log has told", frozen, a)
	s.Sweep(t.Context(), s.now, true)
	s.wantIDs("a full sweep", frozen, a, b)
	s.Observe([]logline.Entry{{Kind: logline.Completed, ID: a}})
	if r, _ := s.Report("mx1", s.now, Selection{Top: 1}); r.Messages != 2 {
		t.Errorf("%d messages, one is completed", r.Messages)
	}
	if err := os.Remove(path[a]); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path[b], filepath.Join(s.dir, "moved")); err != nil {
		t.Fatal(err)
	}
	s.wantIDs("two have left", Selection{}, c)
	back := s.write("aside/input", b, header(b, "x@y.example", auth, "XX", "r@far.example"))
	if err := os.Chtimes(back, time.Time{}, time.Now().Add(-time.Hour)); err != nil { // a move does not change it
		t.Fatal(err)
	}
	s.wantIDs("one is back, in another queue", Selection{Queue: "aside"}, b)
	if err := os.Rename(filepath.Join(s.dir, "aside"), filepath.Join(s.dir, "other")); err != nil {
		t.Fatal(err)
	}
	s.wantIDs("and moved on at once", Selection{Queue: "other"}, b)
	change(c, "-frozen soon\n")
	s.Sweep(t.Context(), s.now, true)
	s.wantIDs("one is as Exim does not write it", frozen)
	change(c, "-frozen 1799999999\n")
	s.wantIDs("and is so no more, and nobody has told", frozen, c)
	if err := os.Rename(s.dir, s.dir+"-away"); err != nil {
		t.Fatal(err)
	}
	if r := s.report(Selection{}); r.Messages != 2 || r.Trouble == "" {
		t.Errorf("the spool is away: %d messages, %q", r.Messages, r.Trouble)
	}
}

// What only the log tells stays known: by which alias mail from elsewhere is sent on, and whose
// mail a bounce answers.
func TestTheLogTellsWhoseItIs(t *testing.T) {
	s := newSpool(t, 100)
	forwarded, sent, bounce, other := s.id(1, time.Hour), s.id(2, time.Hour), s.id(3, time.Minute), s.id(4, time.Minute)
	s.write("input", forwarded, header(forwarded, "bob@else.example", "-host_address [192.0.2.1]:25\n", "XX", "info@here.example"))
	full := s.id(6, time.Hour) // of a mailbox, which sends nothing on
	s.write("input", full, header(full, "bob@else.example", "-host_address [192.0.2.1]:25\n", "XX", "info@here.example"))
	exims := func(id string) { s.write("input", id, header(id, "", "-ident exim\n", "XX", "forged@away.example")) }
	exims(bounce)
	exims(other)
	s.Observe([]logline.Entry{
		{Kind: logline.Deferred, ID: forwarded, Attempt: logline.Attempt{Recipient: "me@far.example", Original: "info@here.example"}},
		{Kind: logline.Deferred, ID: full, Attempt: logline.Attempt{Recipient: "box", Original: "info@here.example"}},
		{Kind: logline.Arrived, ID: sent, Arrival: logline.Arrival{Sender: "forged@away.example", Auth: "news@shop.example"}},
		{Kind: logline.Arrived, ID: bounce, Arrival: logline.Arrival{Login: "exim", Answers: sent}},
		{Kind: logline.Completed, ID: sent},
		{Kind: logline.Arrived, ID: other, Arrival: logline.Arrival{Login: "exim", Answers: s.id(5, time.Minute)}},
	})
	for range 2 {
		s.wantIDs("the forward", Selection{Scope: "forward:info@here.example"}, forwarded)
		s.wantIDs("the bounce", Selection{Scope: "news@shop.example"}, bounce)
		s.wantIDs("another bounce", Selection{Sender: "", Bounces: true}, bounce, other)
		for _, id := range []string{forwarded, bounce} { // they are read again
			s.Observe([]logline.Entry{{Kind: logline.Deferred, ID: id, Attempt: logline.Attempt{Recipient: "x@far.example"}}})
			if err := os.Chtimes(filepath.Join(s.dir, "input", id+"-H"), time.Time{}, time.Now().Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// By the log alone a bounce is of the script whose mail it answers: the line before the arrival
// says where the program was run. What names no program, or another process, is the login's.
func TestBouncesOfAScriptByTheLog(t *testing.T) {
	s := newSpool(t, 100)
	var entries []logline.Entry
	bounceOf := func(n int, process string) string {
		sent, bounce := s.id(2*n, time.Hour), s.id(2*n+1, time.Minute)
		s.write("input", bounce, header(bounce, "", "-ident exim\n", "XX", "bob@far.example"))
		entries = append(entries, logline.Entry{Kind: logline.Arrived, ID: sent, Process: process, Arrival: logline.Arrival{Sender: "www@far.example", Login: "bob"}},
			logline.Entry{Kind: logline.Arrived, ID: bounce, Arrival: logline.Arrival{Login: "exim", Answers: sent}}, logline.Entry{Kind: logline.Completed, ID: sent})
		return bounce
	}
	ran := func(directory, process string) {
		entries = append(entries, logline.Entry{Kind: logline.Ran, Process: process, Arrival: logline.Arrival{Directory: directory}})
	}
	ran("/home/bob/wp", "")
	script := bounceOf(1, "")
	own := bounceOf(2, "")
	ran("/home/bob/blog", "11")
	ran("/home/bob/shop", "12")
	blog, other := bounceOf(3, "11"), bounceOf(4, "13")
	s.Observe(entries)
	s.wantIDs("of the script", Selection{BouncesOf: "script:/home/bob/wp"}, script)
	s.wantIDs("of the process", Selection{BouncesOf: "script:/home/bob/blog"}, blog)
	s.wantIDs("of the login", Selection{BouncesOf: "login:bob"}, own, other)
	s.wantIDs("of all", Selection{BouncesOf: "bob.example"}, script, own, blog, other)
}

// Above the maximum only the number is kept; what leaves makes room.
func TestQueueIsBounded(t *testing.T) {
	s := newSpool(t, 10)
	for i := range 25 {
		id := s.id(i, time.Hour)
		s.write("input", id, header(id, fmt.Sprintf("x%d@y.example", i), auth, "XX", "r@far.example"))
	}
	r := s.report(Selection{})
	if r.Messages != 10 || r.Uncounted != 15 {
		t.Errorf("%d known and %d more", r.Messages, r.Uncounted)
	}
	for _, m := range r.List {
		if err := os.Remove(filepath.Join(s.dir, "input", m.ID+"-H")); err != nil {
			t.Fatal(err)
		}
	}
	s.report(Selection{})
	if r := s.report(Selection{}); r.Messages != 10 || r.Uncounted != 5 {
		t.Errorf("later %d known and %d more", r.Messages, r.Uncounted)
	}
	if size := unsafe.Sizeof(key{}) + unsafe.Sizeof(message{}); size > 56 {
		t.Errorf("a message takes %d bytes", size)
	}
	for range 2000 { // names that no message has any more are forgotten
		s.names.add(fmt.Sprint(rand.Uint64()))
	}
	if r := s.report(Selection{Scope: "shop.example"}); r.Messages != 10 || len(s.names.texts) > 50 {
		t.Errorf("%d messages, %d names", r.Messages, len(s.names.texts))
	}
}

func TestKeysOfIDs(t *testing.T) {
	for _, id := range []string{"1xUzSN-0005dd-0q", "1sempe-00000001abC-0xYz", "zzzzzz-zzzzzz-zz", "zzzzzz-zzzzzzzzzzz-zzzz", "000000-000000-00", "000000-00000000000-0000"} {
		k, ok := keyOf(id)
		if !ok || k.id() != id {
			t.Errorf("%s: %v, %s", id, ok, k.id())
		}
	}
	for _, bad := range []string{"", "1xUzSN-0005dd-0", "1xUzSN-0005dd_0q", "1xUzSN-0005d.-0q", "1xUzSN_0005dd-0q", "1sempe-00000001abC-0xY", "1sempe-0000000-abC-0xYz"} {
		if _, ok := keyOf(bad); ok {
			t.Errorf("%q is a key", bad)
		}
	}
}
