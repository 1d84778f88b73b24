package eventlog

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/notes"
	"sluice/sidecar/printable"
)

// A Record is something that has happened, once or several times within an hour.
type Record struct {
	At     time.Time  `json:"at"`   // the first time
	Last   time.Time  `json:"last"` // the last time
	Count  int64      `json:"count"`
	Event  event.Kind `json:"event"`
	Domain string     `json:"domain,omitempty"` // or what else is charged, that it is about
	Scope  string     `json:"scope,omitempty"`  // the author, mailbox or account that it is about
	By     string     `json:"by,omitempty"`     // who did it; empty: sluice
	Text   string     `json:"text,omitempty"`   // the last time's; partly chosen by senders
	Node   string     `json:"node,omitempty"`   // that it has happened on, if it is another one
}

// recordOf returns the record of an event.
func recordOf(e event.Event) Record {
	r := Record{At: e.At, Last: e.At, Count: 1, Event: e.Kind, Domain: e.Domain, Scope: e.Attr("scope"), By: e.Attr("who"),
		Text: printable.Shorten(e.Details("scope", "who", "stack"), maxText)}
	if r.Domain == "" && sidecar.IsDomain(r.Scope) && r.Scope != sidecar.DefaultScope {
		r.Domain, r.Scope = r.Scope, ""
	}
	return r
}

// These bound what is kept. A domain's own limit keeps it from pushing out all others, and that of an owner
// keeps those out who have many domains.
const (
	maxRecords = 20_000
	maxDomain  = 500         // records of one domain, or of nobody
	maxOwner   = 2_000       // records of all domains of one owner, where there is no room
	maxAuthors = 32          // of a domain, whose refusals are told apart within an hour
	maxText    = 400         // bytes
	maxName    = 400         // bytes of a domain, scope or operator in a note
	joinFor    = time.Hour   // what is the same within it is one record
	saveEvery  = time.Minute // that a record has happened again
	maxSaved   = 500         // notes written in one Tick
)

// entry is a record as it is kept.
type entry struct {
	Record
	number int64
	owner  string
	saved  time.Time // when it was; zero: never
	dirty  bool
	told   time.Time // when other nodes were told of it
	untold bool      // they are to be told
}

// key is the same for records that are joined.
type key struct{ node, domain, event, scope, by, text string }

// keyOf is the key of a record. What the machine does differs only in its numbers.
func keyOf(r Record) key {
	k := key{node: r.Node, domain: r.Domain, event: string(r.Event), scope: r.Scope, by: r.By}
	if r.By != "" || r.Event == event.Refused {
		k.text = r.Text
	}
	return k
}

// A Log keeps records.
type Log struct {
	events event.Sink
	notes  notes.Map[Record]

	mu       sync.Mutex
	next     int64
	all      []*entry            // the first first
	byDomain map[string][]*entry // the first first
	open     map[key]*entry      // that others may be joined to
	dirty    []*entry
	gone     []int64 // whose notes are to be dropped
	owners   owners
	shared   sharing
}

// owners says who has how many records.
type owners struct {
	of      func(domain string) string // the account of a domain; "" if it is nobody's
	records map[string]int
	hog     string // who had most when it was looked
	adds    int    // since then
}

// lookEvery is how often it is looked who has most records.
const lookEvery = 100

// ownerOf is whose records those of a domain are: an account's, or else the domain's own.
func (o *owners) ownerOf(domain string) string {
	if account := o.of(domain); account != "" {
		return sidecar.AccountPrefix + account
	}
	return domain
}

// most returns an owner who has more than his share; "" if none is known.
func (o *owners) most() string {
	if o.adds++; o.records[o.hog] <= maxOwner && o.adds >= lookEvery {
		o.adds = 0
		for owner, n := range o.records {
			if n > o.records[o.hog] {
				o.hog = owner
			}
		}
	}
	if o.records[o.hog] <= maxOwner {
		return ""
	}
	return o.hog
}

// New returns a Log that goes on from its notes. account says whose a domain is, or what else is charged; "" if
// that is not known.
func New(store notes.Store, events event.Sink, account func(domain string) string) *Log {
	unread := event.Unread(events, event.NoteUnread)
	l := &Log{events: events, notes: notes.New[Record](store, "event", 1, unread), next: 1, byDomain: map[string][]*entry{}, open: map[key]*entry{},
		owners: owners{of: account, records: map[string]int{}}}
	l.notes.Load(func(name []string, r Record) error {
		var n int64
		if _, err := fmt.Sscanf(name[0], "%016d", &n); err != nil || numbered(n) != name[0] || n < 1 {
			return fmt.Errorf("%q is no number of a record", name[0])
		}
		if err := r.check(); err != nil {
			return err
		}
		l.next = n
		l.add(r).saved = r.Last
		return nil
	})
	l.dirty = nil
	return l
}

// check reports what cannot be right in a record that was kept.
func (r *Record) check() error {
	switch {
	case r.At.IsZero() || r.Last.Before(r.At) || r.Count < 1:
		return fmt.Errorf("it happened %d times from %s to %s", r.Count, r.At, r.Last)
	case r.Event.Text() == "":
		return fmt.Errorf("%q is no event", r.Event)
	case len(r.Node) > maxName || len(r.Domain) > maxName || len(r.Scope) > maxName || len(r.By) > maxName || len(r.Text) > maxText:
		return fmt.Errorf("it is too long")
	}
	return nil
}

func numbered(n int64) string { return fmt.Sprintf("%016d", n) }

// Event keeps an event.
func (l *Log) Event(e event.Event) { l.record(recordOf(e)) }

// Refused keeps that an answer has refused or held mail, at the expense of a subject, of an
// author, for a reason. It never waits.
func (l *Log) Refused(now time.Time, subject, author, why string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := Record{At: now, Last: now, Count: 1, Event: event.Refused, Domain: subject, Scope: author, Text: why}
	if e := l.open[keyOf(r)]; e == nil && l.authors(now, subject) >= maxAuthors {
		r.Scope = ""
	}
	l.join(r)
}

// authors returns of how many authors refusals are told apart now. l.mu is held.
func (l *Log) authors(now time.Time, subject string) (n int) {
	for _, e := range l.byDomain[subject] {
		if e.Event == event.Refused && e.Scope != "" && now.Sub(e.At) < joinFor {
			n++
		}
	}
	return n
}

func (l *Log) record(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.join(r)
}

// join adds a record, or one more time to what has happened within the hour. l.mu is held.
func (l *Log) join(r Record) {
	r.Domain, r.Scope, r.By = printable.Shorten(r.Domain, maxName), printable.Shorten(r.Scope, maxName), printable.Shorten(r.By, maxName)
	e := l.open[keyOf(r)]
	if e == nil || r.At.Sub(e.At) >= joinFor {
		r.Domain, r.Scope = strings.Clone(r.Domain), strings.Clone(r.Scope) // or a whole request stays in memory
		l.add(r)
		return
	}
	e.Count++
	e.Text = r.Text
	if r.At.After(e.Last) {
		e.Last = r.At
	}
	l.changed(e)
}

// add adds a record, and drops what there is no room for. l.mu is held, or nobody else has l.
func (l *Log) add(r Record) *entry {
	e := &entry{Record: r, number: l.next, owner: l.owners.ownerOf(r.Domain)}
	l.next++
	l.owners.records[e.owner]++
	l.all = append(l.all, e)
	l.open[keyOf(r)] = e
	l.byDomain[r.Domain] = append(l.byDomain[r.Domain], e)
	if of := l.byDomain[r.Domain]; len(of) > maxDomain {
		l.drop(of[0])
	}
	for len(l.all) > maxRecords {
		l.drop(l.excess())
	}
	l.changed(e)
	return e
}

// excess is the record that goes where there is no room: the oldest of who has more than his share, or of all.
// l.mu is held.
func (l *Log) excess() *entry {
	if hog := l.owners.most(); hog != "" {
		for _, e := range l.all {
			if e.owner == hog {
				return e
			}
		}
	}
	return l.all[0]
}

// drop drops the oldest record of its domain. l.mu is held.
func (l *Log) drop(e *entry) {
	if l.all[0] == e {
		l.all = l.all[1:]
	} else {
		i, _ := slices.BinarySearchFunc(l.all, e.number, func(e *entry, n int64) int { return cmp.Compare(e.number, n) })
		l.all = slices.Delete(l.all, i, i+1)
	}
	if of := l.byDomain[e.Domain]; len(of) > 1 {
		l.byDomain[e.Domain] = of[1:]
	} else {
		delete(l.byDomain, e.Domain)
	}
	if l.owners.records[e.owner]--; l.owners.records[e.owner] == 0 {
		delete(l.owners.records, e.owner)
	}
	if k := keyOf(e.Record); l.open[k] == e {
		delete(l.open, k)
	}
	if e.number = -e.number; !e.saved.IsZero() {
		l.gone = append(l.gone, -e.number)
	}
}

func (l *Log) changed(e *entry) {
	if !e.dirty {
		e.dirty = true
		l.dirty = append(l.dirty, e)
	}
	if l.shared.board != nil && !e.untold && e.concernsAll() {
		e.untold = true
		l.shared.unpublished = append(l.shared.unpublished, e)
	}
}

// Tick saves what is new, and what has happened again a while ago, and tells other nodes.
func (l *Log) Tick(_ context.Context, now time.Time) {
	l.save(now, now.Add(-saveEvery), maxSaved)
	l.publish(now)
}

// Stop saves all.
func (l *Log) Stop(_ context.Context, now time.Time) { l.save(now, now, 2*maxRecords) }

// save notes at most so many of the records that were saved before a time, or never.
func (l *Log) save(now, before time.Time, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, n := range l.gone {
		event.EmitError(l.events, event.StoreFailed, l.notes.Drop(numbered(n)))
	}
	l.gone = nil
	wait := l.dirty[:0]
	for _, e := range l.dirty {
		switch {
		case e.number < 0: // dropped
		case most > 0 && !e.saved.After(before):
			most--
			e.saved, e.dirty = now, false
			event.EmitError(l.events, event.StoreFailed, l.notes.Put(e.Record, numbered(e.number)))
		default:
			wait = append(wait, e)
		}
	}
	clear(l.dirty[len(wait):])
	l.dirty = wait
}

// Find returns the records for which want is true and that have happened since a time, the
// first first.
func (l *Log) Find(since time.Time, want func(Record) bool) []Record {
	l.mu.Lock()
	found := []Record{}
	for _, e := range l.all {
		if !e.Last.Before(since) {
			found = append(found, e.Record)
		}
	}
	l.mu.Unlock()              // mail waits
	if l.shared.board != nil { // what other nodes tell comes later
		slices.SortStableFunc(found, func(a, b Record) int { return a.At.Compare(b.At) })
	}
	return slices.DeleteFunc(found, func(r Record) bool { return !want(r) })
}
