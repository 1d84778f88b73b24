package deferfail

import (
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/logline"
)

// A place is where sends of several accounts go wrong by one fault: a remote host or, where
// the log names none, the domain of the recipient. A smarthost is a place, and so is the MX
// of a thousand domains.
type place struct {
	Outages []outage `json:"outages,omitempty"` // the last ones; the last of them may go on
	Answers []answer `json:"answers,omitempty"` // the last ones, in their order
	Last    int64    `json:"last"`              // when something last went wrong here, in Unix seconds

	name  string
	dirty bool           // not saved as it is now
	bad   map[string]int // sends that are bad now for an answer from here, by account
	total int            // of bad
}

// An outage is a time in which sends got no answer at a place, and none was delivered there.
type outage struct {
	Since    int64    `json:"since"`           // Unix seconds
	Until    int64    `json:"until,omitempty"` // when one was delivered; 0: none was so far
	Accounts []string `json:"accounts"`        // whose sends got no answer: up to accountsKept
}

// An answer is what a server has answered to the sends of an account.
type answer struct {
	Account string `json:"account"`
	At      int64  `json:"at"` // Unix seconds
	Bad     bool   `json:"bad,omitempty"`
}

const (
	// sharers is how many other accounts must have a fault too before it excuses anybody.
	sharers      = 2
	accountsKept = sharers + 1 // so that sharers are left without the one that is judged
	outagesKept  = 8

	answersKept = 64
	answersBad  = 80 // percent of the answers to others, from which on a place refuses everybody

	// maxPlaces bounds the places that are kept. Beyond it those go first where only one
	// account had trouble: they excuse nobody so far.
	maxPlaces = 10_000
)

// everywhere is the place of the resolver, the network and the transports of this host. What
// gets no answer anywhere while nothing at all is delivered has failed there.
const everywhere = "all destinations"

// places are those where something went wrong in the window, by name.
type places struct {
	all     map[string]*place
	dropped []string // still in the notes
}

// placeOf returns the name of the place where an outcome happened.
func placeOf(o *logline.Outcome) string {
	if o.Entry.Host != "" {
		return strings.ToLower(o.Entry.Host)
	}
	return o.To
}

// wrong takes in that a send of an account went wrong at a place, and returns the place's
// name, which the caller may keep.
func (p *places) wrong(name, account string, f fault, at int64) string {
	switch f {
	case noAnswer:
		p.at(everywhere).fail(account, at)
		return p.at(name).fail(account, at)
	case answered:
		x := p.at(name)
		x.add(answer{account, at, true})
		x.Last, x.dirty = at, true
		return x.name
	}
	return strings.Clone(name)
}

// at returns a place, which it makes if there is none.
func (p *places) at(name string) *place {
	x := p.all[name]
	if x == nil {
		if len(p.all) >= maxPlaces {
			p.makeRoom()
		}
		x = newPlace(name)
		p.all[x.name] = x
	}
	return x
}

func newPlace(name string) *place {
	return &place{name: strings.Clone(name), bad: map[string]int{}}
}

// makeRoom drops a quarter of the places.
func (p *places) makeRoom() {
	left := maxPlaces / 4
	for _, lonely := range [...]bool{true, false} {
		for name, x := range p.all {
			if left > 0 && name != everywhere && (!lonely || x.lonely()) {
				left--
				p.drop(name)
			}
		}
	}
}

func (p *places) drop(name string) {
	delete(p.all, name)
	p.dropped = append(p.dropped, name)
}

// lonely reports whether only one account had trouble at a place.
func (p *place) lonely() bool {
	return !slices.ContainsFunc(p.Outages, func(o outage) bool { return len(o.Accounts) > 1 }) &&
		!slices.ContainsFunc(p.Answers, func(a answer) bool { return a.Account != p.Answers[0].Account })
}

// delivered takes in that a send of an account was delivered.
func (p *places) delivered(o *logline.Outcome, account string) {
	if len(p.all) == 0 {
		return
	}
	host := placeOf(o)
	at := o.Entry.At.Unix()
	p.all[host].deliver(account, at)
	if o.To != host {
		p.all[o.To].deliver(account, at)
	}
	p.all[everywhere].deliver(account, at)
}

// deliver takes in that a send of an account was delivered here.
func (p *place) deliver(account string, at int64) {
	if p == nil {
		return
	}
	if n := len(p.Outages); n > 0 && p.Outages[n-1].Until == 0 {
		p.Outages[n-1].Until, p.dirty = at, true
	}
	if len(p.Answers) > 0 {
		p.add(answer{account, at, false})
	}
}

// fail takes in that a send of an account got no answer here, and returns the place's name.
func (p *place) fail(account string, at int64) string {
	p.Last, p.dirty = at, true
	if n := len(p.Outages); n == 0 || p.Outages[n-1].Until != 0 {
		p.Outages = append(p.Outages[max(0, n+1-outagesKept):], outage{Since: at})
	}
	o := &p.Outages[len(p.Outages)-1]
	if len(o.Accounts) < accountsKept && !slices.Contains(o.Accounts, account) {
		o.Accounts = append(o.Accounts, strings.Clone(account))
	}
	return p.name
}

// add adds an answer and forgets the oldest. One account has at most half of the answers,
// so that the other half tells of others.
func (p *place) add(a answer) {
	own, first := 0, 0
	for i := range p.Answers {
		if p.Answers[i].Account == a.Account {
			if own == 0 {
				first = i
			}
			own++
		}
	}
	if own > 0 {
		a.Account = p.Answers[first].Account
	} else {
		a.Account = strings.Clone(a.Account)
	}
	if oldest := 0; len(p.Answers) == answersKept {
		if own >= answersKept/2 {
			oldest = first
		}
		p.Answers = slices.Delete(p.Answers, oldest, oldest+1)
	}
	p.Answers = append(p.Answers, a)
}

// count adds to the sends that are bad now for an answer from a place.
func (p *places) count(s *badSend, n int) {
	x := p.all[s.Place]
	if s.Fault != answered || x == nil {
		return
	}
	n = max(n, -x.bad[s.Account]) // the place may have been dropped in between
	x.total += n
	if x.bad[s.Account] += n; x.bad[s.Account] == 0 {
		delete(x.bad, s.Account)
	}
}

// explain returns the place whose fault explains why a send is bad; empty if it is held
// against whoever has sent it. since is when the window began, and others how many other
// accounts must have the fault.
func (p *places) explain(s *badSend, since int64, others int) string {
	switch s.Fault {
	case noAnswer:
		for _, name := range [...]string{s.Place, everywhere} {
			if p.all[name].failedFor(s.Account, s.At, others) {
				return name
			}
		}
	case answered, greylisted:
		if p.all[s.Place].refusesOthers(s.Account, since) {
			return s.Place
		}
	}
	return ""
}

// failedFor reports whether other accounts, at least as many, got no answer either in the
// outage in which this account got none.
func (p *place) failedFor(account string, at int64, others int) bool {
	if p == nil {
		return false
	}
	return slices.ContainsFunc(p.Outages, func(o outage) bool {
		if at < o.Since || o.Until != 0 && at > o.Until {
			return false
		}
		n := len(o.Accounts)
		if slices.Contains(o.Accounts, account) {
			n--
		}
		return n >= others
	})
}

// refusesOthers reports whether a place has given others nearly only bad answers, while this
// account has no more than half of the bad ones: who got this host blocked there is not
// excused by that.
func (p *place) refusesOthers(account string, since int64) bool {
	if p == nil || p.bad[account]*2 > p.total {
		return false
	}
	total, bad, one, several := 0, 0, "", false
	for i := range p.Answers {
		a := &p.Answers[i]
		if a.Account == account || a.At < since {
			continue
		}
		if total++; a.Bad {
			bad++
			several = several || one != "" && one != a.Account
			one = a.Account
		}
	}
	return several && bad*100 >= answersBad*total
}

// prune forgets what was before a time.
func (p *places) prune(since int64) {
	for name, x := range p.all {
		x.Outages = slices.DeleteFunc(x.Outages, func(o outage) bool { return o.Until != 0 && o.Until < since })
		x.Answers = slices.DeleteFunc(x.Answers, func(a answer) bool { return a.At < since })
		if x.Last < since {
			p.drop(name)
		}
	}
}

// accounts are those with domains that have sent in the last days, with when they last did:
// up to accountsKept, which tell whether there are that many.
type accounts map[string]time.Time

// accountFor is how long an account counts after its last send.
const accountFor = 7 * 24 * time.Hour

// markSent records that an account has sent something, and reports whether to save that.
func (a accounts) markSent(account string, at time.Time) bool {
	last, known := a[account]
	if known && at.Sub(last) < time.Hour || !known && len(a) >= accountsKept {
		return false
	}
	a[strings.Clone(account)] = at
	return true
}

// others returns how many other accounts must have a fault too on a host where the owner map
// has so many: where there are few, all of them.
func (a accounts) others(owners int, now time.Time) int {
	maps.DeleteFunc(a, func(_ string, last time.Time) bool { return now.Sub(last) > accountFor })
	return min(sharers, max(owners, len(a), 1)-1)
}
