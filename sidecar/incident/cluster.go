package incident

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/sidecar/event"
)

// Nodes that share their counts have one incident of a domain. The key of the domain on the
// board says which: the first node to post it gives the incident its number and leads it: only
// the leader notifies watchers. Each node posts what it sees of the incident under a key of its
// own. When the leader is silent, the first node to post the next of the leaders' keys takes
// over. The board has also the last notice on each channel. The leader removes all of these keys
// when the incident cannot be opened again.
const (
	boardKeys = "incident/"
	leadKey   = "lead"
	nodeKey   = "node"
	toldKey   = "told"
	maxPosts  = 50 // incidents that are brought to the board in one Tick
	maxLeads  = 100
	maxPart   = 16 // entries of a timeline that a node adds
)

// shared is what the board has of the incident of a domain.
type shared struct {
	claim    *claim
	leads    map[int]string      // nodes that have taken over, from 1 on
	parts    map[string]*part    // by node
	notified map[string]Notified // by channel: the last of each
}

// claim is the value of the key of a domain.
type claim struct {
	ID
	Opened time.Time `json:"opened"`
}

// part is what a node sees of an incident.
type part struct {
	ID
	Closed   time.Time `json:"closed,omitzero"` // when the one that leads has closed it
	Severity Severity  `json:"severity"`
	Causes   []Cause   `json:"causes"`
	Entries  []Entry   `json:"entries"`
	Culprit  Culprit   `json:"culprit,omitzero"`
	At       time.Time `json:"at"`

	past bool // the node was silent since: it has to post anew what it sees
}

func readClaim(value []byte) (*claim, error) {
	c := &claim{}
	if json.Unmarshal(value, c) != nil || c.Node == "" || len(c.Node) > maxText || c.Number < 1 || c.Opened.IsZero() {
		return nil, errors.New("it numbers no incident")
	}
	return c, nil
}

// leader is the node that leads.
func (s *shared) leader() string {
	for n := len(s.leads); n > 0; n-- {
		if node, is := s.leads[n]; is {
			return node
		}
	}
	return s.claim.Node
}

// before is the node that has led before the leader; empty if that is the first.
func (s *shared) before() string {
	led := *s
	led.leads = maps.Clone(s.leads)
	for n := len(led.leads); n > 0; n-- {
		if _, is := led.leads[n]; is {
			delete(led.leads, n)
			return led.leader()
		}
	}
	return ""
}

// over returns when the leader has closed the incident, if that was notified on all channels that
// were notified of the incident at all; else zero.
func (s *shared) over() time.Time {
	for _, t := range s.notified {
		if !t.Closed && !t.Digest {
			return time.Time{}
		}
	}
	if p := s.parts[s.leader()]; p != nil {
		return p.Closed
	}
	return time.Time{}
}

// domainKey is the key of a domain on the board.
func domainKey(domain string, more ...string) string {
	key := boardKeys + url.PathEscape(domain)
	for _, m := range more {
		key += "/" + url.PathEscape(m)
	}
	return key
}

// receive takes one value of the board; nil: it was removed.
func (s *Incidents) receive(key string, value []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var name []string
	for p := range strings.SplitSeq(strings.TrimPrefix(key, boardKeys), "/") {
		one, err := url.PathUnescape(p)
		if err != nil {
			return
		}
		name = append(name, one)
	}
	of := s.shared[name[0]]
	if of == nil {
		of = &shared{leads: map[int]string{}, parts: map[string]*part{}, notified: map[string]Notified{}}
	}
	if err := of.receive(name[1:], value); err != nil {
		s.unreadable = append(s.unreadable, event.Event{Kind: event.NoteUnread, Attrs: event.Attrs("note", key), Err: err})
		return
	}
	if s.shared[name[0]] = of; of.claim == nil && len(of.leads)+len(of.parts)+len(of.notified) == 0 {
		delete(s.shared, name[0])
	}
}

// receive stores the value of a domain's key, or of one below it; nil: it was removed.
func (s *shared) receive(name []string, value []byte) error {
	switch {
	case len(name) == 0:
		var c *claim
		if value != nil {
			var err error
			if c, err = readClaim(value); err != nil {
				return err
			}
		} else {
			clear(s.leads)
			clear(s.parts)
			clear(s.notified)
		}
		s.claim = c
	case len(name) == 2 && name[0] == leadKey:
		n, err := strconv.Atoi(name[1])
		if err != nil || n < 1 || n > maxLeads || len(value) > maxText {
			return errors.New("it names no leader")
		}
		if s.leads[n] = string(value); value == nil {
			delete(s.leads, n)
		}
	case len(name) == 2 && name[0] == nodeKey:
		if value == nil { // the next one follows, or the incident is over
			return nil
		}
		p := &part{}
		if err := json.Unmarshal(value, p); err != nil || len(p.Causes) > maxCauses || len(p.Entries) > maxPart || len(value) > 64<<10 {
			return errors.New("it is no part of an incident")
		}
		s.parts[name[1]] = p
	case len(name) == 3 && name[0] == toldKey:
		return s.receiveNotified(name[1], name[2], value)
	default:
		return fmt.Errorf("it has a name that nothing of an incident has")
	}
	return nil
}

// leads reports whether this node notifies watchers of an incident. s.mu is held.
func (s *Incidents) leads(i *state) bool {
	return s.Board == nil || i.Domain == "" || i.alone || s.joined(i) && s.shared[i.Domain].leader() == s.Node
}

// joined reports whether it is known which incident of all nodes this is. s.mu is held.
func (s *Incidents) joined(i *state) bool {
	of := s.shared[i.Domain]
	return of != nil && of.claim != nil && of.claim.ID == i.ID
}

// share posts to the board: new incidents, what this node sees of incidents that others lead, and
// the end of those that are over. s.mu is not held while it posts.
func (s *Incidents) share(ctx context.Context, now time.Time) {
	if s.Board == nil {
		return
	}
	alive := s.Alive() // the store is not to be asked while s.mu is held: it calls receive
	due, unreadable := s.due(ctx, now, alive)
	for _, e := range unreadable {
		s.Events.Emit(e)
	}
	for _, post := range due {
		switch err := post(); {
		case errors.Is(err, errStillAway):
			return
		case err != nil:
			s.Events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
			return
		}
	}
}

// due returns the posts that are due, and events about values of the board that could not be read.
func (s *Incidents) due(ctx context.Context, now time.Time, alive func(string) bool) (due []func() error, unreadable []event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	unreadable, s.unreadable = s.unreadable, nil
	for _, alone := range []bool{false, true} { // those last of which this node has told without the board
		for _, i := range slices.Backward(s.all) {
			if i.Domain != "" && i.alone == alone && (!alone || i.Open()) && len(due) < maxPosts {
				if post := s.post(ctx, now, i, alive); post != nil {
					due = append(due, post)
				}
			}
		}
	}
	for domain, of := range s.shared {
		i := s.of[about{domain: domain}]
		if of.claim == nil || len(due) >= maxPosts || i != nil && s.joined(i) || s.kept(of.claim.ID) {
			continue
		}
		switch over := of.over(); {
		case of.leader() == s.Node: // it was dropped here
			due = append(due, s.removes(ctx, domain, of))
		case i != nil && i.Open(): // which becomes part of it
		case alive(of.leader()):
			if p := of.parts[s.Node]; p != nil && p.ID == of.claim.ID && len(p.Causes) > 0 { // from before this node was killed
				due = append(due, s.adds(ctx, now, &state{Incident: Incident{ID: p.ID, Domain: domain, Severity: Info}}))
			}
		case of.parts[of.leader()] == nil, !over.IsZero() && now.Sub(over) > reopenWithin: // nobody was told of it, or of its end all were
			due = append(due, s.removes(ctx, domain, of))
		case over.IsZero():
			s.adopt(now, domain, of)
		}
	}
	return due, unreadable
}

// adopt adds an incident that only a node that is now silent has seen: this node takes it over at the
// next Tick, and notifies of its end. s.mu is held.
func (s *Incidents) adopt(now time.Time, domain string, of *shared) {
	p := of.parts[of.leader()]
	i := s.add(of.claim.ID, about{domain: domain}, of.claim.Opened, max(p.Severity, Info))
	if i == nil {
		return
	}
	i.Culprit = p.Culprit
	i.Causes = append(p.Causes[:len(p.Causes):len(p.Causes)], Cause{Name: CauseLimit, Since: of.claim.Opened, Severity: Info})[:max(1, len(p.Causes))]
	for n := range i.Causes {
		i.Causes[n].Node, i.Causes[n].Gone = of.leader(), now
	}
	if !p.Closed.IsZero() {
		i.Closed = now
	}
}

// kept reports whether an incident is kept here. s.mu is held.
func (s *Incidents) kept(id ID) bool {
	return slices.ContainsFunc(s.all, func(i *state) bool { return i.ID == id })
}

// post is what is to be posted of an incident; nil if nothing is. s.mu is held.
func (s *Incidents) post(ctx context.Context, now time.Time, i *state, alive func(string) bool) func() error {
	of := s.shared[i.Domain]
	switch {
	case s.joined(i) && of.leader() == s.Node:
		s.merge(now, i, of, alive)
		if !i.Open() && now.Sub(i.Closed) > reopenWithin {
			return s.removes(ctx, i.Domain, of)
		}
		return s.addsNews(ctx, now, i)
	case s.joined(i) && (i.Open() || of.over().IsZero()) && !alive(of.leader()):
		return s.takesOver(ctx, i.Domain, len(of.leads)+1)
	case s.joined(i):
		return s.addsNews(ctx, now, i)
	case !i.Open() && i.Revision > 0:
	case of == nil || of.claim == nil || of.leader() != s.Node: // an older one of this node goes first
		return s.claims(ctx, now, i)
	}
	return nil
}

// added is what a node has added to an incident that another one leads.
type added struct {
	at    time.Time // zero: nothing yet
	there int       // causes
	last  time.Time // entry of the timeline
	open  bool
}

// addsNews posts what this node sees of an incident if that has changed. s.mu is held.
func (s *Incidents) addsNews(ctx context.Context, now time.Time, i *state) func() error {
	before := i.added
	if i.added = i.seen(now); i.news || before.at.IsZero() || i.added.there != before.there || i.added.open != before.open ||
		i.added.last.After(before.last) && now.Sub(before.at) >= saveEvery {
		return s.adds(ctx, now, i)
	}
	i.added = before
	return nil
}

// seen is what this node sees of an incident.
func (i *state) seen(now time.Time) added {
	a := added{at: now, open: i.Open()}
	for _, c := range i.Causes {
		if c.Node == "" && c.Gone.IsZero() {
			a.there++
		}
	}
	for _, e := range i.Timeline {
		if e.Node == "" && e.Last.After(a.last) {
			a.last = e.Last
		}
	}
	return a
}

// errStillAway says that the board is away, which was said before.
var errStillAway = errors.New("the board is still away")

// claims posts that this node has numbered an incident. If another one was first, it is its
// incident; while the board is away, it is of this node alone, until the board is back. s.mu is
// held, but not by what it returns.
func (s *Incidents) claims(ctx context.Context, now time.Time, i *state) func() error {
	key, mine := domainKey(i.Domain), claim{i.ID, i.Opened}
	added := i.seen(now)
	adds := s.adds(ctx, now, i)
	return func() error {
		value, err := json.Marshal(mine)
		if err == nil {
			value, err = s.Board.Post(ctx, key, value)
		}
		away := err != nil
		var stands *claim
		if err == nil {
			stands, err = readClaim(value)
		}
		s.mu.Lock()
		was := i.alone
		i.alone = err != nil
		if err == nil && stands.ID == mine.ID {
			i.added = added
			s.mu.Unlock()
			return adds() // before anybody is told: who takes over goes on with it
		}
		defer s.mu.Unlock()
		switch {
		case was && away:
			return errStillAway
		case was && err != nil: // what stands there cannot be read, which was said
			return nil
		case err != nil:
			return err
		}
		if stands.ID != i.ID {
			for _, old := range slices.Clone(s.all) {
				if old.ID == stands.ID {
					s.drop(old) // it was closed here before it was elsewhere
				}
			}
			if i.Revision > 0 && i.Node == s.Node {
				s.handsOver(now, i, stands)
				return nil
			}
			event.EmitError(s.Events, event.StoreFailed, s.notes.Drop(i.name()...))
			i.ID, i.Opened, i.changed = stands.ID, stands.Opened, true
			s.of[i.about()] = i
		}
		return nil
	}
}

// handsOver ends an incident that watchers know by the number of this node, and goes on with it
// as part of the one of all nodes. s.mu is held.
func (s *Incidents) handsOver(now time.Time, i *state, stands *claim) {
	part := s.add(stands.ID, i.about(), stands.Opened, i.Severity)
	if part == nil {
		i.alone = true
		return
	}
	part.Incident = i.snapshot()
	part.ID, part.Opened, part.Revision = stands.ID, stands.Opened, 0
	i.endAll(now)
	i.Closed, i.news, i.alone = now, true, true
}

// adds posts what this node sees of an incident. s.mu is held, but not by what it returns.
func (s *Incidents) adds(ctx context.Context, now time.Time, i *state) func() error {
	key := domainKey(i.Domain, nodeKey, s.Node)
	p := part{ID: i.ID, Closed: i.Closed, Severity: i.Severity, Culprit: i.Culprit, At: now, Causes: []Cause{}, Entries: []Entry{}}
	for _, c := range i.Causes {
		if c.Node == "" {
			p.Causes = append(p.Causes, c)
		}
	}
	for _, e := range i.Timeline[max(0, len(i.Timeline)-maxPart):] {
		if e.Node == "" {
			p.Entries = append(p.Entries, e)
		}
	}
	return func() error {
		value, err := json.Marshal(p)
		if err == nil {
			err = s.Board.Remove(ctx, key)
		}
		if err == nil {
			_, err = s.Board.Post(ctx, key, value)
		}
		if err != nil {
			s.mu.Lock()
			i.added = added{} // once more
			s.mu.Unlock()
		}
		return err
	}
}

// takesOver posts that this node leads an incident from now on; the first to do so does.
func (s *Incidents) takesOver(ctx context.Context, domain string, turn int) func() error {
	return func() error {
		_, err := s.Board.Post(ctx, domainKey(domain, leadKey, strconv.Itoa(turn)), []byte(s.Node))
		return err
	}
}

// removes takes an incident off the board; the key of its domain last.
func (s *Incidents) removes(ctx context.Context, domain string, of *shared) func() error {
	var keys []string
	for node := range of.parts {
		keys = append(keys, domainKey(domain, nodeKey, node))
	}
	for n := range of.leads {
		keys = append(keys, domainKey(domain, leadKey, strconv.Itoa(n)))
	}
	for channel, t := range of.notified {
		keys = append(keys, domainKey(domain, toldKey, channel, strconv.FormatInt(t.Number, 10)))
	}
	return func() (err error) {
		for _, key := range append(keys, domainKey(domain)) {
			err = errors.Join(err, s.Board.Remove(ctx, key))
		}
		return err
	}
}

// endOf ends the causes that a node has seen and does not any more.
func (i *state) endOf(node string, p *part, now time.Time) {
	for n := range i.Causes {
		c := &i.Causes[n]
		if c.Node == node && c.Gone.IsZero() && !slices.ContainsFunc(p.Causes, func(o Cause) bool { return o.Name == c.Name && o.Scope == c.Scope }) {
			c.Gone, i.changed = now, true
		}
	}
}

// merge takes in what other nodes see of an incident that this one leads. What one that is
// silent has seen counts as gone. s.mu is held.
func (s *Incidents) merge(now time.Time, i *state, of *shared, alive func(string) bool) {
	for node, p := range of.parts {
		if node == s.Node || p.ID != i.ID {
			continue
		}
		p.past = p.past || !alive(node)
		i.worsen(p.Severity)
		i.endOf(node, p, now)
		for _, c := range p.Causes {
			if c.Node = node; c.Gone.IsZero() && p.past {
				c.Gone = now
			}
			switch old := i.cause(c.Name, c.Scope, node); {
			case c.Gone.IsZero() && (old == nil || !old.Gone.IsZero()):
				i.begin(c, false)
			case !c.Gone.IsZero() && old != nil && old.Gone.IsZero():
				old.Gone, i.changed = c.Gone, true
			}
		}
		for _, e := range p.Entries {
			if e.Node = node; !slices.ContainsFunc(i.Timeline, func(o Entry) bool {
				return o.Node == node && o.Event == e.Event && !e.At.After(o.Last) && !e.At.Before(o.At)
			}) {
				i.add(e)
			}
		}
		if i.Culprit.Author == "" && p.Culprit.Author != "" {
			i.Culprit, i.news = p.Culprit, true
		}
	}
}
