package queue

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/sidecar/event"
	"sluice/sidecar/logline"
)

// A loopLog has Loops read a log, and keeps what they tell.
type loopLog struct {
	*Loops
	spool *spool // makes ids
	at    time.Time
	n     int
	told  []string
}

func newLoopLog(t *testing.T, aliases ...string) *loopLog {
	l := &loopLog{spool: newSpool(t, 1), at: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	l.Loops = NewLoops(event.Func(func(e event.Event) {
		text := e.Domain
		for _, a := range e.Attrs {
			if a.Key != "message" {
				text += " " + a.String()
			}
		}
		l.told = append(l.told, text)
	}), func(domain string) bool { return domain == "here.example" }, aliases)
	return l
}

// passes logs a message that comes, and what becomes of its recipients: "to", or "to <original>".
func (l *loopLog) passes(sender, messageID string, outcomes ...string) {
	l.n++
	id := l.spool.id(l.n, 0)
	entries := []logline.Entry{{Kind: logline.Arrived, ID: id, At: l.at, Arrival: logline.Arrival{Sender: sender, MessageID: messageID}}}
	for _, o := range outcomes {
		to, original, _ := strings.Cut(o, " ")
		entries = append(entries, logline.Entry{Kind: logline.Delivered, ID: id, At: l.at,
			Attempt: logline.Attempt{Recipient: to, Original: strings.Trim(original, "<>")}})
	}
	l.Observe(entries)
}

func (l *loopLog) want(t *testing.T, what string, want ...string) {
	t.Helper()
	if strings.Join(l.told, "\n") != strings.Join(want, "\n") {
		t.Errorf("%s: told %q, want %q", what, l.told, want)
	}
	l.told = nil
}

// The same message by the same address three times in ten minutes is a loop; other messages, and
// one to many addresses, are none.
func TestSameForwardIsALoop(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"here.example": "# x\n*: :fail:\nInfo: me@far.example\n", "aliases": "other: x@y.example\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := unix.Mkfifo(filepath.Join(dir, "fifo"), 0o644); err != nil {
		t.Fatal(err)
	}
	files := []string{dir + "/fifo", dir + "/DOMAIN", dir + "/aliases"}
	const by = "me@far.example <info@here.example>"
	l := newLoopLog(t, files...)
	for i := range 30 {
		to := fmt.Sprintf("u%d@far.example <a%d@here.example>", i, i)
		l.passes("s@else.example", "<letter@else.example>", to, "x"+to, "y"+to) // one letter to many
		l.passes("s@else.example", fmt.Sprintf("<%d@else.example>", i), by)
		l.passes("s@else.example", "", by)
		l.passes("s@else.example", "<held@else.example>", "id-hash@hold.sluice.invalid <info@here.example>")
		for _, into := range []string{"box", "INFO@Here.example", "bob@here.example", ""} { // its mailbox, another's, and a file or program
			l.passes("s@else.example", "<into@else.example>", into+" <info@here.example>")
		}
		l.passes("s@here.example", "<same@here.example>", "friend@far.example", "friend@far.example <u@elsewhere.example>")
	}
	l.want(t, "no loop")
	told := "here.example address=info@here.example how=forward to=me@far.example times=3 alias=" + dir + "/here.example:3 stop=sluice stop forward:info@here.example"
	for i, c := range []struct {
		after time.Duration
		want  []string
	}{{0, nil}, {4 * time.Minute, nil}, {6 * time.Minute, []string{told}}, {time.Minute, nil}, {2 * time.Minute, nil}, {8 * time.Minute, []string{told}}} {
		l.at = l.at.Add(c.after)
		l.passes("s@else.example", "<loop@else.example>", by, "more@far.example <info@here.example>")
		l.want(t, fmt.Sprintf("pass %d", i+1), c.want...)
	}
	l = newLoopLog(t, files...)
	for range 5 { // too slow
		l.at = l.at.Add(301 * time.Second)
		l.passes("s@else.example", "<loop@else.example>", by)
	}
	l.want(t, "slow")
	for range 3 {
		l.passes("s@else.example", "<2>", "x@y.example <$(reboot)@here.example>")
	}
	l.want(t, "an odd name", "here.example address=$(reboot)@here.example how=forward to=x@y.example times=3 alias="+dir+"/here.example:2 stop=sluice stop 'forward:$(reboot)@here.example'")
	for range 3 {
		l.passes("s@else.example", "<3>", "x@y.example <\u202egro@here.example>")
	}
	l.want(t, "a name that stands in no command", "here.example address=\u202egro@here.example how=forward to=x@y.example times=3 alias="+dir+"/here.example:2")
}

// Two who answer each other ten times each in ten minutes.
func TestAnswersToAnswersAreALoop(t *testing.T) {
	l := newLoopLog(t)
	turns := func(n int, a, b string) {
		for range n {
			l.passes(a, "", b)
			l.passes(b, "", a)
			l.at = l.at.Add(20 * time.Second)
		}
	}
	turns(9, "info@here.example", "robot@far.example")
	for range 30 { // one who only sends
		l.passes("news@here.example", "", "list@far.example")
		l.passes("", "", "news@here.example")
		l.passes("self@here.example", "", "self@here.example")
	}
	for _, pair := range [][2]string{{"one@here.example", "two@far.example"}, {"two@far.example", "one@here.example"}} { // tried again and again
		l.passes(pair[0], "", strings.Fields(strings.Repeat(pair[1]+" ", 15))...)
	}
	l.want(t, "no loop")
	turns(1, "info@here.example", "robot@far.example")
	l.want(t, "the tenth", "here.example address=info@here.example how=answers to=robot@far.example times=20")
	turns(5, "info@here.example", "robot@far.example")
	l.want(t, "told already")
	l.at = l.at.Add(time.Hour)
	for range 12 { // people who are quick
		turns(1, "bob@here.example", "eve@far.example")
		l.at = l.at.Add(time.Minute)
	}
	l.want(t, "slowly")
}

// What a server says of too many hops.
func TestTooManyHopsAreALoop(t *testing.T) {
	l := newLoopLog(t)
	fails := func(kind logline.Kind, to, original, text string) {
		l.n++
		l.Observe([]logline.Entry{{Kind: kind, ID: l.spool.id(l.n, 0), At: l.at, Attempt: logline.Attempt{Recipient: to, Original: original, Text: text}}})
	}
	fails(logline.Failed, "me@far.example", "info@here.example", `SMTP error from remote mail server after end of data: 550 Too many "Received" headers - suspected mail loop`)
	l.want(t, "Exim's", "here.example address=info@here.example how=headers to=me@far.example times=1 stop=sluice stop forward:info@here.example")
	fails(logline.Deferred, "me@far.example", "", "554 5.4.14 Hop count exceeded - possible mail loop")
	l.want(t, "others'", "far.example address=me@far.example how=headers to=me@far.example times=1")
	fails(logline.Failed, "you@far.example", "", "550 no such user")
	l.want(t, "no loop")
}

// What is remembered is bounded, whatever the log says.
func TestLoopsAreBounded(t *testing.T) {
	l := newLoopLog(t)
	for i := range maxSeen + 10 {
		l.passes(fmt.Sprintf("a%d@x.example", i), fmt.Sprint(i), "b@far.example <c@here.example>")
	}
	if n := len(l.now.arrivals); n > maxSeen || len(l.before.arrivals) > maxSeen || n < 5 {
		t.Errorf("%d and %d arrivals are remembered", n, len(l.before.arrivals))
	}
}

// What is kept of an arrival goes when its message has left, also when it came minutes before.
func TestLoopsForgetWhatHasLeft(t *testing.T) {
	l := newLoopLog(t)
	arrive := func() string {
		l.passes("news@here.example", "<m@here.example>", "a@far.example")
		return l.spool.id(l.n, 0)
	}
	old := arrive()
	l.at = l.at.Add(loopWindow)
	for _, id := range []string{arrive(), old} {
		l.Observe([]logline.Entry{{Kind: logline.Completed, ID: id, At: l.at}})
	}
	if n := len(l.now.arrivals) + len(l.before.arrivals); n != 0 {
		t.Errorf("%d arrivals are kept", n)
	}
}
