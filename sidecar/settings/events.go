package settings

import (
	"sluice/sidecar/event"
	"sluice/sidecar/history"
)

// Events that take more than a line to make. Refusals, and what passes for want of
// somebody to charge, there are as many of as somebody likes to cause: they are made
// only if somebody listens.

func (l *Live) emitChanged(c history.Change) {
	attrs := event.Attrs("who", c.Who, "scope", c.Scope, "change", c.Number, "what", c.Describe())
	if !c.Until.IsZero() {
		attrs = append(attrs, event.Attrs("until", c.Until)...)
	}
	if c.Why != "" {
		attrs = append(attrs, event.Attrs("why", c.Why)...)
	}
	l.events.Emit(event.Event{Kind: event.Changed, Attrs: attrs})
}

// emitConfigRead tells that the file is in force, but for the keys that need a restart.
func (l *Live) emitConfigRead(file string, restart []string) {
	l.events.Emit(event.Event{Kind: event.ConfigRead, Attrs: event.Attrs("file", file)})
	if len(restart) > 0 {
		l.events.Emit(event.Event{Kind: event.RestartNeeded, Attrs: event.Attrs("file", file, "keys", restart)})
	}
}

// maxSkipped is how many lines of the panel's files are told of one by one.
const maxSkipped = 20

func (l *Live) EmitPanelSkipped(lines []string) {
	for _, line := range lines[:min(len(lines), maxSkipped)] {
		l.events.Emit(event.Event{Kind: event.PanelLineSkipped, Attrs: event.Attrs("line", line)})
	}
	if n := len(lines) - maxSkipped; n > 0 {
		l.events.Emit(event.Event{Kind: event.PanelLinesSkipped, Attrs: event.Attrs("lines", n)})
	}
}
