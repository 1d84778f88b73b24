package eximconfig_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/action"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
	"sluice/sidecar/quarantine"
)

// The quarantine, without serve:
//
//	sendmail -bS ─→ Exim's queues ─ sluice queue quarantine ─→ sluice-quarantine ─ restore ─→ where it was
//	                     └─ queue runners ─→ sink

const quarantineConfig = "[panel]\nfollow = false\n"

// An actedOn is what a command that acts prints with --json.
type actedOn struct {
	Action   int `json:"action"`
	Selected int `json:"selected"`
	quarantine.Result
	Unrecorded []string `json:"unrecorded"`
}

// queueAct runs a command that acts, without a question.
func (h *host) queueAct(t testing.TB, wantCode int, args ...string) (a actedOn) {
	t.Helper()
	out, code := h.try(t, h.sluice(t, append(append([]string{"queue"}, args...), "--yes", "--json")...)...)
	i := strings.Index(out, "{\n")
	if code != wantCode || i < 0 {
		t.Fatalf("sluice queue %q: exit %d, want %d:\n%s", args, code, wantCode, out)
	}
	if err := json.NewDecoder(strings.NewReader(out[i:])).Decode(&a); err != nil {
		t.Fatalf("sluice queue %q: %v:\n%s", args, err, out)
	}
	return a
}

// letters has Exim queue a message from each of n senders of a kind, to a recipient of its own.
func (h *host) letters(t testing.TB, kind string, n int) {
	t.Helper()
	var batch strings.Builder
	for i := range n {
		fmt.Fprintf(&batch, "MAIL FROM:<%s%d@here.example>\nRCPT TO:<%s%d@far.example>\nDATA\nSubject: %s %d\n\nbody %d\n.\n", kind, i, kind, i, kind, i, i)
		if i%500 != 499 && i != n-1 {
			continue
		}
		if out, code := h.root().try(t, batch.String(), "exim4", "-odq", "-bS"); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
		batch.Reset()
	}
}

// spoolFiles are the files of the messages in a queue, by name, with what is in them.
func (h *host) spoolFiles(t testing.TB, queue string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, pattern := range []string{"*-[HDJ]", "?/*-[HDJ]"} {
		names, _ := filepath.Glob(filepath.Join(h.path("/var/spool/exim4"), queue, "input", pattern))
		for _, name := range names {
			text, err := os.ReadFile(name)
			if os.IsNotExist(err) { // Exim has just done with it
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			all[filepath.Base(name)] = string(text)
		}
	}
	return all
}

// served is how often each recipient of a kind was served.
func (h *host) served(kind string) map[string]int {
	all := map[string]int{}
	for _, to := range h.sink.Recipients() {
		if strings.HasPrefix(to, kind) {
			all[to]++
		}
	}
	return all
}

// onceEach waits until each of n recipients of a kind was served, and fails the test unless that was
// once, and nobody else was.
func (h *host) onceEach(t testing.TB, kind string, n int) {
	t.Helper()
	hosttest.EventuallyOr(t, func() string {
		return fmt.Sprintf("%d recipients of %s were served, want %d", len(h.served(kind)), kind, n)
	}, func() bool { return len(h.served(kind)) >= n })
	served := h.served(kind)
	for to, times := range served {
		if times != 1 {
			t.Errorf("%s was served %d times", to, times)
		}
	}
	if len(served) != n {
		t.Errorf("%d recipients of %s were served, want %d", len(served), kind, n)
	}
}

// What is restored has the same bytes in the same queue, split or not, and is recorded.
func TestQuarantineAndRestore(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig)
	h.letters(t, "spam", 6)
	h.letters(t, "good", 3)
	h.split(t)
	h.letters(t, "spam", 6)
	some := ids(h.queueNow(t, "--sender", "spam").List)
	h.run(t, append([]string{"exim4", "-MG", "aside"}, some[4:8]...)...)
	h.run(t, append([]string{"exim4", "-Mf"}, some[:2]...)...)
	main, aside := h.spoolFiles(t, ""), h.spoolFiles(t, "aside")

	a := h.queueAct(t, 0, "quarantine", "--sender", "spam", "--why", "a test")
	if a.Selected != 12 || len(a.Done) != 12 {
		t.Errorf("%+v", a)
	}
	if n := len(h.spoolFiles(t, logline.QuarantineQueue)); n != 24 {
		t.Errorf("%d files in the quarantine, want 24", n)
	}
	if r := h.queueNow(t); r.Messages != 3 || r.Quarantine.Messages != 12 {
		t.Errorf("%d messages are shown, and %d in the quarantine", r.Messages, r.Quarantine.Messages)
	}
	h.queueRun(t, "-qff")
	h.onceEach(t, "good", 3)
	h.onceEach(t, "spam", 0)

	if n := h.queueAct(t, 0, "restore", "--quarantined"); len(n.Done) != 12 {
		t.Errorf("%+v", n)
	}
	maps.DeleteFunc(main, func(_, text string) bool { return strings.Contains(text, "good") || strings.Contains(text, "body") })
	maps.DeleteFunc(aside, func(_, text string) bool { return strings.Contains(text, "body") })
	for queue, want := range map[string]map[string]string{"": main, "aside": aside} {
		got := h.spoolFiles(t, queue)
		maps.DeleteFunc(got, func(_, text string) bool { return strings.Contains(text, "body") })
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("in queue %q, - before + after:\n%s", queue, diff)
		}
	}
}

// What Exim delivers just then is tried again, and named if that goes on.
func TestQuarantineOfWhatIsBeingDelivered(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig)
	hangs, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hangs.Close() })
	connected := make(chan net.Conn, 1)
	go func() {
		if c, err := hangs.Accept(); err == nil {
			connected <- c
		}
	}()
	h.letters(t, "spam", 3)
	busy := ids(h.queueNow(t, "--sender", "spam0@").List)
	h.write(t, "/etc/exim4/sinks", "far.example: "+route(hangs.Addr().(*net.TCPAddr).Port)+"\n"+h.read("/etc/exim4/sinks"))
	h.start(t, "exim4", "-M", busy[0])
	var c net.Conn
	select {
	case c = <-connected:
	case <-time.After(hosttest.Patience()):
		t.Fatal("Exim does not deliver")
	}

	a := h.queueAct(t, 1, "quarantine", "--sender", "spam", "--follow", "1s")
	if len(a.Done) != 2 || !slices.Equal(a.Left, busy) || !strings.Contains(a.Said, "locked") {
		t.Errorf("%+v, want %q left", a, busy)
	}
	go func() {
		time.Sleep(time.Second) // so that it is tried before; nothing is wrong if it is not
		c.Close()
	}()
	if a = h.queueAct(t, 0, "quarantine", "--sender", "spam", "--follow", fmt.Sprint(hosttest.Deadline(30*time.Second).Round(time.Second))); len(a.Done) != 1 {
		t.Errorf("once it is not delivered any more: %+v", a)
	}
	h.onceEach(t, "spam", 0)
}

// No message is lost or delivered twice while queue runners work. 10,000 of them in the soak.
func TestQuarantineWhileQueueRunnersWork(t *testing.T) {
	t.Parallel()
	n, good := 80, 40
	if hosttest.Soak() {
		n, good = 10_000, 500
	}
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig)
	h.split(t)
	h.letters(t, "spam", n)
	h.letters(t, "good", good)
	h.queueNow(t) // the program is built
	run := func() (wait func()) {
		runners := []*process{h.start(t, "exim4", "-qf"), h.start(t, "exim4", "-qf")}
		return func() {
			for _, r := range runners {
				select {
				case <-r.ended:
				case <-time.After(hosttest.Deadline(10 * time.Minute)):
					t.Fatal("a queue runner does not end")
				}
			}
		}
	}
	wait := run()
	began := time.Now()
	a := h.queueAct(t, 0, "quarantine", "--sender", "spam", "--follow", "60s")
	t.Logf("%d of %d messages quarantined in %.1f s; %d were delivered before", len(a.Done), n, time.Since(began).Seconds(), len(a.Gone)+n-a.Selected)
	if hosttest.Soak() {
		hosttest.NotLonger(t, "the quarantine", time.Since(began), time.Minute)
	}
	wait()
	h.onceEach(t, "good", good)
	h.onceEach(t, "spam", n-len(a.Done))
	if len(a.Done) == 0 || len(h.queue()) > 0 {
		t.Errorf("%d quarantined, and %d left", len(a.Done), len(h.queue()))
	}

	before := h.spoolFiles(t, logline.QuarantineQueue)
	wait = run()
	began = time.Now()
	a = h.queueAct(t, 0, "restore", "--sender", "spam", "--follow", "60s")
	t.Logf("%d restored in %.1f s", len(a.Done), time.Since(began).Seconds())
	wait()
	run()() // what came back behind the runners
	hosttest.Eventually(t, "all are delivered", func() bool { return len(h.sink.Recipients()) >= n+good })
	h.onceEach(t, "spam", n)
	if len(before) != 2*len(a.Done) {
		t.Errorf("%d files, of %d messages restored", len(before), len(a.Done))
	}
}

// aged gives a queued message an id and a header as if it had come earlier, and returns the id.
func (h *host) aged(t testing.TB, id string, age time.Duration) string {
	t.Helper()
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	arrived := time.Now().Add(-age).Unix()
	name := []byte(id)
	for i, n := 5, arrived; i >= 0; i, n = i-1, n/62 {
		name[i] = digits[n%62]
	}
	for _, end := range []string{"-H", "-D"} {
		from := filepath.Join(h.path("/var/spool/exim4/input"), id+end)
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.SplitN(string(text), "\n", 5)
		lines[0] = string(name) + end
		if end == "-H" {
			lines[3] = fmt.Sprintf("%d 0", arrived)
			lines[4] = regexp.MustCompile(`-received_time_complete \d+`).ReplaceAllString(lines[4], fmt.Sprint("-received_time_complete ", arrived))
		}
		h.write(t, "/var/spool/exim4/input/"+string(name)+end, strings.Join(lines, "\n"))
		os.Remove(from)
	}
	h.run(t, "chown", "-R", "Debian-exim:Debian-exim", "/var/spool/exim4/input")
	return string(name)
}

// A message that is older than the site's retry rule when it is restored waits at a 451, where
// it would have bounced, until it is delivered. Its sender is then tried no longer than others.
func TestRestoredLate(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig)
	h.letters(t, "old", 3) // Debian's rule ends after 4 days
	byHand := ""
	for sender, days := range map[string]time.Duration{"old0": 5, "old1": 2, "old2": 5} {
		id := h.aged(t, h.queueNow(t, "--sender", sender).List[0].ID, days*24*time.Hour)
		if sender == "old2" {
			byHand = id
		}
		h.sink.Refuse(sender+"@far.example", 451, "later")
	}
	h.queueAct(t, 0, "quarantine", "--sender", "old")
	if a := h.queueAct(t, 0, "restore", "--sender", "~^old[01]"); a.Late != 1 || len(a.Done) != 2 {
		t.Errorf("%+v, want one that is late", a)
	}
	h.run(t, "exim4", "-qG"+logline.QuarantineQueue, "-MG", "", byHand)
	h.queueRun(t, "-qff")
	const bounced = "retry timeout exceeded"
	if log := h.mainlog(); !strings.Contains(log, byHand+" ** old2@far.example: "+bounced) || strings.Count(log, bounced) != 1 {
		t.Error("want one bounce, of what nobody has said is late")
	}
	info, err := os.Stat(h.path(quarantine.LatePath))
	if text := h.read(quarantine.LatePath); err != nil || info.Mode().Perm() != 0o640 || !strings.HasPrefix(text, "\"old0@here.example\":\n ") || strings.Contains(text, "old1") {
		t.Errorf("%s: %v, %v: %q", quarantine.LatePath, info.Mode(), err, text)
	}
	for i := range 2 {
		h.sink.Accept(fmt.Sprintf("old%d@far.example", i))
	}
	h.queueRun(t, "-qff")
	h.onceEach(t, "old", 2)
	h.letters(t, "new", 1)
	h.queueAct(t, 0, "quarantine", "--sender", "new")
	if text := h.read(quarantine.LatePath); text != "" {
		t.Errorf("when they have left the queue: %q", text)
	}
}

// A message of which Exim was interrupted moving it is in both queues. It is delivered once, and
// that one was removed is on record. Nothing is looked for while another command moves messages.
func TestMessageInTwoQueues(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig)
	h.letters(t, "spam", 2)
	half := ids(h.queueNow(t).List)[0]
	h.queueAct(t, 0, "quarantine", "--sender", "spam") // makes the directories
	link := func(from, to string) {
		t.Helper()
		for _, end := range []string{"-D", "-H"} {
			dir := h.path("/var/spool/exim4")
			if err := os.Link(filepath.Join(dir, from, "input", half+end), filepath.Join(dir, to, "input", half+end)); err != nil {
				t.Fatal(err)
			}
		}
	}
	link(logline.QuarantineQueue, "")
	record, err := action.Open(h.path(action.Dir))
	if err != nil {
		t.Fatal(err)
	}
	end, err := record.Begin("acting on Exim's queue")
	if err != nil {
		t.Fatal(err)
	}
	p := h.start(t, "sh", "-c", "exec "+strings.Join(h.sluice(t, "queue", "quarantine", "--id", half, "--yes"), " ")+" 2>/run/said")
	hosttest.Eventually(t, "it waits", func() bool { return strings.Contains(h.read("/run/said"), "waiting until another command") })
	p.stop(t, "INT")
	if out := h.read("/run/said"); !strings.Contains(out, "wait for others to end acting on Exim's queue") {
		t.Errorf("broken off: %s", out)
	}
	end()
	if a := h.queueAct(t, 0, "quarantine", "--id", half); !slices.Equal(a.Twice, []string{half}) || len(a.Done) != 1 {
		t.Errorf("quarantined: %+v", a)
	}
	h.queueRun(t, "-qff")
	h.onceEach(t, "spam", 0)
	link(logline.QuarantineQueue, "")
	if a := h.queueAct(t, 0, "restore", "--quarantined"); !slices.Equal(a.Twice, []string{half}) || len(a.Done) != 1 {
		t.Errorf("restored: %+v", a)
	}
	h.queueRun(t, "-qff")
	h.onceEach(t, "spam", 2)
	actions, err := record.Actions()
	mended := slices.DeleteFunc(actions, func(a action.Action) bool { return a.Verb != quarantine.Mend })
	if err != nil || len(mended) != 2 || !strings.Contains(string(mended[0].Did.Values), `"twice":["`+half+`"]`) {
		t.Errorf("on record: %+v, %v", mended, err)
	}
}
