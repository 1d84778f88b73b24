package engine_test

import (
	"context"
	"maps"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// authors keeps the author of each new outcome, by the message's id.
type authors map[string]string

func (a authors) Recorded(_ time.Time, news []logline.Outcome) {
	for _, o := range news {
		a[o.Entry.ID] = o.Author.Key
	}
}

// A send has one author, whether the question tells of it or the log: of a script the log says
// only which login ran it. That is known over a restart too, if the arrival was noted.
func TestTheLogKnowsTheAuthor(t *testing.T) {
	s, got, want := newSite(t, ""), authors{}, authors{}
	s.Recorder.AddObserver(got)
	for i, c := range []struct{ directory, auth, key string }{
		{"/home/bob/wp", "", "script:/home/bob/wp"}, {"/home/bob/shop", "", "script:/home/bob/shop"},
		{"/", "", "login:bob"}, {"", "news@a.example", "news@a.example"},
	} {
		at := s.now.Add(time.Duration(i) * time.Second)
		r := sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(at), Sender: "x@a.example", Recipients: "u@far.example",
			Submitter: sidecar.Submitter{Login: "bob", CWD: c.directory}}
		if c.auth != "" {
			r.Stage, r.Submitter = sidecar.StageData, sidecar.Submitter{Auth: c.auth, ClientAddress: "203.0.113.5"}
		}
		s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
		s.tell(logline.Entry{Kind: logline.Arrived, ID: r.ID, Arrival: logline.Arrival{Sender: r.Sender, Login: r.Login, Auth: r.Auth, ClientAddress: r.ClientAddress}})
		s.deferred(r.ID, "u@far.example", refused)
		if i == 1 {
			if err := s.Checkpoint(s.now, nil); err != nil {
				t.Fatal(err)
			}
			s.restart()
			s.Recorder.AddObserver(got)
			clear(got)
			s.failed(r.ID, "u@far.example", refused)
		}
		want[r.ID] = c.key
		if i == 0 {
			if !maps.Equal(got, want) {
				t.Errorf("authors %v, want %v", got, want)
			}
			clear(want)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("authors %v, want %v", got, want)
	}
}
