package policy

import (
	"fmt"
	"strings"

	"sluice/sidecar"
)

// Operators grep for these texts: they are kept to the letter. What explains
// further follows in brackets. (cPanel's wording, two spaces included.)
const (
	textHourly    = "%s has exceeded the max emails per %s (%s) allowed.  Message %s"
	textWatched   = "%s has exceeded the max emails (%s) allowed.  Watched only, not refused"
	textUncounted = "Domain %s cannot be counted now.  Message will be reattempted later"

	reattempted = "will be reattempted later"
	discarded   = "discarded."
)

// text words a refusal: who exceeded which limit by how much, and in brackets
// what is counted, where the limit comes from and when there is room.
func (d *refusal) text(node string) string {
	what := reattempted
	if d.action != sidecar.Defer {
		what = discarded
	}
	var b strings.Builder
	fmt.Fprintf(&b, textHourly, sidecar.TitleOf(d.use.Subject), d.per, sidecar.Ratio(d.attempted, d.use.Limit.Max), what)
	fmt.Fprintf(&b, " [%d sent in %s, limit from %s; ", d.use.Used, sidecar.Span(d.use.Limit.Window), d.origin)
	if d.frees.IsZero() {
		b.WriteString("more than the limit at once; ")
	} else {
		fmt.Fprintf(&b, "room at %s; ", d.frees.Format("2006-01-02 15:04:05 -0700"))
	}
	fmt.Fprintf(&b, "sluice on %s]", node)
	return b.String()
}
