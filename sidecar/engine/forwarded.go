package engine

import (
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/stop"
)

// forwarded is an Observer that has operators told of forwarders whose mail other servers call spam: strangers chose
// what it is, so nobody is refused or stopped for it, but the reputation of this host pays.
type forwarded struct {
	events event.Sink
	by     map[string]*calledSpam // by author
}

type calledSpam struct {
	since time.Time // of the first one that counts
	sends int
}

const (
	forwardedSpam  = 3 // sends in an hour, before it is told, once in that hour
	maxForwarders  = 1000
	forwardedEvery = time.Hour
)

// Recorded implements delivery.Observer.
func (f forwarded) Recorded(now time.Time, news []logline.Outcome) {
	for _, o := range news {
		if o.Cause != sidecar.CalledSpam || o.Author == nil || o.Author.Kind() != "forward" {
			continue
		}
		c := f.by[o.Author.Key]
		if c == nil || now.Sub(c.since) >= forwardedEvery {
			if len(f.by) >= maxForwarders {
				clear(f.by)
			}
			c = &calledSpam{since: now}
			f.by[strings.Clone(o.Author.Key)] = c
		}
		if c.sends++; c.sends == forwardedSpam {
			f.events.Emit(event.Event{Kind: event.Forwarded, At: now, Domain: stop.DomainOf(o.Author.Key),
				Attrs: event.Attrs("scope", o.Author.Key, "sends", c.sends, "to", o.To, "reply", o.Entry.Text)})
		}
	}
}
