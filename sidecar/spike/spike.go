package spike

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
)

// A Volume is what an author has tried to send in the last hour, where it may be a spike.
type Volume struct {
	Author  string
	Tried   int64 // distinct ones that were refused too
	Most    int64 // that is no spike
	Busiest int64 // sends in its busiest hour of the last 35 days

	Expected bool // an operator has said that so many are fine
}

// A Watch finds spikes.
type Watch struct {
	Options
	mu  sync.Mutex
	all map[author]spike
}

type author struct{ subject, key string }

type spike struct {
	Volume
	seen time.Time
}

// Options are what a Watch is made with; all are needed.
type Options struct {
	Events   event.Sink
	Settings func() *settings.Settings
	// Volumes returns those of a domain's authors of whom it is known what is usual.
	Volumes func(now time.Time, domain string) []Volume
}

// New returns a Watch that has seen no spike yet.
func New(o Options) *Watch { return &Watch{Options: o, all: map[author]spike{}} }

// Survey finds spikes, and emits one event for each.
func (w *Watch) Survey(now time.Time) (each func(ratelimit.Standing), done func()) {
	s := w.Settings()
	each = func(st ratelimit.Standing) {
		if sidecar.IsDomain(st.Name) && st.Sent(s.Window)+st.Refused > s.Config.Spike.Least && w.watched(s, st.Name) {
			for _, v := range w.Volumes(now, st.Name) {
				switch of := (author{st.Name, v.Author}); {
				case v.Tried > v.Most:
					w.found(now, of, v)
				case v.Expected:
					w.mu.Lock()
					delete(w.all, of)
					w.mu.Unlock()
				}
			}
		}
	}
	return each, func() {
		w.mu.Lock()
		maps.DeleteFunc(w.all, func(_ author, sp spike) bool { return now.Sub(sp.seen).Abs() > s.Window })
		w.mu.Unlock()
	}
}

func (w *Watch) watched(s *settings.Settings, domain string) bool {
	is := limit.InForce(s.Table, s.PayerOfScope(domain), func(t *limit.Thresholds) *limit.Spike { return t.Spike })
	return is == limit.SpikeWatch
}

// found records a spike, and emits an event if it is new.
func (w *Watch) found(now time.Time, of author, v Volume) {
	w.mu.Lock()
	_, again := w.all[of]
	w.all[author{strings.Clone(of.subject), strings.Clone(of.key)}] = spike{v, now}
	w.mu.Unlock()
	if !again {
		w.Events.Emit(event.Event{Kind: event.Spike, At: now, Domain: of.subject, Attrs: event.Attrs("scope", of.key, "sends", v.Tried, "busiest_hour", v.Busiest)})
	}
}

// Has reports whether an author has a spike now: it had one at the last surveys.
func (w *Watch) Has(now time.Time, domain, key string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	sp, is := w.all[author{domain, key}]
	return is && now.Sub(sp.seen).Abs() < surveyed
}

// surveyed is within which time each domain is surveyed again: that is once a minute.
const surveyed = 150 * time.Second

// Mark returns what `sluice who` prints beside an author that has a spike; "" if it has none.
func (w *Watch) Mark(domain, key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	sp, is := w.all[author{domain, key}]
	if !is {
		return ""
	}
	return fmt.Sprintf("SPIKE %d/h, busiest hour in 35 days %d", sp.Tried, sp.Busiest)
}
