package eximconfig_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
	"sluice/sidecar/logline"
)

// A stolen mailbox is cleaned up after, and that is taken back:
//
//	eve@flood.example ─ kept connections ─┐               ┌─→ stopped, its mail and bounces in the quarantine
//	ann@flood.example ────────────────────┴─→ Exim ─ sluice ─→ delivered throughout

// A cleanUp is what sluice clean prints with --json.
type cleanUp struct {
	Author string   `json:"author"`
	Action int      `json:"action"`
	Undo   string   `json:"undo"`
	Left   []string `json:"left"`
	Steps  []struct {
		Name    string `json:"name"`
		Text    string `json:"text"`
		Actions []int  `json:"actions"`
		Failed  string `json:"failed"`
		Nothing string `json:"nothing"`
	} `json:"steps"`
}

// clean cleans up without a question.
func (h *host) clean(t testing.TB, wantCode int, args ...string) (c cleanUp) {
	t.Helper()
	out, code := h.try(t, h.sluice(t, append(append([]string{"clean"}, args...), "--yes", "--json")...)...)
	i := strings.Index(out, "{\n")
	if code != wantCode || i < 0 {
		t.Fatalf("sluice clean %q: exit %d, want %d:\n%s", args, code, wantCode, out)
	}
	if err := json.NewDecoder(strings.NewReader(out[i:])).Decode(&c); err != nil {
		t.Fatalf("sluice clean %q: %v:\n%s", args, err, out)
	}
	return c
}

// did returns what a step of a clean says that it did.
func (c *cleanUp) did(step string) string {
	for _, s := range c.Steps {
		if s.Name == step {
			return s.Text + s.Failed
		}
	}
	return ""
}

// incidentOf waits until there is an incident of a domain of which somebody is the culprit.
func (h *host) incidentOf(t testing.TB, domain, culprit string) (i incident.Incident) {
	t.Helper()
	hosttest.Eventually(t, "an incident of "+domain+" that names "+culprit, func() bool {
		var l struct {
			Incidents []incident.Incident `json:"incidents"`
		}
		out, code := h.try(t, h.sluice(t, "incident", domain, "--json")...)
		if code != 0 || json.Unmarshal([]byte(out), &l) != nil || len(l.Incidents) == 0 {
			return false
		}
		i = l.Incidents[0]
		return i.Culprit.Author == culprit
	})
	return i
}

// stolen has a mailbox send over kept connections, by which its domain is refused, while a
// colleague's mail waits in the queue.
func (h *host) stolen(t *testing.T) (kept []*hosttest.Client) {
	t.Helper()
	h.sink.Refuse("slow@far.example", 451, "4.3.0 later")
	h.sink.Refuse("victim@far.example", 451, "4.3.0 later")
	for i := range 4 {
		h.sink.Refuse(fmt.Sprintf("f%d@far.example", i), 451, "4.3.0 later")
		h.sink.Refuse(fmt.Sprintf("n%d@far.example", i), 550, "5.1.1 nobody of that name")
	}
	ann := h.dial(t).Login("ann@flood.example")
	ann.Want(ann.Send("ann@flood.example", hosttest.Letter("colleague"), "slow@far.example"), 250)
	for i := range 4 {
		c := h.dial(t).Login("eve@flood.example")
		c.Want(c.Send("eve@flood.example", hosttest.Letter("stolen"), fmt.Sprintf("f%d@far.example", i)), 250)
		c.Want(c.Send("victim@far.example", hosttest.Letter("stolen"), fmt.Sprintf("n%d@far.example", i)), 250) // and so its bounce waits
		kept = append(kept, c)
	}
	hosttest.Eventually(t, "the domain trips", func() bool { return h.hasLock("max_deferfail_flood.example") })
	return kept
}

func TestCleanAfterAStolenMailbox(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 100\ndeferfail_min = 9\nculprit = \"name\"\n"+quarantineConfig)
	h.startExim(t)
	kept := h.stolen(t)
	is := h.incidentOf(t, "flood.example", "eve@flood.example")
	var before map[string]string
	hosttest.Eventually(t, "four messages and four bounces of hers wait, each tried once", func() bool {
		before = h.spoolFiles(t, "")
		return len(before) == 2*9 && !slices.ContainsFunc(slices.Collect(maps.Values(before)), func(file string) bool { return strings.Contains(file, "\n-deliver_firsttime\n") })
	})

	c := h.clean(t, 0, is.ID.String(), "--only", "stop,queue,release")
	if c.Author != "eve@flood.example" || !strings.HasPrefix(c.did("queue"), "8 of 8 messages") || c.did("release") != "flood.example may send again" {
		t.Errorf("%+v", c)
	}
	for _, eve := range kept {
		eve.Mail("eve@flood.example")
		eve.WantPart(eve.Rcpt("more@far.example"), 450, "4.7.1 Mailbox eve@flood.example is stopped.  Message will be reattempted later")
	}
	ann := h.dial(t).Login("ann@flood.example")
	ann.Want(ann.Send("ann@flood.example", hosttest.Letter("colleague"), "ok@far.example"), 250)
	for i := range 4 {
		h.sink.Accept(fmt.Sprintf("f%d@far.example", i))
	}
	h.sink.Accept("slow@far.example")
	h.sink.Accept("victim@far.example")
	h.queueRun(t, "-qff")
	hosttest.Eventually(t, "the colleague's mail arrives, and nothing else", func() bool {
		return slices.Equal(h.sink.Recipients(), []string{"ok@far.example", "slow@far.example"})
	})
	if again := h.clean(t, 0, is.ID.String(), "--only", "stop,queue,release"); again.Action != 0 {
		t.Errorf("again: %+v", again)
	}
	h.shownOnItsCard(t, is, c)
	h.isTakenBack(t, c, before)
}

// shownOnItsCard looks at the card of an incident that was cleaned up after: what was sent, the
// stop, what was done with the command that takes it back, and that nothing is left.
func (h *host) shownOnItsCard(t *testing.T, is incident.Incident, c cleanUp) {
	t.Helper()
	out := h.run(t, h.sluice(t, "incident", is.ID.String())...)
	for _, part := range []string{"STOPPED BY ", "sends/min", "eve@flood.example tried ", "[proven]", "nothing of it is in the queue of " + node, "to take it back: " + c.Undo} {
		if !strings.Contains(out, part) {
			t.Errorf("the card does not say %q:\n%s", part, out)
		}
	}
}

// isTakenBack undoes a clean: the stop has ended, and the spool has the same bytes but for what has
// been delivered.
func (h *host) isTakenBack(t *testing.T, c cleanUp, before map[string]string) {
	t.Helper()
	out := h.run(t, h.sluice(t, strings.Fields(strings.TrimPrefix(c.Undo, "sluice "))...)...)
	if !strings.Contains(out, "taken back: restore of 8 messages") {
		t.Errorf("undo:\n%s", out)
	}
	want := maps.Clone(before)
	maps.DeleteFunc(want, func(name, _ string) bool { return strings.Contains(before[name[:len(name)-1]+"H"], "slow@far.example") })
	if diff := cmp.Diff(want, h.spoolFiles(t, "")); diff != "" {
		t.Errorf("- before + after:\n%s", diff)
	}
	if left := h.spoolFiles(t, logline.QuarantineQueue); len(left) > 0 {
		t.Errorf("in the quarantine: %d files", len(left))
	}
	for _, st := range h.all(t).Stops {
		t.Errorf("%s is stopped still: %s", st.Scope, st.Origin())
	}
	h.queueRun(t, "-qff")
	h.onceEach(t, "f", 4)
}
