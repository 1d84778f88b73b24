package event

import (
	"log/slog"
	"os"
	"strings"
	"testing"
)

// docs/troubleshoot.md has each warning and error as it is logged, with what to do, and no other.
func TestEachWarningIsInTroubleshoot(t *testing.T) {
	text, err := os.ReadFile("../../docs/troubleshoot.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) != 4 || cells[1] != "WARN" && cells[1] != "ERROR" {
			continue
		}
		name := strings.TrimSpace(cells[0])
		told[name] = true
		w, known := kinds[Kind(name)]
		switch {
		case !known:
			t.Errorf("there is no event %s", name)
		case cells[1] != w.level.String() || cells[2] != w.text:
			t.Errorf("%s is %s, %q", name, w.level, w.text)
		case strings.TrimSpace(cells[3]) == "":
			t.Errorf("%s: what is to be done?", name)
		}
	}
	for kind, w := range kinds {
		if w.level >= slog.LevelWarn && !told[string(kind)] {
			t.Errorf("docs/troubleshoot.md has no row | %s | %s | %s | what to do |", kind, w.level, w.text)
		}
	}
}
