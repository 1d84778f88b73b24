package event

import (
	"log/slog"
	"os"
	"strings"
	"testing"
)

// docs/troubleshoot.md has each warning and error as it is logged, with what to do, each line that only
// tells, and no other.
func TestEachEventIsInTroubleshoot(t *testing.T) {
	text, err := os.ReadFile("../../docs/troubleshoot.md")
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		tells := len(cells) == 3 && cells[1] == "INFO"
		if !tells && (len(cells) != 4 || cells[1] != "WARN" && cells[1] != "ERROR") {
			continue
		}
		name := strings.TrimSpace(cells[0])
		told[name] = true
		w, known := kinds[Kind(name)]
		switch {
		case !known:
			t.Errorf("there is no event %s", name)
		case cells[1] != w.level.String() || strings.TrimSpace(cells[2]) != w.text:
			t.Errorf("%s is %s, %q", name, w.level, w.text)
		case !tells && strings.TrimSpace(cells[3]) == "":
			t.Errorf("%s: what is to be done?", name)
		}
	}
	for kind, w := range kinds {
		if w.level >= slog.LevelWarn && !told[string(kind)] {
			t.Errorf("docs/troubleshoot.md has no row | %s | %s | %s | what to do |", kind, w.level, w.text)
		}
		if w.level == slog.LevelInfo && !told[string(kind)] {
			t.Errorf("docs/troubleshoot.md has no row | %s | %s | %s |", kind, w.level, w.text)
		}
	}
}
