package deferfail

import (
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/notes"
)

// maxBad bounds the bad sends of a subject whose cause is kept. More are counted in the
// store all the same.
const maxBad = 4096

// badSends keeps the cause and the place of the bad sends that the store counts.
type badSends struct {
	mu       sync.Mutex
	subjects map[string]*subjectBad
	places   places
	accounts accounts
	saved    time.Time
	newcomer bool // accounts are not saved as they are now

	notes        notes.Map[subjectBad] // by subject
	placeNotes   notes.Map[place]      // by name
	accountNotes notes.Map[accounts]   // one, named accountsNote
}

// accountsNote is the name of the note with all accounts.
const accountsNote = "all"

// subjectBad is what went wrong for one subject.
type subjectBad struct {
	Sends map[ratelimit.Token]badSend `json:"sends"`
	Last  map[sidecar.Cause]string    `json:"last"`            // the last line of each cause
	Epoch int64                       `json:"epoch,omitempty"` // of the counts at its first bad send

	dirty bool // not saved as it is now
}

// badSend is a send that was deferred or has failed.
type badSend struct {
	When    time.Time     `json:"when"`             // when its message arrived
	At      int64         `json:"at"`               // when it went wrong last, in Unix seconds
	Cause   sidecar.Cause `json:"cause"`            // of the last outcome
	Place   string        `json:"to"`               // where it went wrong
	Account string        `json:"account"`          // see accountOf
	Author  string        `json:"author,omitempty"` // its key
	Fault   fault         `json:"fault,omitempty"`  // of the last outcome
	Failed  bool          `json:"failed,omitempty"`
	Excused bool          `json:"excused,omitempty"`
}

// saveEvery is how often badSends are saved. A crash may lose those recorded since the last
// time: their causes, not their number, which the store keeps.
const saveEvery = 10 * time.Second

func newBadSends(store notes.Store, events event.Sink) *badSends {
	unread := event.Unread(events, event.NoteUnread)
	b := &badSends{subjects: map[string]*subjectBad{}, places: places{all: map[string]*place{}}, accounts: accounts{},
		notes:        notes.New[subjectBad](store, "bad", 1, unread),
		placeNotes:   notes.New[place](store, "place", 1, unread),
		accountNotes: notes.New[accounts](store, "accounts", 1, unread)}
	b.placeNotes.Load(func(name []string, noted place) error {
		x := newPlace(name[0])
		x.Outages, x.Answers, x.Last = noted.Outages, noted.Answers, noted.Last
		b.places.all[x.name] = x
		return nil
	})
	b.accountNotes.Load(func(_ []string, noted accounts) error {
		maps.Copy(b.accounts, noted)
		return nil
	})
	b.notes.Load(func(name []string, noted subjectBad) error {
		d := newSubjectBad()
		d.Epoch = noted.Epoch
		maps.Copy(d.Sends, noted.Sends)
		maps.Copy(d.Last, noted.Last)
		b.subjects[name[0]] = d
		for _, s := range d.Sends {
			b.places.count(&s, 1)
		}
		return nil
	})
	return b
}

func newSubjectBad() *subjectBad {
	return &subjectBad{Sends: map[ratelimit.Token]badSend{}, Last: map[sidecar.Cause]string{}}
}

// Recorded implements delivery.Observer: it takes in new outcomes of sends.
func (d *Breaker) Recorded(now time.Time, news []logline.Outcome) {
	owners := d.Settings().OwnerMap.Get().Known()
	epochs := d.lockWithEpochs(now, news)
	defer d.badSends.mu.Unlock()
	for i := range news {
		o := &news[i]
		d.badSends.note(o, accountOf(o.Payer, owners), epochs)
		if subject := o.Payer.Subject(); o.Result == ratelimit.Delivered && d.trips.has(subject) {
			d.probes.delivered(subject, o.Token)
			d.Reconciler.ReconcileSoon(subject) // its trip may end
		}
	}
}

// lockWithEpochs locks badSends.mu, and returns the epochs of the counts of subjects of which a first
// send has gone wrong. In a cluster each is a call of Redis, which is made while mu is not held:
// questions about other subjects wait for mu. What this node knows without a call would not do: it
// may never have asked about a subject that is charged by the log.
func (d *Breaker) lockWithEpochs(now time.Time, news []logline.Outcome) map[string]int64 {
	epochs := map[string]int64{}
	for {
		d.badSends.mu.Lock()
		unknown := d.badSends.unknown(news, epochs)
		if len(unknown) == 0 {
			return epochs
		}
		d.badSends.mu.Unlock()
		for _, subject := range unknown {
			epochs[subject] = d.epochOf(now, subject)
		}
	}
}

// unknown returns the subjects of bad sends that are neither kept nor in epochs. mu is held.
func (b *badSends) unknown(news []logline.Outcome, epochs map[string]int64) (subjects []string) {
	for i := range news {
		subject := news[i].Payer.Subject()
		if _, asked := epochs[subject]; !asked && news[i].Result != ratelimit.Delivered && b.subjects[subject] == nil && !slices.Contains(subjects, subject) {
			subjects = append(subjects, subject)
		}
	}
	return subjects
}

// note takes in the new outcome of a send of an account. epochs has those of the counts of subjects
// that are not kept yet. mu is held.
func (b *badSends) note(o *logline.Outcome, account string, epochs map[string]int64) {
	subject := o.Payer.Subject()
	if o.Payer.Special == "" && b.accounts.markSent(account, o.Entry.At) {
		b.newcomer = true
	}
	if o.Result == ratelimit.Delivered {
		b.places.delivered(o, account)
		if !o.Charged { // else this is its first outcome, so it was never bad
			b.forgive(b.subjects[subject], o.Token)
		}
		return
	}
	d := b.subjects[subject]
	if d == nil {
		d = newSubjectBad()
		d.Epoch = epochs[subject]
		b.subjects[strings.Clone(subject)] = d
	}
	b.observe(d, o, account)
}

// observe keeps a bad send, with its place. mu is held.
func (b *badSends) observe(d *subjectBad, o *logline.Outcome, account string) {
	before, known := d.Sends[o.Token]
	s := badSend{When: o.When, At: o.Entry.At.Unix(), Cause: o.Cause, Place: placeOf(o), Account: account, Author: o.Author.Key,
		Fault: faultOf(o), Failed: o.Result == ratelimit.Failed, Excused: o.Excused}
	if known && strings.Contains(o.Entry.Text, "retry timeout exceeded") { // Exim gave up, for the reason of the earlier attempts
		s.Cause, s.Place, s.Fault, s.At = before.Cause, before.Place, before.Fault, before.At
	} else {
		s.Place = b.places.wrong(s.Place, account, s.Fault, s.At)
	}
	d.dirty = true
	d.Last[s.Cause] = strings.Clone(o.Entry.Line[:min(len(o.Entry.Line), 500)])
	switch {
	case known:
		b.places.count(&before, -1)
	case len(d.Sends) >= maxBad:
		return
	}
	s.Account, s.Author = strings.Clone(s.Account), strings.Clone(s.Author)
	b.places.count(&s, 1)
	d.Sends[o.Token] = s
}

// forgive forgets a bad send that was delivered in the end; d may be nil. mu is held.
func (b *badSends) forgive(d *subjectBad, token ratelimit.Token) {
	if d == nil {
		return
	}
	s, known := d.Sends[token]
	if !known {
		return
	}
	b.places.count(&s, -1)
	delete(d.Sends, token)
	d.dirty = true
}

// drop forgets the sends of a subject for which the func is true, and the causes that are
// left without any. mu is held.
func (b *badSends) drop(d *subjectBad, which func(badSend) bool) {
	before := len(d.Sends)
	used := make(map[sidecar.Cause]bool, 8) // without an allocation
	for token, s := range d.Sends {
		if which(s) {
			b.forgive(d, token)
		} else {
			used[s.Cause] = true
		}
	}
	if len(d.Sends) < before {
		maps.DeleteFunc(d.Last, func(c sidecar.Cause, _ string) bool { return !used[c] })
	}
}

// forget forgets the bad sends of a subject from before a reset, with which epoch began.
func (b *badSends) forget(subject string, epoch int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.subjects[subject]; d != nil && d.Epoch < epoch {
		d.Epoch, d.dirty = epoch, true
		b.drop(d, func(badSend) bool { return true })
	}
}

// prune forgets everywhere what was sent before a time.
func (b *badSends) prune(since time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, d := range b.subjects {
		if len(d.Sends) > 0 {
			b.drop(d, func(s badSend) bool { return s.When.Before(since) })
		}
	}
	b.places.prune(since.Unix())
}

// excusable returns the bad sends of a subject that are explained by a fault of others too, or
// for which their author is stopped, with how many there are for each place that has a fault. owners is how many accounts the owner
// map has; see accounts.others. blamed returns when an author was last stopped in place of the
// subject: what it had sent until then is not held against the subject.
func (b *badSends) excusable(subject string, now, since time.Time, owners int, blamed func(key string) time.Time) (sends []ratelimit.Token, at map[string]int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.subjects[subject]
	if d == nil {
		return nil, nil
	}
	others := b.accounts.others(owners, now)
	for token, s := range d.Sends {
		if s.Excused || s.When.Before(since) {
			continue
		}
		if s.Author != "" && !s.When.After(blamed(s.Author)) {
			sends = append(sends, token)
			continue
		}
		if place := b.places.explain(&s, since.Unix(), others); place != "" {
			if at == nil {
				at = map[string]int{}
			}
			sends = append(sends, token)
			at[place]++
		}
	}
	return sends, at
}

// unexplained reports whether any bad send of a subject is held against it.
func (b *badSends) unexplained(subject string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := b.subjects[subject]; d != nil {
		for _, s := range d.Sends {
			if !s.Excused && s.Fault != ownFault {
				return true
			}
		}
	}
	return false
}

// excuse marks bad sends of a subject as excused.
func (b *badSends) excuse(subject string, sends []ratelimit.Token) {
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.subjects[subject]
	if d == nil {
		return
	}
	for _, token := range sends {
		if s, known := d.Sends[token]; known {
			s.Excused, d.dirty = true, true
			d.Sends[token] = s
		}
	}
}

// save notes what has changed. Only one call may run at a time. It writes copies while mu is
// not held: questions of the router wait for mu, and there may be thousands of sends to write.
func (b *badSends) save(now time.Time) error {
	b.mu.Lock()
	b.saved = now
	newcomer, known := b.newcomer, maps.Clone(b.accounts)
	b.newcomer = false
	subjects := dirtyNames(b.subjects, func(d *subjectBad) bool { return d.dirty })
	places := dirtyNames(b.places.all, func(x *place) bool { return x.dirty })
	b.mu.Unlock()
	if newcomer {
		if err := b.accountNotes.Put(known, accountsNote); err != nil {
			b.mu.Lock()
			b.newcomer = true
			b.mu.Unlock()
			return err
		}
	}
	if err := b.dropPlaces(); err != nil {
		return err
	}
	for _, name := range places {
		if err := b.savePlace(name); err != nil {
			return err
		}
	}
	for _, subject := range subjects {
		if err := b.saveSubject(subject); err != nil {
			return err
		}
	}
	return nil
}

func dirtyNames[T any](all map[string]T, dirty func(T) bool) (names []string) {
	for name, x := range all {
		if dirty(x) {
			names = append(names, name)
		}
	}
	return names
}

// saveSubject notes the bad sends of a subject, and forgets it if it has none.
func (b *badSends) saveSubject(subject string) error {
	b.mu.Lock()
	d := b.subjects[subject] // only save forgets subjects
	noted := subjectBad{Sends: maps.Clone(d.Sends), Last: maps.Clone(d.Last), Epoch: d.Epoch}
	d.dirty = false
	b.mu.Unlock()
	var err error
	if len(noted.Sends) == 0 {
		err = b.notes.Drop(subject)
	} else {
		err = b.notes.Put(noted, subject)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err != nil {
		d.dirty = true
	} else if len(d.Sends) == 0 && !d.dirty {
		delete(b.subjects, subject)
	}
	return err
}

// dropPlaces drops the notes of places that are kept no more.
func (b *badSends) dropPlaces() error {
	b.mu.Lock()
	dropped := b.places.dropped
	b.places.dropped = nil
	b.mu.Unlock()
	for i, name := range dropped {
		b.mu.Lock()
		again := b.places.all[name] != nil
		b.mu.Unlock()
		if again {
			continue
		}
		if err := b.placeNotes.Drop(name); err != nil {
			b.mu.Lock()
			b.places.dropped = append(b.places.dropped, dropped[i:]...)
			b.mu.Unlock()
			return err
		}
	}
	return nil
}

// savePlace notes a place that has changed.
func (b *badSends) savePlace(name string) error {
	b.mu.Lock()
	x := b.places.all[name]
	if x == nil { // dropped meanwhile
		b.mu.Unlock()
		return nil
	}
	noted := place{Outages: slices.Clone(x.Outages), Answers: slices.Clone(x.Answers), Last: x.Last}
	x.dirty = false
	b.mu.Unlock()
	err := b.placeNotes.Put(noted, name)
	if err != nil {
		b.mu.Lock()
		x.dirty = true
		b.mu.Unlock()
	}
	return err
}
