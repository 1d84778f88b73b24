package eximconfig_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
)

// What else is done to Exim's queue, and how it is taken back:
//
//	sluice queue freeze, thaw, flush, remove ─→ Exim's queue ←─ sluice undo

// undoQueue takes an action back.
func (h *host) undoQueue(t testing.TB, wantCode, action int) string {
	t.Helper()
	out, code := h.try(t, h.sluice(t, "undo", fmt.Sprint(action))...)
	if code != wantCode {
		t.Fatalf("sluice undo %d: exit %d, want %d: %s", action, code, wantCode, out)
	}
	return out
}

// frozen are the ids of the frozen messages.
func (h *host) frozen(t testing.TB) []string {
	t.Helper()
	return ids(h.queueNow(t, "--frozen").List)
}

func TestQueueActsAndUndo(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig+"[queue]\nmax = 1\n") // for serve only
	h.letters(t, "spam", 4)
	all := ids(h.queueNow(t).List)
	h.run(t, "exim4", "-Mf", all[0])

	if out, code := h.try(t, h.sluice(t, "queue", "freeze", "--sender", "spam", "--dry-run")...); code != 0 || !strings.Contains(out, "after 1w Exim bounces or removes them") {
		t.Errorf("a dry run: exit %d: %s", code, out)
	}
	if out, code := h.try(t, h.sluice(t, "queue", "freeze", "--sender", "spam")...); code != 2 || !strings.Contains(out, "--yes") {
		t.Errorf("nobody has answered: exit %d: %s", code, out)
	}
	if out, code := h.root().try(t, "n\n", h.sluice(t, "queue", "freeze", "--sender", "spam")...); code != 1 {
		t.Errorf("the answer is no: exit %d: %s", code, out)
	}
	if out, code := h.try(t, h.sluice(t, "queue", "freeze", "--sender", "spam", "--max", "2", "--yes")...); code != 1 || !strings.Contains(out, "3 messages") {
		t.Errorf("more than --max: exit %d: %s", code, out)
	}
	if out, code := h.try(t, h.sluice(t, "queue", "remove", "--yes")...); code != 2 {
		t.Errorf("nothing is selected: exit %d: %s", code, out)
	}
	if out, code := h.try(t, h.sluice(t, "queue", "freeze", "--sender", "spam", "--max", "0", "--yes")...); code != 1 || !strings.Contains(out, "more than --max 0") {
		t.Errorf("more than none: exit %d: %s", code, out)
	}
	if out, code := h.try(t, h.sluice(t, "queue", "freeze", "--sender=", "--younger", "1d", "--yes")...); code != 2 || !strings.Contains(out, "it is empty") {
		t.Errorf("an empty selector: exit %d: %s", code, out)
	}
	if out, code := h.try(t, h.sluice(t, "queue", "freeze", "--id", all[0], "--yes")...); code != 1 || !strings.Contains(out, "no message is like that but 1 that are frozen") {
		t.Errorf("it is frozen: exit %d: %s", code, out)
	}
	if got := h.frozen(t); !slices.Equal(got, all[:1]) {
		t.Fatalf("frozen: %q", got)
	}

	frozen := h.queueAct(t, 0, "freeze", "--sender", "spam")
	if got := h.frozen(t); len(frozen.Done) != 3 || len(got) != 4 {
		t.Errorf("%+v; frozen: %q", frozen, got)
	}
	h.undoQueue(t, 0, frozen.Action)
	if got := h.frozen(t); !slices.Equal(got, all[:1]) {
		t.Errorf("frozen after undo: %q, want what was before", got)
	}
	thawed := h.queueAct(t, 0, "thaw", "--sender", "spam")
	h.undoQueue(t, 0, thawed.Action)
	if got := h.frozen(t); len(thawed.Done) != 1 || !slices.Equal(got, all[:1]) {
		t.Errorf("%+v; frozen after undo: %q", thawed, got)
	}

	for i := range 4 {
		h.sink.Refuse(fmt.Sprintf("spam%d@far.example", i), 451, "later")
	}
	h.sink.Accept("spam3@far.example")
	if a := h.queueAct(t, 1, "flush", "--to", "far.example"); len(a.Done) != 1 || len(a.Left) != 2 {
		t.Errorf("flush: %+v, want one delivered, two waiting, and what is frozen left out", a)
	}
	h.onceEach(t, "spam", 1)

	removed := h.queueAct(t, 0, "remove", "--sender", "spam")
	if removed.Selected != 3 || len(h.queue()) != 0 {
		t.Errorf("%+v", removed)
	}
	if out, code := h.try(t, h.sluice(t, "queue", "flush", "--quarantined", "--frozen", "--yes")...); code != 1 || !strings.Contains(out, "in the quarantine") {
		t.Errorf("what is in the quarantine is delivered: exit %d: %s", code, out)
	}
	h.run(t, "exim4", "-qG"+logline.QuarantineQueue, "-Mrm", removed.Done[0].ID)
	if out := h.undoQueue(t, 0, removed.Action); !strings.Contains(out, "1 were delivered, removed or changed by others since") || len(h.queue()) != 2 {
		t.Errorf("undone: %s; %d in the queue", out, len(h.queue()))
	}
	h.undoQueue(t, 1, removed.Action)
	earlier := h.queueAct(t, 0, "quarantine", "--sender", "spam")
	h.queueAct(t, 0, "restore", "--quarantined")
	again := h.queueAct(t, 0, "quarantine", "--sender", "spam", "--why", "police")
	if out := h.undoQueue(t, 1, earlier.Action); !strings.Contains(out, fmt.Sprintf("2 stay, for the same was done to them again, by action %d", again.Action)) || len(h.queue()) != 0 {
		t.Errorf("what a later action has set aside was taken back by an earlier one: %s", out)
	}
	if a := h.queueAct(t, 0, "remove", "--quarantined", "--id", again.Done[0].ID); len(a.Done) != 1 {
		t.Errorf("from the quarantine: %+v", a)
	}
	gone := h.queueAct(t, 0, "remove", "--id", again.Done[1].ID, "--now")
	h.undoQueue(t, 2, gone.Action)
	if out := h.undoQueue(t, 1, again.Action); !strings.Contains(out, "changed since") || len(h.spoolFiles(t, logline.QuarantineQueue)) != 0 {
		t.Errorf("nothing is left to restore: %s", out)
	}
}

// What others have moved into the quarantine is named, and not restored to where it may not belong;
// whose mail bounces answer is known from the log, without serve.
func TestQuarantineOfBounces(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig)
	h.write(t, "/etc/exim4/sinks", "away.example: 127.0.0.1::1\n"+h.read("/etc/exim4/sinks"))
	h.sink.Refuse("gone@far.example", 550, "no such user")
	if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-odi", "-f", "news@away.example", "gone@far.example"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	const author = "login:alice" // the log does not say where a program ran
	hosttest.Eventually(t, "it has bounced", func() bool { return h.queueNow(t, "--bounces").Messages == 1 })
	bounce := h.queueNow(t, "--bounces").List[0]
	if r := h.queueNow(t, "--bounces-of", author); r.Messages != 1 || r.List[0].ID != bounce.ID {
		t.Errorf("bounces of %s: %+v; the bounce is %+v", author, r.List, bounce)
	}
	a := h.queueAct(t, 0, "quarantine", author, "--bounces")
	if len(a.Done) != 1 {
		t.Errorf("%+v", a)
	}
	h.bouncesOfAScript(t)
	h.letters(t, "byhand", 1)
	byHand := ids(h.queueNow(t, "--sender", "byhand").List)
	h.run(t, "exim4", "-MG", logline.QuarantineQueue, byHand[0])
	if a := h.queueAct(t, 1, "restore", "--quarantined"); len(a.Done) != 2 || !slices.Equal(a.Unrecorded, byHand) {
		t.Errorf("restored: %+v, want %q unrecorded", a, byHand)
	}
	if out, code := h.try(t, h.sluice(t, "queue", "restore", "--quarantined", "--yes")...); code != 1 || !strings.Contains(out, "-MG '' ID") {
		t.Errorf("only what is on no record: exit %d: %s", code, out)
	}
}

// bouncesOfAScript has a script of alice's send to nobody where Exim logs where it was run.
func (h *host) bouncesOfAScript(t *testing.T) {
	t.Helper()
	h.addMacros(t, "MAIN_LOG_SELECTOR = +arguments +pid")
	if out, code := h.sendmail(t, alice, "public_html/wp", hosttest.Letter("x"), "-odi", "-f", "news@away.example", "gone@far.example"); code != 0 {
		t.Fatalf("exit %d\n%s", code, out)
	}
	const author = "script:/run/home/alice/public_html/wp"
	hosttest.Eventually(t, "it has bounced", func() bool { return h.queueNow(t, "--bounces").Messages == 1 })
	if r := h.queueNow(t, "--bounces-of", author); r.Messages != 1 || r.List[0].Author != author {
		t.Errorf("bounces of %s: %+v, of all %+v", author, r.List, h.queueNow(t, "--bounces").List)
	}
	if a := h.queueAct(t, 0, "quarantine", author, "--bounces"); len(a.Done) != 1 {
		t.Errorf("%+v", a)
	}
}

// What serve holds is not held in the quarantine, and held again when it comes back; flush leaves it
// out. Status and the queue tell what is in the quarantine.
func TestQuarantineOfHeldMail(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 1\ndefer_cutoff = 10000\n[panel]\nfollow = false\n")
	for i := range 3 {
		if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-oi", "-f", "news@here.example", fmt.Sprintf("r%d@far.example", i)); code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
	}
	status := func(what string, held, quarantined int64) {
		t.Helper()
		var s operator.Status
		hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("%s: %d held, %+v", what, s.Totals.Held, s.Quarantine) }, func() bool {
			shown := h.queueNow(t, "--held").Messages
			if err := json.Unmarshal([]byte(h.run(t, h.sluice(t, "status", "--json")...)), &s); err != nil {
				t.Fatal(err)
			}
			return shown == held && s.Totals.Held == held && s.Quarantine != nil && s.Quarantine.Messages == quarantined
		})
	}
	status("at first", 2, 0)
	if out, code := h.try(t, h.sluice(t, "queue", "flush", "--younger", "1d")...); code != 1 || !strings.Contains(out, "no message is like that") {
		t.Errorf("flush: exit %d: %s", code, out)
	}
	a := h.queueAct(t, 0, "quarantine", "--held")
	if len(a.Done) != 2 {
		t.Errorf("%+v", a)
	}
	status("quarantined", 0, 2)
	h.undoQueue(t, 0, a.Action)
	status("restored", 2, 0)
	h.queueRun(t, "-q")
	if n := h.sink.Count(); n != 1 {
		t.Errorf("%d were delivered, want 1", n)
	}
}

// Whoever flushes is told what Exim's queue runner does by itself, where one runs.
func TestFlushSaysWhatTheQueueRunnerDoes(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	h.write(t, "/run/sluice.toml", fmt.Sprintf(sluiceConfig, "")+quarantineConfig)
	h.sink.Refuse("spam0@far.example", 451, "later") // so that the runner's first run leaves it
	h.letters(t, "spam", 1)
	dry := func() string {
		t.Helper()
		out, code := h.try(t, h.sluice(t, "queue", "flush", "--sender", "spam", "--dry-run")...)
		if code != 0 {
			t.Fatalf("exit %d: %s", code, out)
		}
		return out
	}
	if out := dry(); strings.Contains(out, "by itself") {
		t.Errorf("nobody runs the queue: %s", out)
	}
	h.run(t, "exim4", "-q17m")
	if out := dry(); !strings.Contains(out, "Exim tries by itself, every 17m, what is due") {
		t.Errorf("a daemon runs the queue every 17 minutes: %s", out)
	}
}
