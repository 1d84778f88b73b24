package attribution

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/cluster"
	"sluice/sidecar/senders"
	"sluice/sidecar/sketch"
)

// others are what other nodes have told of a subject.
func (a *Attribution) others(now time.Time, subject string) []cluster.Report {
	if a.Others == nil {
		return nil
	}
	return a.Others(now, subject)
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

// ForOthers is what other nodes are told of a subject; false: nothing is known of its authors.
func (a *Attribution) ForOthers(now time.Time, name string) (t cluster.Report, known bool) {
	own := senders.Report{Domain: name}
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

func evidenceOf(x *senders.Author) *cluster.Evidence {
	told := func(list []senders.Share) (to []cluster.Share) {
		for _, s := range list[:min(len(list), toldShares)] {
			to = append(to, cluster.Share{Name: s.Name, Tried: s.Tried})
		}
		return to
	}
	return &cluster.Evidence{Networks: told(x.Networks), More: x.MoreNetworks || len(x.Networks) > toldShares, Recipients: x.Recipients, Senders: x.Senders,
		Destinations: told(x.Destinations), Subject: x.Subject, SubjectCount: x.SubjectCount, Header: x.Header}
}
