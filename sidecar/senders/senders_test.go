package senders

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
	"sluice/sidecar/cluster"
)

func TestWhatTwoNodesHaveOfAnAuthorIsAddedUp(t *testing.T) {
	early, late := time.Unix(1_000, 0), time.Unix(2_000, 0)
	r := Report{Tried: 10, Unattributed: 8, Authors: []Author{{Key: "eve@a.example", Tried: 10, Sent: 8, Recipients: 9, Senders: 1, FirstSeen: late,
		Causes: map[sidecar.Cause]int64{}, Networks: []Share{{"192.0.2.0/24", 10}}, Destinations: []Share{}, Subject: "often", SubjectCount: 5}}}
	r.Add(&cluster.Report{Node: "mx2", Tried: 4, Authors: []cluster.Author{
		{Key: "eve@a.example", Tried: 4, Sent: 3, First: early.Unix(), Causes: map[sidecar.Cause]int64{sidecar.CalledSpam: 2}, Evidence: &cluster.Evidence{
			Networks: []cluster.Share{{Name: "192.0.2.0/24", Tried: 9}, {Name: "198.51.100.0/24", Tried: 1}}, Recipients: 9, Senders: 2, Subject: "rare", SubjectCount: 4}},
		{Key: "idle@a.example", First: early.Unix()},
	}})
	want := Report{Tried: 14, Unattributed: 11, Nodes: []string{"mx2"}, Authors: []Author{{Key: "eve@a.example", Tried: 14, Sent: 11, Bad: 2,
		Recipients: 14, Senders: 2, FirstSeen: early, Causes: map[sidecar.Cause]int64{sidecar.CalledSpam: 2},
		Networks: []Share{{"192.0.2.0/24", 14}, {"198.51.100.0/24", 1}}, Destinations: []Share{}, Subject: "often", SubjectCount: 5}}}
	if diff := cmp.Diff(want, r); diff != "" {
		t.Error(diff)
	}
}
