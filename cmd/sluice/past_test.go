package main

import (
	"fmt"
	"slices"
	"time"

	"sluice/sidecar/eventlog"
	"sluice/sidecar/incident"
	"sluice/sidecar/operator"
	"sluice/sidecar/queue"
	"sluice/sidecar/typed"
)

func (s stage) Happened(_, _ time.Time, scope string) (operator.Past, error) {
	p := s.past
	p.Node = "mx1"
	p.Events = slices.DeleteFunc(slices.Clone(p.Events), func(r eventlog.Record) bool { return scope != "" && r.Domain != scope })
	return p, nil
}

func (s stage) Incidents(scope string) ([]incident.Incident, error) {
	found := slices.DeleteFunc(slices.Clone(s.incidents), func(i incident.Incident) bool {
		return !s.lies && scope != "" && i.Domain != scope && i.ID.String() != scope
	})
	if scope != "" && len(found) == 0 {
		return nil, fmt.Errorf("%w: there is no incident of that number or name", typed.ErrNotFound)
	}
	return found, nil
}

func later(d time.Duration) time.Time { return noon.Add(d) }

// chosen is a text as a sender may choose it.
const chosen = "Your \x1b[2Jinvoice\nfake line \u202e8841"

// pastStage has what has happened.
var pastStage = stage{
	past: operator.Past{Node: "mx1", Now: noon, Events: []eventlog.Record{
		{At: later(-2 * time.Hour), Last: later(-time.Hour), Count: 4, Event: "limit-reached", Domain: "example.com", Node: "mx2", Text: "sent 500/500 (100%), culprit hacked@example.com, culprit sends 461 of 487"},
		{At: later(-time.Hour), Last: later(-time.Minute), Count: 18420, Event: "refused", Domain: "example.com", Scope: "hacked@example.com", Text: "over a limit"},
		{At: later(-time.Hour), Last: later(-time.Hour), Count: 1, Event: "refused", Domain: "example.com", Scope: "script:/home/bob/$(reboot)", Text: chosen},
		{At: later(-time.Minute), Last: later(-time.Minute), Count: 1, Event: "stop", Domain: "example.com", Scope: "hacked@example.com", By: "alice (as root)", Text: "node mx1, why stolen password"},
		{At: noon, Last: noon, Count: 1, Event: "redis-away", Text: "server r1:6379, i/o timeout"},
	}},
	queue: queue.Report{Node: "mx1", Messages: 212},
	incidents: []incident.Incident{
		{ID: incident.ID{Node: "mx1", Number: 43}, Revision: 1, Condition: incident.Redis, Severity: incident.Warning, Opened: noon,
			Causes:   []incident.Cause{{Name: "redis-away", Scope: "r1:6379", Severity: incident.Warning, Since: noon}},
			Timeline: []incident.Entry{{At: noon, Last: noon, Count: 1, Event: "redis-away", Severity: incident.Warning, Text: "server r1:6379, i/o timeout"}},
			Evidence: incident.Evidence{Who: []incident.Sender{}, Lines: []incident.Line{}}},
		{ID: incident.ID{Node: "mx1", Number: 42}, Revision: 3, Domain: "example.com", Severity: incident.Warning, Opened: later(-2 * time.Hour), Closed: later(-10 * time.Minute),
			Causes: []incident.Cause{{Name: incident.CauseLimit, Severity: incident.Info, Since: later(-2 * time.Hour), Gone: later(-time.Hour)},
				{Name: incident.CauseCulprit, Scope: "hacked@example.com", Severity: incident.Warning, Since: later(-time.Hour), Gone: later(-20 * time.Minute)}},
			Culprit: incident.Culprit{Author: "hacked@example.com", Kind: "mailbox", Proof: "proven", Count: 461, Of: 487, Stopped: true, Usual: 12},
			Timeline: []incident.Entry{
				{At: later(-2 * time.Hour), Last: later(-119 * time.Minute), Count: 4, Event: "limit-reached", Severity: incident.Info, Text: "sent 500/500 (100%)"},
				{At: later(-time.Hour), Last: later(-time.Hour), Count: 1, Event: "stop", Severity: incident.Warning, By: "sluice", Text: "scope hacked@example.com"},
				{At: later(-20 * time.Minute), Last: later(-20 * time.Minute), Count: 1, Event: "start", Severity: incident.Info, By: "alice (as root)", Text: "scope hacked@example.com"}},
			Minutes: incident.Minutes{Author: "hacked@example.com", From: later(-75 * time.Minute), Until: later(-50 * time.Minute),
				Tried: []int64{0, 0, 0, 2, 20, 300, 480, 480, 480, 480, 480, 480, 480, 480, 480, 480, 480, 480, 300, 20, -1, -1, 0, 0, 0}, Sent: []int64{0, 0, 0, 2, 20, 99, 120, 140, 80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, -1, -1, 0, 0, 0},
				OthersTried: []int64{1, 2, 1, 1, 2, 1, 2, 1, 1, 2, 1, 2, 1, 1, 2, 1, 2, 1, 0, 0, -1, -1, 1, 0, 1}, OthersSent: []int64{1, 2, 1, 1, 2, 1, 2, 1, 1, 2, 1, 2, 1, 1, 2, 1, 2, 1, 0, 0, -1, -1, 1, 0, 1}},
			Evidence: incident.Evidence{At: later(-90 * time.Minute), Sent: 487, Tried: 18907, Refused: 18420, Limit: 500,
				Who: []incident.Sender{
					{Author: "hacked@example.com", Proof: "proven", Tried: 18881, Sent: 461, Bad: 175, Recipients: 458, Networks: []string{"203.0.113.0/24", "198.51.100.0/24"}, MoreNetworks: true,
						Destinations: []string{"mail.example", "post.example"}, Subject: chosen, FirstSeen: later(-300 * time.Hour)},
					{Author: "info@example.com", Proof: "proven", Tried: 26, Sent: 26, Networks: []string{"198.51.100.0/24"}, Destinations: []string{}}},
				Lines: []incident.Line{{Cause: "called-spam", Text: "2026-03-01 10:59:58 1xUz ** a@post.example: 550 5.7.1 blocked\x1b[1m\u202e"}}}},
		{ID: incident.ID{Node: "mx1", Number: 17}, Revision: 2, Domain: "example.com", Severity: incident.Info, Opened: later(-50 * time.Hour), Closed: later(-49 * time.Hour),
			Causes:   []incident.Cause{{Name: incident.CauseNear, Severity: incident.Info, Since: later(-50 * time.Hour), Gone: later(-49 * time.Hour)}},
			Timeline: []incident.Entry{}, Evidence: incident.Evidence{Who: []incident.Sender{}, Lines: []incident.Line{}}},
	}}
