package card

import (
	"fmt"
	"strings"

	"sluice/sidecar/printable"
)

// Text is the card in characters: what it is about, the picture, the facts and the causes. It is
// the first screen of sluice incident, and is attached to notices. What senders chose stays on its
// line, and is printable.
func (c *Card) Text() string {
	var b strings.Builder
	line := func(format string, args ...any) {
		b.WriteString(printable.Of(fmt.Sprintf(format, args...)) + "\n")
	}
	headline := ""
	if c.Headline() != "" {
		headline = "   " + c.Headline()
	}
	line("%s%s   incident %s, %s, %s", c.About(), headline, c.ID, c.Severity, c.When())
	b.WriteString("\n")
	if chart := c.Chart(); chart != nil {
		for _, l := range chart.Lines() {
			line("  %s", l)
		}
		b.WriteString("\n")
	}
	for _, f := range c.Facts() {
		line("  %-9s %s", f.Label, f.Text)
	}
	for _, cause := range c.Why() {
		line("  CAUSE     %s, %s", cause.Name, cause.When)
	}
	return b.String()
}
