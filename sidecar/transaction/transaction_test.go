package transaction

import (
	"fmt"
	"testing"
	"time"

	"sluice/sidecar"
)

// noon is the second in which Postfix's log has its line.
var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// accept begins a transaction, whose first recipient is accepted at a time.
func accept(ts *Table, r *sidecar.Request, at time.Time) *Transaction {
	t := ts.FindOrBegin(at, r)
	ts.Accept(t, at, func(*Transaction) {})
	return t
}

func TestAConnectionsLastMessageIsNotOneOfAnotherQueueID(t *testing.T) {
	ts := New()
	var client sidecar.Request
	client.ClientAddress, client.ClientPort = "192.0.2.1", "25001"
	first := client
	first.Instance, first.ID = "1.a", "QUEUE1"
	begun := accept(ts, &first, noon)
	for id, want := range map[string]*Transaction{"": begun, "QUEUE1": begun, "QUEUE2": nil} {
		asked := client
		asked.ID = id
		if got := ts.Find(&asked); got != want {
			t.Errorf("queue id %q: %v, want %v", id, got, want)
		}
	}
}

func TestTheLogNamesTheFirstMessageOfAProcessThatWaits(t *testing.T) {
	for what, c := range map[string]struct {
		accepted []time.Time // of the messages of process 10, whose instances begin with a
		want     int         // which is meant; -1: none
	}{
		"the only one, however old":          {[]time.Time{noon.Add(-time.Hour)}, 0},
		"one that Postfix refused is passed": {[]time.Time{noon.Add(-2 * time.Second), noon.Add(-time.Second)}, 1},
		"the next may be of a later message": {[]time.Time{noon.Add(-time.Second), noon}, 0},
		"a clock that is coarser by a bit":   {[]time.Time{noon.Add(time.Second + clockSlack)}, 0},
		"a question after the line":          {[]time.Time{noon.Add(time.Second + clockSlack + 1)}, -1},
	} {
		ts := New()
		var all []*Transaction
		for i, at := range c.accepted {
			var r sidecar.Request
			r.Instance = fmt.Sprintf("a.%d", i)
			all = append(all, accept(ts, &r, at))
		}
		got := ts.FindLogged("QUEUE1", "10", noon.Add(time.Second/2))
		if c.want < 0 && got != nil || c.want >= 0 && got != all[c.want] {
			t.Errorf("%s: %v", what, got)
		}
	}
}
