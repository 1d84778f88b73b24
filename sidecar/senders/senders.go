package senders

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/cluster"
	"sluice/sidecar/logline"
	"sluice/sidecar/printable"
	"sluice/sidecar/sketch"
)

// A Who is what `sluice who` shows.
type Who struct {
	Node    string    `json:"node"`
	Now     time.Time `json:"now"`
	Seconds float64   `json:"seconds"` // the window: what was sent in it
	Domains []Report  `json:"domains"` // and what else is charged
	Missing []string  `json:"missing"` // nodes of which nothing was heard for half a minute: what they know is in nothing

	Uncounted []Unpaid `json:"uncounted"` // of all domains and none: what nobody pays for, by reason
}

// A Report is who sends of a domain, or of what else is charged. Numbers of authors are
// about right, and never too low.
type Report struct {
	Domain       string      `json:"domain"`
	Sent         int64       `json:"sent"`         // in the window, by all nodes
	Tried        int64       `json:"tried"`        // with the distinct ones that were refused
	Refused      int64       `json:"refused"`      // as in status
	Limit        int64       `json:"limit"`        // 0 is unlimited
	FullAt       *time.Time  `json:"full_at"`      // at this rate; null: not within a window
	Unattributed int64       `json:"unattributed"` // of Sent, whose author is not known
	Uncounted    []Unpaid    `json:"uncounted"`    // beside Sent: what nobody pays for, by reason
	Authors      []Author    `json:"authors"`      // who has tried most first
	CalledSpam   *CalledSpam `json:"called_spam"`  // null: no server has
	Nodes        []string    `json:"nodes"`        // that this is from, but for the one that was asked
}

// An Author is what one of them has sent.
type Author struct {
	Key          string                  `json:"key"`
	Kind         string                  `json:"kind"`   // mailbox, script, login, forward, client, service or loopback
	Proof        string                  `json:"proof"`  // proven, claimed or none
	Parent       string                  `json:"parent"` // the account; empty if unknown
	Tried        int64                   `json:"tried"`
	Sent         int64                   `json:"sent"`
	Error        int64                   `json:"error"` // by which Tried and Sent may be too high
	Share        int64                   `json:"share"` // of the domain's Tried, in percent
	Bad          int64                   `json:"bad"`   // deferred or failed
	Causes       map[sidecar.Cause]int64 `json:"causes"`
	Networks     []Share                 `json:"networks"`      // of clients, the most frequent first
	MoreNetworks bool                    `json:"more_networks"` // there were others
	Recipients   int64                   `json:"recipients"`    // distinct ones, about; 0: not known
	Senders      int64                   `json:"senders"`       // likewise
	Destinations []Share                 `json:"destinations"`  // domains of recipients
	Subject      string                  `json:"subject,omitempty"`
	SubjectCount int64                   `json:"subject_count,omitempty"`
	Header       string                  `json:"header,omitempty"` // what a script says of itself
	FirstSeen    time.Time               `json:"first_seen"`
	Spike        string                  `json:"spike,omitempty"`
	Stopped      string                  `json:"stopped,omitempty"`
}

// A Share is how many of what an author has tried, about, have something in common.
type Share struct {
	Name  string `json:"name"`
	Tried int64  `json:"tried"` // what was refused of it too
}

// An Unpaid is how much was sent that nobody pays for, for a reason.
type Unpaid struct {
	Name string `json:"name"`
	Sent int64  `json:"sent"`
}

// CalledSpam is what other servers have said of a subject's mail.
type CalledSpam struct {
	Servers []string  `json:"servers"`
	Text    string    `json:"text"` // the last answer
	At      time.Time `json:"at"`
}

// Of are the entries of an author, one for each domain at whose expense it sends.
func (w *Who) Of(author string) (all []Author) {
	for _, r := range w.Domains {
		for _, a := range r.Authors {
			if a.Key == author {
				all = append(all, a)
			}
		}
	}
	return all
}

// Sort sorts authors by how much they have tried to send, the most first.
func (r *Report) Sort() {
	slices.SortFunc(r.Authors, func(a, b Author) int {
		return cmp.Or(cmp.Compare(b.Tried, a.Tried), cmp.Compare(b.Sent, a.Sent), cmp.Compare(a.Key, b.Key))
	})
}

// Add adds the report of another node. Until all are added, Unattributed counts the sends that are
// attributed: package attribution subtracts them from Sent in the end.
func (r *Report) Add(o *cluster.Report) {
	r.Nodes = append(r.Nodes, o.Node)
	r.Tried += o.Tried
	for i := range o.Authors {
		x := &o.Authors[i]
		if x.Tried == 0 && len(x.Causes) == 0 { // told for what is usual
			continue
		}
		r.Unattributed += max(0, x.Sent-x.Error)
		at := slices.IndexFunc(r.Authors, func(to Author) bool { return to.Key == x.Key })
		if at < 0 {
			at = len(r.Authors)
			of := sidecar.Author{Key: x.Key}
			r.Authors = append(r.Authors, Author{Key: x.Key, Kind: of.Kind(), Proof: x.Proof.String(), Parent: x.Account,
				Causes: map[sidecar.Cause]int64{}, Networks: []Share{}, Destinations: []Share{}, FirstSeen: time.Unix(x.First, 0)})
		}
		r.Authors[at].add(x)
	}
}

// add adds what an author has sent on another node. Recipients is approximate: a recipient of both
// nodes is counted twice.
func (to *Author) add(x *cluster.Author) {
	to.Tried, to.Sent, to.Error = to.Tried+x.Tried, to.Sent+x.Sent, to.Error+x.Error
	for cause, n := range x.Causes {
		to.Causes[cause] += n
		to.Bad += n
	}
	if first := time.Unix(x.First, 0); first.Before(to.FirstSeen) {
		to.FirstSeen = first
	}
	if e := x.Evidence; e != nil {
		to.Networks, to.Destinations = joined(to.Networks, e.Networks, to.Tried), joined(to.Destinations, e.Destinations, to.Tried)
		to.MoreNetworks = to.MoreNetworks || e.More
		to.Recipients, to.Senders = min(to.Recipients+e.Recipients, to.Tried), max(to.Senders, e.Senders)
		if e.SubjectCount > to.SubjectCount {
			to.Subject, to.SubjectCount = e.Subject, e.SubjectCount
		}
		if to.Header == "" {
			to.Header = e.Header
		}
	}
}

// joined adds up the shares of two nodes, each at most all.
func joined(own []Share, more []cluster.Share, all int64) []Share {
	counts := map[string]int64{}
	for _, s := range own {
		counts[s.Name] = s.Tried
	}
	for _, s := range more {
		counts[s.Name] += s.Tried
	}
	return Shares(counts, all)
}

// maxServers bounds the servers that are named.
const maxServers = 8

// And adds an outcome if a server has called the mail spam, and returns c, or a new one if c is nil.
func (c *CalledSpam) And(o *logline.Outcome) *CalledSpam {
	if o.Cause != sidecar.CalledSpam {
		return c
	}
	if c == nil {
		c = &CalledSpam{}
	}
	server := cmp.Or(o.Entry.Host, o.To)
	if !slices.Contains(c.Servers, server) && len(c.Servers) < maxServers {
		c.Servers = append(c.Servers, strings.Clone(server))
	}
	text := o.Entry.Text
	c.Text, c.At = strings.Clone(text[:min(len(text), sketch.MaxText)]), o.Entry.At
	return c
}

// Shares lists counts, each at most all, the largest first.
func Shares(counts map[string]int64, all int64) []Share {
	list := make([]Share, 0, len(counts))
	for name, n := range counts {
		list = append(list, Share{printable.Of(name), min(n, all)})
	}
	slices.SortFunc(list, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Tried, a.Tried), cmp.Compare(a.Name, b.Name)) })
	return list
}
