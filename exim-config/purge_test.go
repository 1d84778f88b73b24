package eximconfig_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
	"sluice/sidecar/quarantine"
)

// What was put into the quarantine so long ago as queue.purge_days says is removed for good, and
// nothing else: not what came later, nor what was restored and put there by hand.
//
//	sluice serve ─ "quarantine" ─→ sluice deliver ─ record, sluice.toml ─→ exim -Mrm
func TestTheQuarantineIsPurged(t *testing.T) {
	t.Parallel()
	h := newBareHost(t)
	config := fmt.Sprintf(sluiceConfig, "") + quarantineConfig
	h.write(t, "/run/sluice.toml", config)
	h.letters(t, "spam", 4)
	all := ids(h.queueNow(t, "--sender", "spam").List)
	record, err := action.Open(h.path(action.Dir))
	if err != nil {
		t.Fatal(err)
	}
	long := time.Now().AddDate(0, 0, -31)
	put := func(at time.Time, verb action.Verb, id string) {
		t.Helper()
		n, err := record.Will(action.Action{At: at, By: "alice", Verb: verb}, quarantine.Values{Messages: []quarantine.Place{{ID: id}}})
		if err == nil {
			err = record.Did(at, n, quarantine.Result{Done: []quarantine.Place{{ID: id}}}, nil)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	old, restored, byHand, fresh := all[0], all[1], all[2], all[3]
	h.run(t, "exim4", "-MG", logline.QuarantineQueue, old, restored, byHand)
	put(long, quarantine.Quarantine, old)
	put(long, quarantine.Quarantine, restored)
	put(long.Add(time.Hour), quarantine.Restore, restored)
	h.queueAct(t, 0, "quarantine", "--id", fresh)

	purge := func(want string) {
		t.Helper()
		if out, code := h.root().try(t, "quarantine\n", h.sluice(t, "deliver")...); code != 0 || out != want+"\n" {
			t.Errorf("exit %d, it says %s, want %s", code, out, want)
		}
	}
	left := func(want ...string) {
		t.Helper()
		got := ids(h.queueNow(t, "--quarantined").List)
		slices.Sort(want)
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("in the quarantine are %q, want %q", got, want)
		}
	}
	purge(`{"removed":0}`) // it is not wanted
	left(all...)
	h.write(t, "/run/sluice.toml", strings.Replace(config, "[panel]\n", "[queue]\npurge_days = 30\n[panel]\n", 1))
	purge(`{"removed":1}`)
	purge(`{"removed":0}`)
	left(restored, byHand, fresh)
	if out := h.run(t, h.sluice(t, "actions", "--last", "1", "--json")...); !strings.Contains(out, `"queue-remove"`) || !strings.Contains(out, `"queue.purge_days = 30"`) || !strings.Contains(out, old) {
		t.Errorf("on record is\n%s", out)
	}

	// serve has that done, at its start and each hour.
	h.letters(t, "more", 1)
	more := ids(h.queueNow(t, "--sender", "more").List)[0]
	h.run(t, "exim4", "-MG", logline.QuarantineQueue, more)
	put(long, quarantine.Quarantine, more)
	h.startSluice(t, "[queue]\npurge_days = 30\n"+quarantineConfig)
	hosttest.Eventually(t, "serve has it purged", func() bool {
		return strings.Contains(h.run(t, h.sluice(t, "events", "--json")...), "queue-purged")
	})
	left(restored, byHand, fresh)
}
