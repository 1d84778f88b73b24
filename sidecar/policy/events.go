package policy

import (
	"sluice/sidecar"
	"sluice/sidecar/event"
)

func (p *Policy) emitRefused(r sidecar.Request, a sidecar.Action, text string) {
	if p.events.Enabled(event.Refused) {
		p.events.Emit(event.Event{Kind: event.Refused, Attrs: event.Attrs("stage", r.Stage, "action", a, "id", r.ID, "sender", r.Sender, "text", text)})
	}
}

func (p *Policy) emitWatched(r sidecar.Request, who, ratio string) {
	if p.events.Enabled(event.Watched) {
		p.events.Emit(event.Event{Kind: event.Watched, Attrs: event.Attrs("stage", r.Stage, "id", r.ID, "sender", r.Sender, "over", who, "sent", ratio)})
	}
}

func (p *Policy) emitUnidentified(r sidecar.Request) {
	if p.events.Enabled(event.Unidentified) {
		p.events.Emit(event.Event{Kind: event.Unidentified, Attrs: event.Attrs("stage", r.Stage, "id", r.ID, "auth", r.Auth, "login", r.Login, "sender", r.Sender)})
	}
}
