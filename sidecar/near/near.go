package near

import (
	"maps"
	"slices"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/printable"
	"sluice/sidecar/settings"
)

const (
	nearPercent = 80               // of a limit: near
	followed    = 50               // percent of a limit, from which on its use is sampled
	lately      = 10 * time.Minute // whose growth is extrapolated
	soon        = time.Hour        // in which the limit must become full for an event
	sampleEvery = time.Minute
	maxFollowed = 10_000 // subjects with a limit
)

// A Near finds whose limits will soon be used up.
type Near struct {
	Options
	surveyed time.Time // the last time; used by surveys alone

	mu  sync.Mutex
	all map[subject]*use
}

// Options are what a Near is made with; all are needed.
type Options struct {
	Events   event.Sink
	Settings func() *settings.Settings
	Culprit  func(now time.Time, subject string) sidecar.Culprit // who sends most of a subject, as far as is known
}

// subject is somebody with a limit.
type subject struct {
	name   string
	window time.Duration
}

// use is what somebody has used of a limit.
type use struct {
	ratelimit.Use
	samples []sample // the oldest first; of the last ten minutes, about
	emitted time.Time
	seen    time.Time
}

type sample struct {
	at   time.Time
	used int64
}

// New returns a Near that follows nobody yet.
func New(o Options) *Near { return &Near{Options: o, all: map[subject]*use{}} }

// Survey follows who has used half of a limit, and tells whose will be full soon, once in the
// window of the limit.
func (n *Near) Survey(now time.Time) (each func(ratelimit.Standing), done func()) {
	s := n.Settings()
	each = func(st ratelimit.Standing) {
		for _, limit := range s.LimitsOf(st.Name) {
			u := ratelimit.Use{Subject: st.Name, Limit: limit, Used: st.Sent(limit.Window)}
			if limit.Max > 0 && u.Used*100 >= limit.Max*followed && s.Enforces(st.Name) {
				n.follow(now, u)
			}
		}
	}
	return each, func() {
		n.surveyed = now
		n.mu.Lock()
		maps.DeleteFunc(n.all, func(of subject, u *use) bool {
			return u.seen.Before(now) && now.Sub(u.emitted) > of.window // it has less than half
		})
		n.mu.Unlock()
	}
}

// follow takes in what somebody has used now.
func (n *Near) follow(now time.Time, u ratelimit.Use) {
	of := subject{u.Subject, u.Limit.Window}
	n.mu.Lock()
	one := n.all[of]
	if one == nil && len(n.all) < maxFollowed {
		one = &use{}
		n.all[of] = one
	}
	if one == nil {
		n.mu.Unlock()
		return
	}
	if one.seen.IsZero() || one.seen.Before(n.surveyed) { // at the last survey it had less than half
		one.samples = nil
		if !n.surveyed.IsZero() {
			one.samples = []sample{{n.surveyed, u.Limit.Max * followed / 100}}
		}
	}
	one.Use, one.seen = u, now
	one.samples = slices.DeleteFunc(one.samples, func(s sample) bool { return now.Sub(s.at) > lately })
	at, is := one.fullAt(now)
	one.sample(now)
	tell := is && one.near() && now.Sub(one.emitted) > of.window
	if tell {
		one.emitted = now
	}
	n.mu.Unlock()
	if tell {
		n.emit(now, u, at)
	}
}

// sample keeps what is used, once a minute.
func (u *use) sample(now time.Time) {
	if k := len(u.samples); k == 0 || now.Sub(u.samples[k-1].at) >= sampleEvery {
		u.samples = append(u.samples, sample{now, u.Used})
	}
}

// near reports whether most of the limit is used, though not all of it.
func (u *use) near() bool { return u.Used*100 >= u.Limit.Max*nearPercent && u.Used < u.Limit.Max }

// fullAt returns when the limit is full if what is used grows as in the last ten minutes, in
// which sends have left the window too; false if that is not within the hour.
func (u *use) fullAt(now time.Time) (time.Time, bool) {
	if len(u.samples) == 0 {
		return time.Time{}, false
	}
	first := u.samples[0]
	grown, took := u.Used-first.used, now.Sub(first.at)
	if grown <= 0 || took <= 0 {
		return time.Time{}, false
	}
	wait := time.Duration(float64(took) * float64(u.Limit.Max-u.Used) / float64(grown))
	return now.Add(wait), wait <= soon
}

func (n *Near) emit(now time.Time, u ratelimit.Use, full time.Time) {
	e := event.Event{Kind: event.Near, At: now, Domain: u.Subject}
	if sidecar.IsMailbox(u.Subject) {
		e.Domain, e.Attrs = envelope.DomainOf(u.Subject), event.Attrs("scope", u.Subject)
	}
	e.Attrs = append(e.Attrs, event.Attrs("used", printable.Ratio(u.Used, u.Limit.Max), "limit", printable.WindowName(u.Limit.Window), "full_in", printable.Brief(full.Sub(now)))...)
	e.Attrs = append(e.Attrs, n.Culprit(now, u.Subject).Attrs()...)
	n.Events.Emit(e)
}

// Is reports whether somebody has used most of a limit, or all of it.
func (n *Near) Is(st ratelimit.Standing) bool {
	return slices.ContainsFunc(n.Settings().LimitsOf(st.Name), func(l ratelimit.Limit) bool {
		return l.Max > 0 && st.Sent(l.Window)*100 >= l.Max*nearPercent
	})
}
