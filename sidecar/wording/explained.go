package wording

import (
	"strings"

	"sluice/sidecar"
)

// Explained is a refusal with what explains it in brackets. Without operator it leaves out
// what only operators need. help is a link for whoever is refused; empty for none.
func Explained(t sidecar.RefusalText, operator bool, help string) string {
	parts := make([]string, 0, 4)
	if t.Why != "" {
		parts = append(parts, t.Why)
	}
	if t.Culprit.Named() {
		parts = append(parts, t.Culprit.String())
	}
	if help != "" {
		parts = append(parts, "see "+help)
	}
	if operator && t.Where != "" {
		parts = append(parts, t.Where)
	}
	if len(parts) == 0 {
		return t.Text
	}
	return t.Text + " [" + strings.Join(parts, "; ") + "]"
}

// Logged is a refusal with all that explains it.
func Logged(t sidecar.RefusalText, help string) string {
	if t.Log != "" {
		t.Where = strings.TrimPrefix(t.Where+"; "+t.Log, "; ")
	}
	return Explained(t, true, help)
}
