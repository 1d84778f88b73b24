package exim

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Nothing but ids and names of queues becomes an argument of a program that runs as root.
func TestActGivesEximIdsOnly(t *testing.T) {
	out := filepath.Join(t.TempDir(), "args")
	e := Exim{Binary: fakeExim(t, "echo \"$@\" >>"+out+"; echo said; exit 1")}
	ids := []string{"1xUzSN-0005dd-0q", "-C/tmp/x", "1sempe-00000001abC-0xYz", "1xUzSN-0005dd-0q\n-bd"}
	if said, err := e.Act(t.Context(), "aside", ids, "-MG", ""); said != "said\n" || err != nil {
		t.Errorf("%q, %v", said, err)
	}
	for _, queue := range []string{"-oX", "../x", "a b", "a\nb"} {
		if _, err := e.Act(t.Context(), queue, ids, "-Mrm"); err == nil {
			t.Errorf("queue %q is no error", queue)
		}
	}
	if _, err := e.Act(t.Context(), "", []string{"--version"}, "-Mrm"); err != nil {
		t.Error(err)
	}
	if _, err := (Exim{Binary: "/nonexistent"}).Act(t.Context(), "", ids, "-Mrm"); err == nil {
		t.Error("an Exim that is not there is no error")
	}
	const want = "-qGaside -MG  1xUzSN-0005dd-0q 1sempe-00000001abC-0xYz\n"
	if got, err := os.ReadFile(out); string(got) != want || err != nil {
		t.Errorf("%q, %v; want %q", got, err, want)
	}
}

func TestRetryEnd(t *testing.T) {
	for said, want := range map[string]time.Duration{
		"Retry rule: *  *  F,2h,15m; G,16h,1h,1.5; F,4d,6h; ": 4 * 24 * time.Hour,
		"Retry rule: a.example  *  F,4w2d,15m; ":              30 * 24 * time.Hour,
		"Retry rule: a.example  quota  F,1h30m,15m; ":         90 * time.Minute,
		"No retry information found":                          0,
	} {
		got, known := (Exim{Binary: fakeExim(t, "echo '"+said+"'")}).RetryEnd(t.Context(), "a.example")
		if got != want || !known {
			t.Errorf("%q: %v, %v; want %v", said, got, known, want)
		}
	}
	if _, known := (Exim{Binary: fakeExim(t, "exit 1")}).RetryEnd(t.Context(), "a.example"); known {
		t.Error("an Exim that says nothing is believed")
	}
}
