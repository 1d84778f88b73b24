package delivery

import (
	"context"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
)

// sends are those that were charged when a client had sent a message.
type sends struct {
	subject string // whose they are
	tokens  []ratelimit.Token
}

// MayBeLost notes the sends that were charged while Exim received a message. They may still come to
// nothing: where the client does not wait for the answer, Exim drops the message, and logs that. A
// client whose patience ends before a slow content scanner does sends the message again and again,
// and each would cost it all of its recipients. A crash before the log has told forgets them: then
// they stay charged.
func (d *Recorder) MayBeLost(subject, id string, to []envelope.Address) {
	d.messages.asked.sends.put(id, sends{strings.Clone(subject), d.settings().AppendTokens(nil, id, to)})
}

// lost takes the sends of a message that Exim has dropped off all counts.
func (d *Recorder) lost(ctx context.Context, now time.Time, id string) {
	c, known := d.messages.asked.sends.take(id)
	if !known {
		return
	}
	if err := d.store.Uncharge(ctx, d.clock.Store(now), c.tokens); err != nil {
		d.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
		return
	}
	d.reconcileSoon(c.subject)
}
