package attribution

import (
	"slices"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/cluster"
	"sluice/sidecar/sketch"
)

// others are what other nodes have told of a subject.
func (a *Attribution) others(now time.Time, subject string) []cluster.Report {
	if a.Others == nil {
		return nil
	}
	return a.Others(now, subject)
}

// add adds what another node has told. As in fill, Unattributed is what is attributed.
func (r *Report) add(o *cluster.Report) {
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

// add adds what an author has sent on another node. Recipients are about right: who was sent
// to from both is counted twice.
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

// joined adds shares that another node has told, of which none is more than all.
func joined(own []Share, more []cluster.Share, all int64) []Share {
	counts := map[string]int64{}
	for _, s := range own {
		counts[s.Name] = s.Sent
	}
	for _, s := range more {
		counts[s.Name] += s.Sent
	}
	return shares(counts, all)
}

// candidates are who may have most of something, on any node.
type candidates map[string]candidate

type candidate struct {
	sidecar.Author
	n int64
}

func (c *candidates) add(who *sidecar.Author, n int64) {
	if *c == nil {
		*c = candidates{}
	}
	if n > 0 {
		(*c)[who.Key] = candidate{*who, (*c)[who.Key].n + n}
	}
}

func (c candidates) most() (who sidecar.Author, n int64) {
	for key, x := range c {
		if x.n > n || x.n == n && key < who.Key {
			who, n = x.Author, x.n
		}
	}
	return who, n
}

// Told is what other nodes are told of a subject; false: nothing is known of its authors.
func (a *Attribution) Told(now time.Time, name string) (t cluster.Report, known bool) {
	own := Report{Domain: name}
	known = a.look(now, name, func(s *subject, from int64) {
		a.fill(&own, s, now)
		newest := map[string]int64{}
		for id, n := range sketch.Sums(s.panes, from+1, a.scratch) {
			newest[a.authors.all[id].Key] = max(0, n.Sent-n.Err)
		}
		t.Tried = own.Tried
		for _, x := range own.Authors[:min(len(own.Authors), cluster.MaxAuthors)] {
			who := a.authors.all[a.authors.numbers[x.Key]]
			t.Authors = append(t.Authors, cluster.Author{Key: x.Key, Proof: who.Proof, Account: who.Account, First: x.FirstSeen.Unix(),
				Tried: x.Tried, Sent: x.Sent, Error: x.Error, Newest: newest[x.Key], Causes: x.Causes, Evidence: evidenceOf(&x)})
		}
	})
	a.locked(func() { t.AddUsual(a.usual.Of(name), a.day(a.number(now, now))) })
	return t, known || t.Quota > 0
}

// toldShares is how many of an author's networks, and of the domains it sends to, other nodes are told.
const toldShares = 3

func evidenceOf(x *Author) *cluster.Evidence {
	told := func(list []Share) (to []cluster.Share) {
		for _, s := range list[:min(len(list), toldShares)] {
			to = append(to, cluster.Share{Name: s.Name, Sent: s.Sent})
		}
		return to
	}
	return &cluster.Evidence{Networks: told(x.Networks), More: x.MoreNetworks || len(x.Networks) > toldShares, Recipients: x.Recipients, Senders: x.Senders,
		Destinations: told(x.Destinations), Subject: x.Subject, SubjectCount: x.SubjectCount, Header: x.Header}
}
