package eximconfig_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/queue"
)

// Exim's queue as sluice knows it, beside what Exim's own programs say of it:
//
//	sendmail -bS, sendmail in a home ─→ Exim's spool ─┬─→ exim -bp, exiqgrep
//	                                                  └─→ sluice queue, with serve and without

// A queued is a message as exim -bp shows it.
type queued struct {
	sender string
	frozen bool
	left   []string
}

var mailqHead = regexp.MustCompile(`^ *\S+ +\S+ (\S+-\S+-\S+) <(.*?)>(?: \(.*\))?( \*\*\* frozen \*\*\*)?$`)

// mailq is what exim -bp shows, by id.
func (h *host) mailq(t testing.TB, args ...string) map[string]queued {
	t.Helper()
	all, id := map[string]queued{}, ""
	for line := range strings.Lines(h.run(t, append([]string{"exim4", "-bp"}, args...)...)) {
		line = strings.TrimSuffix(line, "\n")
		if m := mailqHead.FindStringSubmatch(line); m != nil {
			id = m[1]
			all[id] = queued{sender: m[2], frozen: m[3] != ""}
			continue
		}
		if to, left := strings.CutPrefix(line, "          "); left {
			q := all[id]
			q.left = append(q.left, to)
			all[id] = q
		}
	}
	return all
}

// queueNow is what sluice queue says.
func (h *host) queueNow(t testing.TB, args ...string) (r queue.Report) {
	t.Helper()
	out, code := h.try(t, h.sluice(t, append([]string{"queue", "--json", "--list", "--top", "100000"}, args...)...)...)
	_, text, _ := strings.Cut(out, "{\n") // in front of it: that serve does not run
	if err := json.NewDecoder(strings.NewReader("{" + text)).Decode(&r); err != nil || code == 2 {
		t.Fatalf("%v, exit %d: %s", err, code, out)
	}
	return r
}

// ids are those of a list, in order.
func ids(list []queue.Message) (all []string) {
	for _, m := range list {
		all = append(all, m.ID)
	}
	slices.Sort(all)
	return all
}

// submit has Exim queue n messages of a kind, without a delivery.
func (h *host) submit(t testing.TB, n int, kind string) {
	t.Helper()
	var batch strings.Builder
	for i := range n {
		sender := fmt.Sprintf("%s%d@here.example", kind, i%7)
		if i%5 == 0 {
			sender = ""
		}
		fmt.Fprintf(&batch, "MAIL FROM:<%s>\n", sender)
		for to := range 1 + i%3 {
			fmt.Fprintf(&batch, "RCPT TO:<\"%d %s\"@far%d.example>\nRCPT TO:<r%d%s@far%d.example>\n", to, kind, i%4, to, kind, i%4)
		}
		fmt.Fprintf(&batch, "DATA\nSubject: %s %d\nX: -aclm _x 5\n\nbody\n.\n", kind, i)
	}
	if out, code := h.root().try(t, batch.String(), "exim4", "-odq", "-bS"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
}

// split has Exim split its spool from now on.
func (h *host) split(t testing.TB) {
	t.Helper()
	h.write(t, "/etc/exim4/host_macros", h.read("/etc/exim4/host_macros")+"split_spool_directory = true\n")
}

// sameAsExim compares what sluice says of the queue with what Exim says.
func (h *host) sameAsExim(t testing.TB, r queue.Report) {
	t.Helper()
	want, got := h.mailq(t), map[string]queued{}
	for id, q := range want {
		slices.Sort(q.left)
		want[id] = queued{q.sender, q.frozen, []string{fmt.Sprint(len(q.left))}}
	}
	for _, m := range r.List {
		if m.Queue == "" {
			got[m.ID] = queued{m.Sender, m.Frozen != nil, []string{fmt.Sprint(m.Recipients)}}
		}
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(queued{})); diff != "" || r.Unknown != 0 || r.Trouble != "" {
		t.Errorf("%d unknown, %q; - exim -bp + sluice queue:\n%s", r.Unknown, r.Trouble, diff)
	}
	exiqgrep := func(args ...string) (found []string) {
		t.Helper()
		out, _ := h.try(t, append([]string{"exiqgrep", "-i"}, args...)...)
		found = strings.Fields(out)
		slices.Sort(found)
		return found
	}
	for _, c := range []struct{ exim, sluice []string }{
		{[]string{"-f", "news3@"}, []string{"--sender", "news3@"}},
		{[]string{"-f", "shop[12]@"}, []string{"--sender", "~^shop[12]@"}},
		{[]string{"-z"}, []string{"--frozen"}},
		{[]string{"-r", "r2shop@"}, []string{"--recipient", "r2shop@"}},
		{[]string{"-r", "r1.*@far3"}, []string{"--recipient", "~r1.*@far3"}},
		{[]string{"-o", "3600"}, []string{"--older", "1h"}},
	} {
		list := slices.DeleteFunc(h.queueNow(t, c.sluice...).List, func(m queue.Message) bool { return m.Queue != "" })
		if want, got := exiqgrep(c.exim...), ids(list); !slices.Equal(want, got) {
			t.Errorf("exiqgrep %q: %q; sluice queue %q: %q", c.exim, want, c.sluice, got)
		}
	}
}

// The same messages, senders, recipients and frozen ones, in a spool that is split and one that
// is not, after deliveries, in a named queue, and after a queue runner has worked meanwhile.
func TestQueueIsAsEximSays(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+"[panel]\nfollow = false\n")
	const n = 80
	h.submit(t, n, "news")
	h.split(t)
	h.submit(t, n, "shop")
	r := h.queueNow(t)
	if want := int64(2 * n); r.Messages != want || r.HeldKnown {
		t.Fatalf("%+v, want %d messages", r.Payers, want)
	}
	t.Logf("%d messages swept in %.2f s", r.Messages, r.Took)
	shares := map[string]int64{}
	for _, p := range r.Payers {
		shares[p.Payer] = p.Messages
	}
	if shares["here.example"] != int64(2*n)-int64(2*((n+4)/5)) {
		t.Errorf("by payer: %v", shares)
	}

	for i := range 3 { // they go to no*@far1 to one, and not to others
		h.sink.Refuse(fmt.Sprintf("r%dnews@far1.example", i), 451, "later")
		h.sink.Refuse(fmt.Sprintf("r%dshop@far2.example", i), 451, "later")
	}
	some := ids(r.List)[:20]
	h.run(t, append([]string{"exim4", "-Mf"}, some[:10]...)...)
	h.run(t, append([]string{"exim4", "-MG", "aside"}, some[10:]...)...)
	h.sameAsExim(t, h.queueNow(t))
	if aside := h.queueNow(t, "--queue", "aside"); !slices.Equal(ids(aside.List), some[10:]) || aside.Messages != 10 {
		t.Errorf("in the named queue: %v, want %v", ids(aside.List), some[10:])
	}

	runner := h.start(t, "exim4", "-qf")
	for working := true; working; {
		select {
		case <-runner.ended:
			working = false
		default:
		}
		if r := h.queueNow(t); r.Trouble != "" {
			t.Errorf("while a queue runner works: %s", r.Trouble)
		}
	}
	r = h.queueNow(t)
	h.sameAsExim(t, r)
	if left := r.Messages - 10; left == 0 || left >= int64(2*n) {
		t.Errorf("%d messages after the queue run", left)
	}
}

// A queue of 100,000 messages, half of it split, read as exim -bp and exiqgrep read it. How long
// all three take is said.
func TestQueueOfManyMessages(t *testing.T) {
	if !hosttest.Soak() {
		t.Skip("only in the soak")
	}
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+"[panel]\nfollow = false\n")
	h.submit(t, 100, "news")
	h.split(t)
	h.submit(t, 100, "shop")
	h.run(t, append([]string{"exim4", "-Mf"}, ids(h.queueNow(t).List)[:20]...)...)
	h.multiply(t, 500)
	slow := func(args ...string) (out string, took time.Duration) {
		t.Helper()
		began := time.Now()
		p := h.start(t, "sh", "-c", strings.Join(args, " ")+" >/run/out")
		select {
		case <-p.ended:
		case <-time.After(hosttest.Deadline(10 * time.Minute)):
			t.Fatalf("%q does not end", args)
		}
		return h.read("/run/out"), time.Since(began)
	}
	for exim, sluice := range map[string][]string{
		"exiqgrep -i -f news3@":                    {"--sender", "news3@"},
		"exiqgrep -i -z":                           {"--frozen"},
		"exim4 -bpu | awk '$4 ~ /</ { print $3 }'": nil,
	} {
		text, took := slow(exim)
		want := strings.Fields(text)
		slices.Sort(want)
		began := time.Now()
		r := h.queueNow(t, sluice...)
		if got := ids(r.List); !slices.Equal(got, want) || len(want) == 0 {
			t.Errorf("%s: %d messages, sluice queue %q: %d", exim, len(want), sluice, len(got))
		}
		t.Logf("%d messages: %s took %.1f s, sluice queue %q without serve %.1f s", len(want), exim, took.Seconds(), sluice, time.Since(began).Seconds())
	}
	sluice := h.startSluice(t, "[panel]\nfollow = false\n")
	for _, when := range []string{"at first", "again"} {
		began := time.Now()
		r := h.queueNow(t)
		t.Logf("with serve, %s: %d messages listed in %.2f s; the sweep took %.2f s", when, r.Messages, time.Since(began).Seconds(), r.Took)
		if r.Messages != 100_000 {
			t.Errorf("with serve: %d messages", r.Messages)
		}
		began = time.Now()
		h.run(t, h.sluice(t, "queue")...)
		t.Logf("and counted by who pays in %.2f s", time.Since(began).Seconds())
	}
	sluice.stop(t, "KILL")
}

// multiply copies each queued message so often that there are many times as many, under ids of
// their own.
func (h *host) multiply(t testing.TB, times int) {
	t.Helper()
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	for _, pattern := range []string{"*-H", "?/*-H"} {
		names, _ := filepath.Glob(filepath.Join(h.path("/var/spool/exim4/input"), pattern))
		for _, name := range names {
			id := strings.TrimSuffix(filepath.Base(name), "-H")
			for i := 1; i < times; i++ { // the process id has room for a number
				other := id[:7] + "z" + digits[i/62:i/62+1] + digits[i%62:i%62+1] + id[10:]
				for _, end := range []string{"-H", "-D"} {
					text, err := os.ReadFile(filepath.Dir(name) + "/" + id + end)
					if err == nil {
						err = os.WriteFile(filepath.Dir(name)+"/"+other+end, []byte(other+end+string(text[len(id+end):])), 0o640)
					}
					if err != nil {
						t.Fatal(err)
					}
				}
			}
		}
	}
	h.run(t, "chown", "-R", "Debian-exim:Debian-exim", "/var/spool/exim4/input")
}

// serve follows the queue by the log, knows what it holds, and knows all again after kill -9.
func TestServeFollowsTheQueue(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	sluice := h.startSluice(t, "[limits]\nhourly = 3\ndefer_cutoff = 10000\n[panel]\nfollow = false\n[queue]\nwarn = 3\n")
	h.startExim(t)
	for i := range 7 {
		if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-oi", "-f", "news@here.example", fmt.Sprintf("r%d@far.example", i)); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
	}
	stranger := h.dialFrom(t, "192.0.2.9")
	h.sink.Refuse("someone@far.example", 451, "later")
	for range 3 { // it comes back again and again
		stranger.Want(stranger.Send("who@else.example", "Message-ID: <loop@else.example>\n"+hosttest.Letter("x"), "forward@here.example"), 250)
	}
	hosttest.Eventually(t, "it is sent on", func() bool { return strings.Count(h.mainlog(), "== someone@far.example <forward@here.example>") == 3 })
	hosttest.Eventually(t, "what is over the limit is held", func() bool { return strings.Count(h.mainlog(), "R=sluice_hold defer") == 4 })
	const held = 4

	shows := func(when string, forward bool) {
		t.Helper()
		var r queue.Report
		hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("%s: the queue is shown, %d held: %+v", when, held, r.Payers) }, func() bool {
			r = h.queueNow(t)
			count, authors := int64(0), ""
			for _, p := range r.Payers {
				count += p.Held
				authors += fmt.Sprintf("%s=%s ", p.Payer, p.Author.Name)
			}
			return r.HeldKnown && count == held && strings.Contains(authors, "here.example=script:/run/home/alice ") &&
				(!forward || strings.Contains(authors, "forward:here.example=forward:forward@here.example"))
		})
	}
	shows("served", true)
	sluice.stop(t, "KILL")
	if log := sluice.stderr.String(); !regexp.MustCompile(`goes round in a loop.* domain=here.example address=forward@here.example how=forward to=someone@far.example times=3 message=\S+ alias=/etc/aliases:\d+ stop="sluice stop forward:forward@here.example"`).MatchString(log) {
		t.Errorf("it is not told that mail goes round: %s", log)
	}
	if log := sluice.stderr.String(); !regexp.MustCompile(`Exim's queue grows.* messages=\d week=0 author=script:/run/home/alice author_share=`).MatchString(log) {
		t.Errorf("it is not told that the queue grows, and by whom: %s", log)
	}
	h.startSluice(t, "[limits]\nhourly = 3\ndefer_cutoff = 10000\n[panel]\nfollow = false\n")
	shows("after kill -9", false)
	heldIsGone(t, h, held)
}

// heldIsGone holds a message of three recipients beside some others. Of it nothing is held, nor sent,
// that is marked as delivered, or whose files somebody removes.
func heldIsGone(t *testing.T, h *host, others int64) {
	t.Helper()
	sent := h.status(t, "here.example").Sent
	send := func(from string) (id string) {
		h.sendmail(t, alice, "", hosttest.Letter("x"), "-oi", "-f", from, "g0@far.example", "g1@far.example", "g2@far.example")
		hosttest.Eventually(t, "the queue is shown with all that is held of it", func() bool {
			list := h.queueNow(t).List
			i := slices.IndexFunc(list, func(m queue.Message) bool { return m.Sender == from })
			if i < 0 || list[i].Held != 3 {
				return false
			}
			id = list[i].ID
			return true
		})
		return id
	}
	holds := func(when string, n int64) {
		t.Helper()
		hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("%s: %d held, but %+v", when, n, h.status(t, "here.example")) }, func() bool {
			h.queueNow(t) // which looks at the spool
			return int64(h.status(t, "here.example").Held) == n
		})
	}
	id := send("marked@here.example")
	h.run(t, "exim4", "-Mmd", id, "g1@far.example")
	holds("one is marked as delivered", others+2)
	h.run(t, "exim4", "-Mmad", id)
	holds("all are marked as delivered", others)
	id = send("removed@here.example")
	h.run(t, "sh", "-c", "rm -f /var/spool/exim4/input/"+id+"-* /var/spool/exim4/input/?/"+id+"-*; ! exim4 -bp | grep "+id)
	holds("its files are removed", others)
	if now := h.status(t, "here.example").Sent; now != sent || len(h.sink.Recipients()) != 3 {
		t.Errorf("%d sends are charged, want %d; served are %v", now, sent, h.sink.Recipients())
	}
}
