package remedy

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/action"
)

// host is a host whose record of actions is in a directory of the test.
func host(t *testing.T) *Host {
	return &Host{Record: filepath.Join(t.TempDir(), "actions"), Audit: slog.New(slog.DiscardHandler)}
}

// Each action is on record before it is done, and with how it has ended after that.
func TestAnActionIsOnRecordBeforeItIsDone(t *testing.T) {
	h := host(t)
	refused := errors.New("refused")
	n, err := h.Act(action.Action{Verb: VerbStop, Whom: "hacked@example.com"}, nil, func(number int) (any, error) {
		all, err := h.Actions()
		if err != nil || len(all) != 1 || all[0].Number != number || all[0].Did != nil {
			t.Errorf("while it is done there is %+v, %v", all, err)
		}
		return Stopped{Scope: "hacked@example.com", Mark: "7"}, refused
	})
	if n != 1 || !errors.Is(err, refused) {
		t.Fatalf("number %d, %v", n, err)
	}
	all, err := h.Actions()
	var did Stopped
	if err != nil || len(all) != 1 || all[0].Did == nil || all[0].Did.Failed != "refused" || all[0].ReadDid(&did) != nil || did.Mark != "7" {
		t.Errorf("after it there is %+v, %v", all, err)
	}
}

// What cannot be put on record is not done; and what was done and has no end there is said so.
func TestNothingIsDoneOffTheRecord(t *testing.T) {
	h := host(t)
	write := func(text string) {
		if err := errors.Join(os.MkdirAll(h.Record, 0o700), os.WriteFile(h.Record+"/actions", []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("altered\n")
	n, err := h.Act(action.Action{Verb: VerbStop}, nil, func(int) (any, error) {
		t.Error("it was done")
		return nil, nil
	})
	if n != 0 || err == nil {
		t.Errorf("number %d, %v", n, err)
	}
	write("")
	n, err = h.Act(action.Action{Verb: VerbStop}, nil, func(int) (any, error) {
		write("altered\n")
		return nil, nil
	})
	if n != 1 || err == nil || !strings.HasPrefix(err.Error(), "it is done, but not on record: ") {
		t.Errorf("number %d, %v", n, err)
	}
}

// The directory of the files of stops is one of the mail server's, so no link in it is followed.
func TestAStopFileIsNoLinkToAnother(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "stopped", "hacked@example.com")
	for range 2 { // the second finds it there
		if err := MakeStopFile(path, "ticket 4711"); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "ticket 4711" {
		t.Errorf("it has %q, %v", text, err)
	}
	victim, link := filepath.Join(dir, "victim"), filepath.Join(dir, "stopped", "news@example.com")
	if err := os.Symlink(victim, link); err != nil {
		t.Fatal(err)
	}
	if err := MakeStopFile(link, "ticket 4711"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(victim); err == nil {
		t.Error("a link was followed")
	}
	if info, err := os.Stat(filepath.Dir(path)); err != nil || info.Mode().Perm() != 0o711 {
		t.Errorf("Exim cannot get in: %v, %v", info.Mode(), err)
	}
}

// Who takes back is chosen by the verb alone, and what is no verb of these is not taken back.
func TestWhatCanBeTakenBack(t *testing.T) {
	for verb, want := range map[action.Verb]bool{VerbStop: true, VerbRelease: true, VerbClean: true, VerbReset: false, verbUndo: false, "rm -rf /": false, "": false} {
		if Undoable(verb) != want {
			t.Errorf("%q: %v", verb, !want)
		}
		if want {
			continue
		}
		h := host(t)
		if _, err := h.Act(action.Action{Verb: verb}, nil, func(int) (any, error) { return nil, nil }); err != nil {
			t.Fatal(err)
		}
		if u, err := h.Undo(t.Context(), 1, ""); err == nil || len(u.Undone) > 0 {
			t.Errorf("%q is taken back: %+v", verb, u)
		}
	}
}
