package policy

import (
	"fmt"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// Operators grep for these texts, so they do not change. textHourly and its two endings
// are cPanel's to the letter, two spaces included. What Sluice adds follows in brackets.
const (
	textHourly    = "%s has exceeded the max emails per %s (%s) allowed.  Message %s"
	textWatched   = "%s has exceeded the max emails (%s) allowed.  Watched only, not refused"
	textGone      = "The client has closed its connection before it was known who it is.  Message will be reattempted later"
	textUncounted = "%s cannot be counted now.  Message will be reattempted later"

	reattempted = "will be reattempted later"
	discarded   = "discarded."
)

// text words a refusal: who exceeded which limit by how much, what is counted, when there
// is room, and where the limit comes from.
func (r *refusal) text(node string) sidecar.RefusalText {
	if r.use.Withheld {
		return r.textWithheld(node)
	}
	what, room := reattempted, "more than the limit at once"
	if r.action != sidecar.Defer {
		what = discarded
	}
	if !r.frees.IsZero() {
		room = "room at " + r.frees.Format("2006-01-02 15:04:05 -0700")
	}
	return sidecar.RefusalText{
		Text:  fmt.Sprintf(textHourly, r.title, r.per, sidecar.Ratio(r.attempted, r.use.Limit.Max), what),
		Why:   fmt.Sprintf("%d sent in %s; %s", r.use.Used, sidecar.Span(r.use.Limit.Window), room),
		Where: fmt.Sprintf("limit from %s; sluice on %s", r.origin, node),
	}
}

func emitRefused(events event.Sink, r *sidecar.Request, a sidecar.Action, text string, c sidecar.Culprit) {
	if events.Enabled(event.Refused) {
		events.Emit(event.Event{Kind: event.Refused, Attrs: append(event.Attrs("stage", r.Stage, "action", a, "id", r.ID, "sender", r.Sender, "text", text), c.Attrs()...)})
	}
}

func emitWatched(events event.Sink, r *sidecar.Request, who, ratio string) {
	if events.Enabled(event.Watched) {
		events.Emit(event.Event{Kind: event.Watched, Attrs: event.Attrs("stage", r.Stage, "id", r.ID, "sender", r.Sender, "over", who, "sent", ratio)})
	}
}
