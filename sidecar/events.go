package sidecar

import "sluice/sidecar/event"

// Events that take more than a line to make. Refusals, and what passes for want of
// somebody to charge, there are as many of as somebody likes to cause: they are made
// only if somebody listens.

func (p *Core) emitRefused(r Request, a Action, text string) {
	if p.events.Enabled(event.Refused) {
		p.events.Emit(event.Event{Kind: event.Refused, Attrs: event.Attrs("stage", r.Stage, "action", a, "id", r.ID, "sender", r.Sender, "text", text)})
	}
}

func (p *Core) emitWatched(r Request, who, ratio string) {
	if p.events.Enabled(event.Watched) {
		p.events.Emit(event.Event{Kind: event.Watched, Attrs: event.Attrs("stage", r.Stage, "id", r.ID, "sender", r.Sender, "over", who, "sent", ratio)})
	}
}

func (p *Core) emitUnidentified(r Request) {
	if p.events.Enabled(event.Unidentified) {
		p.events.Emit(event.Event{Kind: event.Unidentified, Attrs: event.Attrs("stage", r.Stage, "id", r.ID, "auth", r.Auth, "login", r.Login, "sender", r.Sender)})
	}
}

func (p *Policy) emitChanged(c Change) {
	attrs := event.Attrs("who", c.Who, "scope", c.Scope, "change", c.Number, "what", c.Describe())
	if !c.Until.IsZero() {
		attrs = append(attrs, event.Attrs("until", c.Until)...)
	}
	if c.Why != "" {
		attrs = append(attrs, event.Attrs("why", c.Why)...)
	}
	p.events.Emit(event.Event{Kind: event.Changed, Attrs: attrs})
}

// emitConfigRead tells that the file is in force, but for the keys that need a restart.
func (p *Policy) emitConfigRead(file string, restart []string) {
	p.events.Emit(event.Event{Kind: event.ConfigRead, Attrs: event.Attrs("file", file)})
	if len(restart) > 0 {
		p.events.Emit(event.Event{Kind: event.RestartNeeded, Attrs: event.Attrs("file", file, "keys", restart)})
	}
}

// maxSkipped is how many lines of the panel's files are told of one by one.
const maxSkipped = 20

func (p *Policy) emitPanelSkipped(lines []string) {
	for _, line := range lines[:min(len(lines), maxSkipped)] {
		p.events.Emit(event.Event{Kind: event.PanelLineSkipped, Attrs: event.Attrs("line", line)})
	}
	if n := len(lines) - maxSkipped; n > 0 {
		p.events.Emit(event.Event{Kind: event.PanelLinesSkipped, Attrs: event.Attrs("lines", n)})
	}
}

// lockEvents are what operators are told of the lock directory.
var lockEvents = map[LockEventKind]event.Kind{
	LockReleased:  event.LockRemoved,
	LockMade:      event.LockMade,
	LockTaken:     event.LockTaken,
	LockDirLost:   event.LockDirLost,
	LockTrouble:   event.LockTrouble,
	LockMended:    event.LockDirMended,
	LockDirShared: event.LockDirShared,
	LockIgnored:   event.LockIgnored,
}

// Event is what operators are told of it.
func (e LockEvent) Event() event.Event {
	told := event.Event{Kind: lockEvents[e.Kind], Domain: e.File.Domain, Err: e.Err}
	switch e.File.Kind {
	case "": // it is about the whole directory
	case LockUsage:
		told.Kind = event.UsageRemoved
	default:
		told.Attrs = event.Attrs("lock", string(e.File.Kind))
	}
	return told
}
