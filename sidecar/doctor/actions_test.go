package doctor

import (
	"errors"
	"os"
	"strings"
	"testing"

	"sluice/sidecar/action"
	"sluice/sidecar/hosttest"
)

// What was begun and has not ended is told, and a record that somebody has altered.
func TestDoctorLooksAtTheRecordOfActions(t *testing.T) {
	hosttest.Root(t)
	c := newClinic(t)
	c.install(t)
	record, err := action.Open(c.dir + "/actions")
	if err != nil {
		t.Fatal(err)
	}
	number, err := record.Will(action.Action{At: noon, By: "alice", Verb: "queue-quarantine", Whom: "hacked@shop.example"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := func(state State, says string) {
		t.Helper()
		for _, f := range c.look(t) {
			if f.Check == "actions" && f.State == state && strings.Contains(f.Found, says) {
				return
			}
		}
		t.Errorf("doctor does not say %s: %q", state, says)
	}
	want(Note, "action 1 (queue-quarantine hacked@shop.example by alice at ")
	if err := record.Did(noon, number, nil, nil); err != nil {
		t.Fatal(err)
	}
	want(OK, "1 action is on record")
	path := c.dir + "/actions/actions"
	text, err := os.ReadFile(path)
	if err = errors.Join(err, os.WriteFile(path, []byte(strings.Replace(string(text), "alice", "bob", 1)), 0o600)); err != nil {
		t.Fatal(err)
	}
	want(Wrong, "was altered")
}
