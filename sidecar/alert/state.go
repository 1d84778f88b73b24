package alert

import (
	"slices"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/incident"
)

// A sent is a notice of the last hour.
type sent struct {
	At      time.Time `json:"at"`
	Kind    sentKind  `json:"kind"`
	Account string    `json:"account,omitempty"`
}

// A sentKind is a budget out of which a notice is sent.
type sentKind string

const (
	plain    sentKind = "plain"
	critical sentKind = "critical" // the opening of what is critical
	overflow sentKind = "overflow" // the digest of what had no room: one an hour
	actions  sentKind = "actions"  // what operators have done
	accounts sentKind = "accounts" // the digest of accounts that have had their notices: one an hour
)

// perAccount is how many notices an hour are about one account; further incidents come as lines of a digest.
const perAccount = 3

// A record is what was sent on a channel. It is a file, which is written after the notices are.
type record struct {
	Since time.Time                    `json:"since"` // when the channel was configured: what had ended before is not sent
	Next  int64                        `json:"next"`  // number of the next notice
	Last  map[string]incident.Notified `json:"told"`  // by incident
	Sent  []sent                       `json:"sent"`  // in the last hour
}

// forget drops what is older than an hour.
func (r *record) forget(now time.Time) {
	r.Sent = slices.DeleteFunc(r.Sent, func(s sent) bool { return now.Sub(s.At) >= time.Hour })
}

// number counts the notices of the last hour for which f is true.
func (r *record) number(f func(sent) bool) (n int64) {
	for _, s := range r.Sent {
		if f(s) {
			n++
		}
	}
	return n
}

// room reports whether one more notice of a kind may be sent now. A digest of accounts is one of
// the plain notices too.
func (r *record) room(kind sentKind, perHour int64) bool {
	return r.number(func(s sent) bool { return s.Kind == kind || kind == plain && s.Kind == accounts }) < perHour
}

// accountFull reports whether an account has had its notices of this hour.
func (r *record) accountFull(account string) bool {
	return account != "" && r.number(func(s sent) bool { return s.Account == account }) >= perAccount
}

// culpritOf is the same as long as the culprit is, and stopped or not.
func culpritOf(i *incident.Incident) string {
	if i.Culprit.Stopped {
		return i.Culprit.Author + " stopped"
	}
	return i.Culprit.Author
}

// A rule says, from the configuration, which notices a channel gets and when.
type rule struct {
	config.Channel
	wait, repeat time.Duration
	perHour      int64
}

// wants reports whether a channel is for an incident.
func (c *rule) wants(i *incident.Incident) bool {
	var least incident.Severity
	if least.UnmarshalText([]byte(c.AtLeast)) != nil || i.Severity < least {
		return false
	}
	return len(c.Domains) == 0 || slices.Contains(c.Domains, i.Domain)
}

// due returns which notice about an incident is due on a channel now; "" if none. About an incident
// that is over and was never notified, the first notice says that it was opened.
func (r *record) due(now time.Time, c *rule, i named) State {
	t, known := r.Last[i.name]
	wait := c.wait
	if i.Severity == incident.Critical && t.Severity < incident.Critical {
		wait = 0
	}
	switch {
	case !known:
		return r.dueFirst(now, c, i.Incident, wait)
	case t.Closed && i.Open():
		return StateOpen
	case t.Closed, t.Digest && !i.Open():
		return ""
	case !i.Open():
		return StateClosed
	case now.Sub(t.At) < wait:
		return ""
	case i.Severity > t.Severity, culpritOf(i.Incident) != t.Culprit:
		return StateChanged
	case now.Sub(t.At) >= c.repeat:
		return StateStill
	}
	return ""
}

// dueFirst is due for an incident without any notice yet.
func (r *record) dueFirst(now time.Time, c *rule, i *incident.Incident, wait time.Duration) State {
	switch {
	case !c.wants(i), now.Sub(i.Opened) < wait:
		return ""
	case !i.Open() && (i.Closed.Before(r.Since) || i.Closed.Sub(i.Opened) < wait):
		return "" // it ended before the channel was configured, or was too short to be worth a notice
	}
	return StateOpen
}
