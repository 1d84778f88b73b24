package main

import (
	"time"

	"sluice/sidecar/queue"
)

// queued is a queue in which there is something of everything.
var queued = queue.Report{
	Node: "mx1", Now: noon, Swept: noon.Add(-90 * time.Second), Took: 0.44, Messages: 1204, Recipients: 2310, Unknown: 2, Uncounted: 7, HeldKnown: true,
	Trouble:    "read Exim's queue: open /var/spool/exim4/input/a: permission denied",
	Quarantine: queue.Aside{Messages: 212, Size: 5_400_000, Oldest: noon.Add(-30 * time.Hour)},
	Payers: []queue.Share{
		{Payer: "example.com", Messages: 1100, Recipients: 2200, Held: 212, Frozen: 1, Bounces: 3, Oldest: noon.Add(-26 * time.Hour),
			Author: queue.Most{Name: "hacked@example.com", Messages: 1045}, To: queue.Most{Name: "mail.example", Messages: 800}},
		{Payer: "", Messages: 102, Recipients: 110, Frozen: 36, Bounces: 90, Oldest: noon.Add(-4 * 24 * time.Hour), To: queue.Most{Name: "away.example", Messages: 40}},
	},
	List: []queue.Message{
		{ID: "1xUzSN-0005dd-0q", Arrived: noon.Add(-4 * 24 * time.Hour), Recipients: 1, To: "away.example", Size: 2048, Frozen: at(-3 * 24 * time.Hour)},
		{ID: "1xUzSN-0005dd-0r", Arrived: noon.Add(-2 * time.Hour), Unknown: true},
		{ID: "1sempe-00000001abC-0xYz", Payer: "example.com", Author: "hacked@example.com", Sender: "\x1b[31mforged@else.example", Arrived: noon.Add(-time.Hour),
			Recipients: 20, To: "mail.example", Size: 70_000, Held: 20, Queue: "aside"},
	},
}

// showQueue answers as a queue with nothing of none.example would.
func (s stage) showQueue(selection queue.Selection) (queue.Report, error) {
	r := s.queue
	if selection.Scope == "none.example" {
		r = queue.Report{Node: r.Node, Now: r.Now, Swept: r.Now, HeldKnown: true, Payers: []queue.Share{}}
	}
	if selection.List == 0 {
		r.List = nil
	}
	return r, nil
}
