package attribution

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/printable"
	"sluice/sidecar/senders"
	"sluice/sidecar/sketch"
)

// Of returns who sends of a subject; false if nothing is known of its authors.
func (a *Attribution) Of(now time.Time, name string) (r senders.Report, known bool) {
	counts, others := a.Counts(now, name), a.others(now, name)
	r = senders.Report{Domain: printable.Of(name), Sent: counts.Sent, Refused: counts.Refused, Limit: counts.Limit, Authors: []senders.Author{}, Nodes: []string{},
		Uncounted: a.Uncounted(now, name)}
	known = a.look(now, name, func(s *subject, _ int64) { a.fill(&r, s, now) })
	for i := range others {
		known = true
		r.Add(&others[i])
	}
	r.Tried, r.Unattributed = max(r.Tried, r.Sent+r.Refused), max(0, r.Sent-r.Unattributed)
	for i := range r.Authors {
		x := &r.Authors[i]
		if x.Tried, x.Sent = min(x.Tried, r.Tried), min(x.Sent, r.Sent); r.Tried > 0 {
			x.Share = x.Tried * 100 / r.Tried
		}
	}
	r.Sort()
	return r, known
}

// fill adds what is known of a subject to its report. Unattributed is what is attributed.
func (t *table) fill(r *senders.Report, s *subject, now time.Time) {
	number := t.number(now, now)
	for i := range s.panes {
		if p := &s.panes[i]; p.Number >= number-parts {
			r.Tried, r.Unattributed = r.Tried+p.Tried, r.Unattributed+p.Sent
		}
	}
	if r.Sent == 0 && t.length == 0 { // there is no store
		r.Sent = r.Unattributed
		r.Refused = r.Tried - r.Sent
	}
	sketch.Sums(s.panes, number-parts, t.scratch)
	at := map[uint32]int{}
	for id, n := range t.scratch {
		at[id] = len(r.Authors)
		r.Authors = append(r.Authors, t.author(id, n, r))
		r.Authors[at[id]].Spike = t.Spike(s.name, r.Authors[at[id]].Key)
		r.Authors[at[id]].Stopped = printable.Of(t.Stopped(now, now, t.authors.all[id].Author, s.name))
	}
	for _, b := range s.badSends {
		if i, is := at[b.author]; is && b.pane >= number-parts {
			r.Authors[i].Bad++
			r.Authors[i].Causes[b.cause]++
		}
	}
	r.Sort()
	r.FullAt = t.fullAt(r, s, now)
	if c := s.spam; c != nil {
		r.CalledSpam = &senders.CalledSpam{Text: printable.Of(c.Text), At: c.At}
		for _, server := range c.Servers {
			r.CalledSpam.Servers = append(r.CalledSpam.Servers, printable.Of(server))
		}
	}
}

// author is what one has sent, of a domain of which r has the sums, as fill has them.
func (t *table) author(id uint32, n sketch.Sum, r *senders.Report) senders.Author {
	x := &t.authors.all[id]
	to := senders.Author{Key: x.Key, Kind: x.Kind(), Proof: x.Proof.String(), Parent: printable.Of(x.Account),
		Tried: min(n.Tried, r.Tried), Sent: min(n.Sent, r.Unattributed), Error: n.Err,
		Causes: map[sidecar.Cause]int64{}, Networks: []senders.Share{}, Destinations: []senders.Share{}, FirstSeen: t.firstSeen(r.Domain, x)}
	if v := t.authors.all[id].evidence; v != nil {
		v.show(&to)
	}
	return to
}

// firstSeen is when an author was first seen, or on which day it first sent for a domain:
// a restart forgets who has sent nothing in the window, and not what it usually sends.
func (t *table) firstSeen(domain string, x *author) time.Time {
	first := time.Unix(x.first, 0)
	if day, known := t.usual.Of(domain).First(x.Key); known && day < t.day(t.number(first, first)) {
		return time.Date(1970, 1, 1+int(day), 0, 0, 0, 0, time.Local)
	}
	return first
}

// fullAt is when the limit is reached if all goes on as in the last two panes; nil if that is
// not within a window.
func (t *table) fullAt(r *senders.Report, s *subject, now time.Time) *time.Time {
	if t.length == 0 || r.Limit == 0 || r.Sent >= r.Limit {
		return nil
	}
	number := t.number(now, now)
	var sent, first int64
	for i := range s.panes {
		if p := &s.panes[i]; p.Number >= number-1 && p.Number <= number {
			if first == 0 {
				first = p.Number
			}
			sent += p.Sent
		}
	}
	if sent == 0 {
		return nil
	}
	took := time.Duration(t.Clock.Store(now).UnixMilli()-first*t.length) * time.Millisecond
	wait := time.Duration(float64(took) * float64(r.Limit-r.Sent) / float64(sent))
	if wait > t.Window {
		return nil
	}
	at := now.Add(wait).Round(time.Second)
	return &at
}

// Most returns the author of a subject that has tried most, and how many of how many of its
// sends. Without a key it is not known.
func (a *Attribution) Most(now time.Time, name string) (who sidecar.Author, tried, of int64) {
	var c candidates
	others := a.others(now, name)
	a.look(now, name, func(s *subject, from int64) {
		for id, n := range sketch.Sums(s.panes, from, a.scratch) {
			c.add(&a.authors.all[id].Author, n.Tried)
		}
		for i := range s.panes {
			if s.panes[i].Number >= from {
				of += s.panes[i].Tried
			}
		}
	})
	for i := range others {
		of += others[i].Tried
		for j := range others[i].Authors {
			x := &others[i].Authors[j]
			c.add(&sidecar.Author{Key: x.Key, Proof: x.Proof, Account: x.Account}, x.Tried)
		}
	}
	who, tried = c.most()
	return who, min(tried, of), of
}

// A Use is how much of a subject's sends are an author's, at most Err less.
type Use struct {
	Author           sidecar.Author
	Tried, Sent, Err int64
}

// Uses returns what each author of a subject has sent in the window, and up to a sixth of it
// longer; newest: up to a sixth shorter.
func (a *Attribution) Uses(now time.Time, name string, newest bool) (all []Use) {
	a.look(now, name, func(s *subject, from int64) {
		if newest {
			from++
		}
		sketch.Sums(s.panes, from, a.scratch)
		for id, n := range a.scratch {
			all = append(all, Use{a.authors.all[id].Author, n.Tried, n.Sent, n.Err})
		}
	})
	return all
}

// Attributed is how many sends of a subject have an author whom some node knows, in the window and
// up to a sixth of it longer.
func (a *Attribution) Attributed(now time.Time, name string) (n int64) {
	r := senders.Report{}
	for _, other := range a.others(now, name) {
		r.Add(&other)
	}
	a.look(now, name, func(s *subject, from int64) {
		for i := range s.panes {
			if p := &s.panes[i]; p.Number >= from {
				n += p.Sent
			}
		}
	})
	return n + r.Unattributed // which is what is attributed, as in fill
}

// Subjects returns those of which anything is known.
func (a *Attribution) Subjects() (all []string) {
	a.locked(func() { all = slices.Collect(maps.Keys(a.subjects.byName)) })
	return slices.DeleteFunc(all, func(name string) bool { return name == everybody })
}

// Scope returns who sends: of a domain with what it redirects, or of what else is charged;
// where an author sends whom the scope names, or the authors of an account; or for "" the n
// that have tried most. Of each it has n authors at most.
func (a *Attribution) Scope(now time.Time, scope string, n int) (reports []senders.Report) {
	account, isAccount := strings.CutPrefix(scope, sidecar.AccountPrefix)
	switch {
	case scope == "":
		return a.largest(now, n)
	case isAccount:
		reports = a.find(now, func(x sidecar.Author) bool { return x.Account == account })
	case sidecar.IsAuthor(scope):
		reports = a.find(now, func(x sidecar.Author) bool {
			return x.Key == scope || strings.HasPrefix(scope, sidecar.ScriptPrefix) && strings.HasPrefix(x.Key, strings.TrimSuffix(scope, "/")+"/")
		})
	default:
		for _, subject := range [...]string{scope, sidecar.ForwardPrefix + scope} {
			if r, known := a.Of(now, subject); known || r.Sent > 0 {
				reports = append(reports, r)
			}
		}
	}
	for i := range reports {
		reports[i].Authors = reports[i].Authors[:min(n, len(reports[i].Authors))]
	}
	return reports
}

// find returns the reports of all subjects of which somebody sends for whom f is true, each
// with those alone.
func (a *Attribution) find(now time.Time, f func(sidecar.Author) bool) []senders.Report {
	reports := []senders.Report{}
	keys := map[string]bool{}
	for name := range slices.Values(a.Subjects()) {
		clear(keys)
		a.look(now, name, func(s *subject, _ int64) {
			for i := range s.panes {
				for _, e := range s.panes[i].Entries {
					if who := a.authors.all[e.Author].Author; f(who) {
						keys[who.Key] = true
					}
				}
			}
		})
		if len(keys) > 0 {
			if r := a.only(now, name, keys); len(r.Authors) > 0 {
				reports = append(reports, r)
			}
		}
	}
	slices.SortFunc(reports, func(a, b senders.Report) int {
		return cmp.Or(cmp.Compare(b.Authors[0].Tried, a.Authors[0].Tried), cmp.Compare(a.Domain, b.Domain))
	})
	return reports
}

// only returns the report of a subject with some authors alone.
func (a *Attribution) only(now time.Time, subject string, keys map[string]bool) senders.Report {
	r, _ := a.Of(now, subject)
	r.Authors = slices.DeleteFunc(r.Authors, func(x senders.Author) bool { return !keys[x.Key] })
	return r
}

// largest returns the n authors that have tried most, whatever they send of. Each report has
// only those of its domain that are among them.
func (a *Attribution) largest(now time.Time, n int) []senders.Report {
	type one struct {
		subject, key string
		tried        int64
	}
	var top []one
	keep := func() {
		slices.SortFunc(top, func(a, b one) int {
			return cmp.Or(cmp.Compare(b.tried, a.tried), cmp.Compare(a.subject, b.subject), cmp.Compare(a.key, b.key))
		})
		top = top[:min(len(top), n)]
	}
	for name := range slices.Values(a.Subjects()) {
		a.look(now, name, func(s *subject, from int64) {
			for id, n := range sketch.Sums(s.panes, from, a.scratch) {
				top = append(top, one{name, a.authors.all[id].Key, n.Tried})
			}
		})
		if len(top) > 2*n+sketch.MaxEntries {
			keep()
		}
	}
	keep()
	reports, of := []senders.Report{}, map[string]map[string]bool{}
	for _, t := range top {
		if of[t.subject] == nil {
			of[t.subject] = map[string]bool{}
		}
		of[t.subject][t.key] = true
	}
	for _, t := range top {
		if of[t.subject] != nil {
			reports = append(reports, a.only(now, t.subject, of[t.subject]))
			delete(of, t.subject)
		}
	}
	return reports
}

// A Status is how an Attribution is, for `sluice status`.
type Status struct {
	Subjects int    `json:"subjects"`
	Authors  int    `json:"authors"`
	Memory   int64  `json:"memory"`  // bytes, about
	Dropped  int64  `json:"dropped"` // domains of which names were forgotten since the start, because who.memory was full
	Trouble  string `json:"trouble"` // why no names are given any more; empty: they are
}

// Status returns how it is.
func (a *Attribution) Status() (s Status) {
	a.locked(func() {
		s = Status{Subjects: len(a.subjects.byName), Authors: len(a.authors.numbers), Memory: a.memory(), Dropped: a.subjects.dropped}
	})
	if err := a.Failure(); err != nil {
		s.Trouble = err.Error()
	}
	return s
}
