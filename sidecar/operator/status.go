package operator

import (
	"cmp"
	"slices"
	"time"

	"sluice/sidecar/attribution"
	"sluice/sidecar/deferfail"
	"sluice/sidecar/limit"
	"sluice/sidecar/live"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/logline"
	"sluice/sidecar/refusal"
	"sluice/sidecar/senders"
	"sluice/sidecar/totals"
)

// A Status is what `sluice status` shows of a node.
type Status struct {
	Node    string            `json:"node"`
	Now     time.Time         `json:"now"`
	Domains []DomainStatus    `json:"domains"`
	Scopes  []ScopeStatus     `json:"scopes"` // mailboxes, accounts and special subjects
	Stops   []StopStatus      `json:"stops"`  // in force; of a domain those of its authors and of its account
	Totals  Totals            `json:"totals"`
	Config  live.ConfigStatus `json:"config"`

	Quarantine *Quarantine `json:"quarantine"` // null where Exim's queue is not followed
}

// A Quarantine is what operators have taken out of Exim's queue, and nobody has removed.
type Quarantine struct {
	Messages int64     `json:"messages"`
	Size     int64     `json:"size"`   // bytes of the bodies
	Oldest   time.Time `json:"oldest"` // when it arrived
}

// A DomainStatus is the state of one domain: its sends in the window of hourly limits,
// their outcomes, its limits, locks and blocks.
type DomainStatus struct {
	Domain  string `json:"domain"`
	Account string `json:"account"` // owner, empty if unknown
	Counts
	refusal.Watch
	Usage
	DeferfailStatus
	Locks   []LockStatus `json:"locks"`
	FreesAt *time.Time   `json:"frees_at"` // when the next send is accepted; null if now, or if it is blocked
	Held    int          `json:"held"`     // recipients that wait in Exim's queue
	Mode    limit.Mode   `json:"mode"`     // enforce; watch; exempt: nothing of it is charged
	Blocked
	Authors []senders.Author `json:"authors"` // who has tried to send most, where one domain is asked about
	Partial bool             `json:"partial"` // the shared store does not answer: counts are this node's, or the last seen of all
}

// Counts are the sends in the window of hourly limits, and what became of them.
type Counts struct {
	Sent      int64 `json:"sent"`
	Refused   int64 `json:"refused"` // distinct sends refused since the limit was reached, or all is blocked; 0 by limits that are watched
	Delivered int64 `json:"delivered"`
	Deferred  int64 `json:"deferred"`
	Failed    int64 `json:"failed"`
}

// A Usage is how much of its limits a domain has used.
type Usage struct {
	Hourly        int64    `json:"hourly"`         // limit; 0 is unlimited
	HourlyPercent int64    `json:"hourly_percent"` // sent of hourly, rounded down; 0 if unlimited
	Windows       []Window `json:"windows"`        // that of hourly first
}

// A DeferfailStatus is how a domain stands with its defers and failures.
type DeferfailStatus struct {
	DeferfailPercent int64                   `json:"deferfail_percent"` // limit
	DeferfailNow     int64                   `json:"deferfail_now"`     // bad outcomes of sent, in percent, rounded down
	DeferfailMin     int64                   `json:"deferfail_min"`
	Causes           []deferfail.CauseStatus `json:"causes"`     // of Deferred and Failed, the most frequent first
	LeftOut          []deferfail.LeftOut     `json:"left_out"`   // of them, what does not count towards a trip
	Trip             *deferfail.TripStatus   `json:"trip"`       // null: it is not tripped
	WouldTrip        *deferfail.TripStatus   `json:"would_trip"` // the trip that there would be if limits were not only watched; null: none
}

// Blocked says whether an operator or the panel lets a domain send nothing.
type Blocked struct {
	Stopped   string `json:"stopped"`    // the refusal that its clients get; empty if it is not blocked
	StoppedBy string `json:"stopped_by"` // "operator", "stop" or "panel"; empty if it is not blocked
}

// A ScopeStatus is the state of a mailbox or an account that a limit names, or has named,
// or that is blocked, or of a special subject. Only domains have lock files.
type ScopeStatus struct {
	Scope string `json:"scope"` // news@example.com, account:bob, service:www-data
	Counts
	refusal.Watch
	DeferfailStatus            // only of special subjects
	Windows         []Window   `json:"windows"`
	FreesAt         *time.Time `json:"frees_at"` // when the next send has room here; null if now
	Held            int        `json:"held"`     // recipients that wait in Exim's queue: of a special subject
	Mode            limit.Mode `json:"mode"`     // as in DomainStatus
	Stopped         string     `json:"stopped"`  // as in DomainStatus

	StoppedBy string `json:"stopped_by"` // as in DomainStatus
	Partial   bool   `json:"partial"`    // as in DomainStatus
}

// A Window is what is used of one limit.
type Window struct {
	Seconds float64 `json:"seconds"`
	Sent    int64   `json:"sent"`
	Limit   int64   `json:"limit"`   // 0 is unlimited
	Percent int64   `json:"percent"` // sent of limit, rounded down; 0 if unlimited
}

// ByUrgency sorts first what an operator looks for: locked domains, then those with held
// mail, then those of which watched limits would have refused most, then those nearest to
// their limit.
func ByUrgency(domains []DomainStatus) []DomainStatus {
	return slices.SortedFunc(slices.Values(domains), func(a, b DomainStatus) int {
		return cmp.Or(
			cmp.Compare(min(len(b.Locks)+len(b.StoppedBy), 1), min(len(a.Locks)+len(a.StoppedBy), 1)),
			cmp.Compare(min(b.Held, 1), min(a.Held, 1)),
			cmp.Compare(b.Watch.Sends, a.Watch.Sends),
			cmp.Compare(b.Watch.Trips, a.Watch.Trips),
			cmp.Compare(Tightest(b.Windows).Percent, Tightest(a.Windows).Percent),
			cmp.Compare(b.Sent, a.Sent),
			cmp.Compare(a.Domain, b.Domain),
		)
	})
}

// Tightest returns the fullest window, the first of equals.
func Tightest(windows []Window) (t Window) {
	for i, w := range windows {
		if i == 0 || w.Percent > t.Percent {
			t = w
		}
	}
	return t
}

// A LockStatus is one lock file of a domain.
type LockStatus struct {
	Kind  lockfile.Kind `json:"kind"`
	Since time.Time     `json:"since"`
	Until *time.Time    `json:"until"` // null: until an operator removes it, or nobody can tell
	Owner string        `json:"owner"` // "sluice" or "operator"
}

// Totals are counters of the node since its start, and states of it as a whole.
type Totals struct {
	totals.Decisions
	Late      int64              `json:"late"`      // sends charged from the log, because Sluice was not asked about them
	Uncounted int64              `json:"uncounted"` // charges let pass because store.max_subjects was reached
	Subjects  int64              `json:"subjects"`  // subjects counted now
	Sends     int64              `json:"sends"`     // sends kept now
	Held      int64              `json:"held"`      // recipients that wait in Exim's queue
	Journal   string             `json:"journal"`   // "ok", or why what is answered would not survive a crash
	Logs      []logline.Progress `json:"logs"`      // of each log that is followed
	Locks     string             `json:"locks"`     // "ok", or why lock files cannot be made or removed
	Sockets   string             `json:"sockets"`   // "ok", or why it is not known whose programs on this host send over SMTP

	Who attribution.Status `json:"who"` // what is known of who sends

	Shared *SharedStatus `json:"shared"` // null where no other node shares the counts
}

// A SharedStatus is the state of the store that several nodes share.
type SharedStatus struct {
	Mode     string         `json:"mode"`         // "shared", or the store.outage by which this node decides alone
	Changes  int64          `json:"mode_changes"` // of this node since its start
	Unmerged int            `json:"unmerged"`     // changes of this node that are not in the shared store yet
	Of       int64          `json:"of"`           // store.nodes
	Namesake bool           `json:"namesake"`     // another live node has this one's name
	Servers  []ServerStatus `json:"servers"`
	Nodes    []NodeStatus   `json:"nodes"` // by name, this one included
}

// A ServerStatus is the state of one server of the shared store.
type ServerStatus struct {
	Server       string    `json:"server"`
	Mode         string    `json:"mode"` // see SharedStatus
	Since        time.Time `json:"since"`
	Milliseconds float64   `json:"milliseconds"` // that it took to answer the last sign of life of this node
	Trouble      string    `json:"trouble"`      // why it does not decide
	Blocked      bool      `json:"blocked"`      // because this host itself lets nothing be sent to it
	Evicts       string    `json:"evicts"`       // its maxmemory-policy, if that drops counters; else empty
	BadKey       string    `json:"bad_key"`      // what it answered within a minute about a key that cannot be used; else empty
}

// Reached reports whether a server answers, so that what is known of the nodes is of now.
func (s *SharedStatus) Reached() bool {
	return slices.ContainsFunc(s.Servers, func(server ServerStatus) bool { return server.Mode == "shared" })
}

// A NodeStatus is one of the nodes that share the store, by its last sign of life.
type NodeStatus struct {
	Node         string  `json:"node"`
	SignAge      float64 `json:"sign_age"` // seconds since its last sign
	Mode         string  `json:"mode"`     // see SharedStatus
	Milliseconds float64 `json:"milliseconds"`
	Differs      bool    `json:"differs"`  // its limits are not those of this node
	Namesake     bool    `json:"namesake"` // two live nodes have its name
}
