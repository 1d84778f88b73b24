package quarantine

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
)

// Whatever a sender is called, it is one key of the lookup, and is read back as it was.
func TestLateSenders(t *testing.T) {
	late := Late{Path: filepath.Join(t.TempDir(), "sluice", "late"), Group: os.Getgid()}
	odd := []string{"a@b.example", `"x: y"@b.example`, `"\"q\\"@b.example`, "#c@b.example", " s@b.example", "a#b=c@b.example"}
	var messages []LateMessage
	for i, sender := range odd {
		messages = append(messages, LateMessage{string(rune('1' + i)), sender}, LateMessage{"both", sender})
	}
	for range 2 { // again is the same
		if err := late.Add(messages); err != nil {
			t.Fatal(err)
		}
	}
	want := map[string][]string{}
	for _, m := range messages {
		want[m.Sender] = append(want[m.Sender], m.ID)
	}
	got, err := late.read()
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; -want +got:\n%s", err, diff)
	}
	if err := late.Tidy(func(id string) bool { return id == "1" }); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(late.Path)
	if string(text) != "\"a@b.example\":\n 1\n" || err != nil {
		t.Errorf("tidied: %q, %v", text, err)
	}
	if err := (Late{Path: filepath.Join(t.TempDir(), "none")}).Tidy(func(string) bool { return true }); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

// On a full disk the list stays as it was, and what could not be listed is not restored: it would
// bounce.
func TestLateOnAFullDisk(t *testing.T) {
	dir := hosttest.SmallDisk(t)
	late := Late{Path: filepath.Join(dir, "late"), Group: os.Getgid()}
	if err := late.Add([]LateMessage{{"1", "a@b.example"}}); err != nil {
		t.Fatal(err)
	}
	before, err := os.ReadFile(late.Path)
	if err != nil {
		t.Fatal(err)
	}
	hosttest.Fill(t, dir)
	if err := late.Add([]LateMessage{{"2", "c@d.example"}}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("it is listed on a full disk: %v", err)
	}
	if text, err := os.ReadFile(late.Path); string(text) != string(before) || err != nil {
		t.Errorf("the list is %q, %v; it was %q", text, err, before)
	}
	if files, _ := os.ReadDir(dir); len(files) != 2 {
		t.Errorf("left are %v", files)
	}
}
