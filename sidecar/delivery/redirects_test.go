package delivery

import (
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
)

// freeNotes fail a test if the redirects are locked while they write.
type freeNotes struct {
	t      *testing.T
	r      *redirects
	writes int
}

func (n *freeNotes) Note(string, []byte) error          { return n.write() }
func (n *freeNotes) Forget(string) error                { return n.write() }
func (n *freeNotes) Notes(string, func(string, []byte)) {}

func (n *freeNotes) write() error {
	n.writes++
	if !n.r.mu.TryLock() {
		n.t.Error("questions wait for a note")
		return nil
	}
	n.r.mu.Unlock()
	return nil
}

func deferredRedirect(id string, token ratelimit.Token) *Judged {
	l := &Judged{Entry: &logline.Entry{Kind: logline.Deferred, ID: id, At: time.Unix(100, 0)}}
	l.First = token
	return l
}

func TestNoQuestionWaitsForANoteOfARedirect(t *testing.T) {
	notes := &freeNotes{t: t}
	r := newRedirects(notes, event.NewStream())
	notes.r = r
	r.observe(deferredRedirect("id", 7))
	if first := r.observe(deferredRedirect("id", 7)); !first.Equal(time.Unix(100, 0)) {
		t.Errorf("first tried at %v", first)
	}
	r.leave("id")
	if err := r.save(); err != nil || notes.writes != 2 || len(r.gone) != 0 {
		t.Errorf("%v after %d writes, %d left to drop", err, notes.writes, len(r.gone))
	}
}

// A simulation drops no notes, and keeps none to be dropped.
func TestASimulationKeepsNothingOfRedirectsThatHaveLeft(t *testing.T) {
	notes := &freeNotes{t: t}
	d := &Recorder{messages: newMessages(notes, event.NewStream())}
	notes.r = d.messages.redirects
	d.FirstTried(deferredRedirect("id", 7))
	d.Left("id")
	d.Forget(time.Unix(200, 0))
	if gone := d.messages.redirects.gone; len(gone) != 0 {
		t.Errorf("%v is kept", gone)
	}
}
