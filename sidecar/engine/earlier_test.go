package engine_test

import (
	"os"
	"testing"
	"time"

	"sluice/sidecar"
)

// An update goes on from the ledger of an earlier version, here after a kill -9: what it has
// counted, held, tripped and set, and whom it has answered. Those in testdata/earlier were
// written by the commits after which they are named, with hourly = 5.
func TestLedgersOfEarlierVersions(t *testing.T) {
	for commit, last := range map[string]struct {
		at string // when it was killed
		id string // of its messages
	}{
		"be75ce7": {"2026-11-30T09:01:19Z", "1xXxG9"},
		"5bc01f9": {"2026-11-30T09:01:26Z", "1xXxGH"},
	} {
		t.Run(commit, func(t *testing.T) {
			s := newSite(t, "[limits]\nhourly = 5\n")
			s.now, _ = time.Parse(time.RFC3339, last.at)
			if err := s.store.Close(); err != nil {
				t.Fatal(err)
			}
			s.ledger = t.TempDir()
			if err := os.CopyFS(s.ledger, os.DirFS("testdata/earlier/"+commit)); err != nil {
				t.Fatal(err)
			}
			s.open()
			s.wantOutcomes("shop.example", 5, 0, 0, 0)
			s.wantOutcomes("two.example", 3, 0, 0, 0)
			s.wantOutcomes("four.example", 6, 0, 0, 6)
			if st := s.status("shop.example"); len(st.Domains) != 1 || st.Domains[0].Held != 1 {
				t.Errorf("of what was held: %+v", st.Domains)
			}
			if st := s.status("two.example"); len(st.Domains) != 1 || st.Domains[0].Hourly != 7 {
				t.Errorf("of what was set: %+v", st.Domains)
			}
			if all, err := s.Settings.History(s.now, ""); err != nil || len(all) != 3 || all[1].Scope != "account:bob" || all[1].Until.IsZero() {
				t.Errorf("history: %+v, %v", all, err)
			}
			ask := func(number, from, to string) sidecar.Reply {
				return s.Ask(t.Context(), s.now, sidecar.Request{Stage: sidecar.StageData, ID: last.id + number, Sender: from, Recipients: to,
					Submitter: sidecar.Submitter{Auth: from, ClientAddress: "203.0.113.9"}})
			}
			s.want(ask("-000001-00", "news@shop.example", "r1@far.example"), sidecar.Accept, "") // it was charged
			s.want(ask("-000031-00", "news@shop.example", "r1@far.example"), sidecar.Defer, "Domain shop.example has exceeded the max emails per hour (")
			s.want(ask("-000032-00", "x@four.example", "y@far.example"), sidecar.Reject, "Domain four.example has exceeded the max defers and failures per hour (6/5 (100%)) allowed.")
			s.want(ask("-000033-00", "x@two.example", "y@far.example"), sidecar.Accept, "")
		})
	}
}
