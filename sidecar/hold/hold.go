package hold

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/notes"
)

// HoldFor is how long a held recipient is kept after the router last asked about it. The
// router asks in each queue run. If it has not asked for so long, the message has left the
// queue without Sluice's knowledge.
const HoldFor = 7 * 24 * time.Hour

// Holds are the recipients of accepted messages that wait in Exim's queue because the
// router held them. They are noted, so that after a restart they are still released, and
// charged then however old their messages are.
type Holds struct {
	Options
	notes    notes.Map[heldNote] // by subject, message id and token
	asides   notes.Map[heldNote] // likewise, of what is in the quarantine
	releases sync.WaitGroup

	mu       sync.Mutex
	subjects map[string]map[string]*heldMessage // by the payer's subject and message id
	current  map[string]int                     // number of the release that is running, by subject
	epochs   map[string]int64                   // of the last reset of each subject with held mail
	messages map[string]int                     // how many recipients are held, by message id
	authors  map[string]int                     // the same, by the author's key, and by the scope of the stop if that is another
	aside    map[string][]sidecar.Held          // of messages in the quarantine, by their ids
	begun    int                                // how many releases have begun
}

// Options are what Holds are made with; all but Waits are needed.
type Options struct {
	Notes  notes.Store
	Events event.Sink
	Queue  Queue
	// Room returns how much of a payer's mail would be accepted now.
	Room func(ctx context.Context, now time.Time, who sidecar.Payer) sidecar.Room
	// Waits reports whether a held message must wait, though others of its payer may go: its
	// author is stopped, or was. Of h only Payer, ID, Author and Stop are set. nil: none must.
	Waits func(now time.Time, h sidecar.Held) bool
}

// A Queue is Exim's.
type Queue interface {
	// Deliver has Exim try the messages now, one after the other, and returns when it
	// has, or when ctx is done: a delivery that has begun then goes on. Messages that
	// are not in the queue are no error.
	Deliver(ctx context.Context, ids []string) error
}

// A heldMessage is a message with its held recipients.
type heldMessage struct {
	id         string
	who        sidecar.Payer
	author     sidecar.Author
	stop       string // scope of the stop that holds it; empty: none does
	recipients map[ratelimit.Token]heldRecipient
	asked      time.Time // when the router last asked about one of them
	tried      time.Time // when Exim was last asked to deliver it
	last       bool      // it is released behind the others
	charged    int       // recipients that were charged; only of a copy, see heldIn
}

type heldRecipient struct {
	since    time.Time
	charged  bool // it was charged before the router held it: a block held it, not a limit
	last     bool // as in sidecar.Held, like those below
	stop     string
	original string
}

// A heldNote is a held recipient as it is noted.
type heldNote struct {
	Since    time.Time `json:"since"`
	Domain   string    `json:"domain,omitempty"` // of a special subject
	Mailbox  string    `json:"mailbox,omitempty"`
	Account  string    `json:"account,omitempty"`
	Charged  bool      `json:"charged,omitempty"`
	Last     bool      `json:"last,omitempty"`
	Author   string    `json:"author,omitempty"` // the key
	Of       string    `json:"of,omitempty"`     // the author's account
	Login    string    `json:"login,omitempty"`  // the author's
	Stop     string    `json:"stop,omitempty"`
	Original string    `json:"original,omitempty"`
}

// held is what was noted under a name.
func (n heldNote) held(name []string) (sidecar.Held, error) {
	token, err := strconv.ParseUint(name[2], 16, 64)
	who := sidecar.Payer{Domain: name[0], Mailbox: n.Mailbox, Account: n.Account}
	if sidecar.IsSpecial(name[0]) {
		who.Special, who.Domain = name[0], n.Domain
	}
	return sidecar.Held{Payer: who, ID: name[1], Token: ratelimit.Token(token), Charged: n.Charged, Last: n.Last,
		Author: sidecar.Author{Key: n.Author, Account: n.Of, Login: n.Login}, Stop: n.Stop, Original: n.Original}, err
}

// noteOf is a held recipient as it is noted.
func noteOf(x sidecar.Held, since time.Time) heldNote {
	n := heldNote{Since: since, Mailbox: x.Payer.Mailbox, Account: x.Payer.Account, Charged: x.Charged, Last: x.Last,
		Author: x.Author.Key, Of: x.Author.Account, Login: x.Author.Login, Stop: x.Stop, Original: x.Original}
	if x.Payer.Special != "" {
		n.Domain = x.Payer.Domain
	}
	return n
}

// New returns Holds with what was noted.
func New(o Options) *Holds {
	h := &Holds{Options: o, notes: notes.New[heldNote](o.Notes, "hold", 3, event.Unread(o.Events, event.HoldUnread)),
		asides: notes.New[heldNote](o.Notes, "hold-aside", 3, event.Unread(o.Events, event.HoldUnread)), aside: map[string][]sidecar.Held{},
		subjects: map[string]map[string]*heldMessage{}, messages: map[string]int{}, authors: map[string]int{}, current: map[string]int{}, epochs: map[string]int64{}}
	h.notes.Load(func(name []string, n heldNote) error {
		x, err := n.held(name)
		if err == nil {
			h.put(x, n.Since)
		}
		return err
	})
	h.asides.Load(func(name []string, n heldNote) error {
		x, err := n.held(name)
		if err == nil {
			h.aside[x.ID] = append(h.aside[x.ID], x)
		}
		return err
	})
	return h
}

// ReleaseAll begins to release what there is room for.
func (h *Holds) ReleaseAll(ctx context.Context, now time.Time) {
	for _, subject := range h.Subjects() {
		h.startRelease(ctx, now, subject)
	}
}

// Wait waits for the deliveries that have begun.
func (h *Holds) Wait() { h.releases.Wait() }

// Hold records that the router holds a recipient, and reports whether it was not held before.
func (h *Holds) Hold(now time.Time, x sidecar.Held) (begins bool) {
	begins, err := h.add(x, now)
	event.EmitError(h.Events, event.StoreFailed, err)
	return begins
}

// Drop forgets a recipient that is held no more.
func (h *Holds) Drop(subject, id string, token ratelimit.Token) {
	h.mu.Lock()
	err := h.drop(subject, id, token)
	h.mu.Unlock()
	event.EmitError(h.Events, event.StoreFailed, err)
}

// Recorded implements delivery.Observer. A send that is charged only by its line in the
// log was delivered without a question to Sluice, and is held no more.
func (h *Holds) Recorded(_ time.Time, news []logline.Outcome) {
	for i := range news {
		if o := &news[i]; o.Charged {
			h.Drop(o.Payer.Subject(), o.Entry.ID, o.Token)
		}
	}
}

// Left handles messages that have left a queue. The held recipients of those that were delivered,
// removed, or moved to another queue are forgotten; of those in the quarantine they are set aside.
func (h *Holds) Left(messages []logline.Departure) {
	h.mu.Lock()
	var errs []error
	for _, m := range messages {
		switch aside := h.aside[m.ID]; {
		case m.Moved && m.To == logline.QuarantineQueue:
			errs = append(errs, h.setAside(m.ID))
		case m.Moved && len(aside) > 0:
			errs = append(errs, h.takeBack(m.ID, m.At))
		case h.messages[m.ID] > 0 || len(aside) > 0: // nearly never
			errs = append(errs, h.dropMessage(m.ID), h.dropAside(m.ID))
		}
	}
	h.mu.Unlock()
	event.EmitError(h.Events, event.StoreFailed, errors.Join(errs...))
}

// dropMessage forgets what is held of a message. mu is held.
func (h *Holds) dropMessage(id string) error {
	if h.messages[id] == 0 { // nearly always
		return nil
	}
	var errs []error
	for subject, messages := range h.subjects {
		if m := messages[id]; m != nil {
			for token := range m.recipients {
				errs = append(errs, h.drop(subject, id, token))
			}
		}
	}
	return errors.Join(errs...)
}

// Gone forgets the held recipients of a message that has left the queue without a line in the log:
// those with these tokens or, if there are none, all. They will not be sent, and are not charged.
func (h *Holds) Gone(id string, tokens ...ratelimit.Token) {
	h.mu.Lock()
	var errs []error
	if len(tokens) == 0 {
		errs = append(errs, h.dropMessage(id), h.dropAside(id))
	}
	for _, token := range tokens {
		for subject := range h.subjects {
			errs = append(errs, h.drop(subject, id, token))
		}
	}
	h.mu.Unlock()
	event.EmitError(h.Events, event.StoreFailed, errors.Join(errs...))
}

// Forget forgets messages about which the router has not asked for HoldFor. Releases do
// that too; a simulation makes none.
func (h *Holds) Forget(now time.Time) {
	for _, subject := range h.Subjects() {
		event.EmitError(h.Events, event.StoreFailed, h.expire(subject, now))
	}
}

// Reset lets another release of a subject begin at once: one that is running may wait for
// Exim much longer than an operator wants to. The old release still finishes the messages
// that it is delivering, and then ends.
func (h *Holds) Reset(_ context.Context, _ time.Time, r sidecar.Reset) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subjects[r.Subject] != nil && h.epochs[r.Subject] < r.Epoch {
		h.epochs[r.Subject] = r.Epoch
		delete(h.current, r.Subject)
	}
	return nil
}

func tokenName(token ratelimit.Token) string { return fmt.Sprintf("%016x", uint64(token)) }

// put adds a held recipient in memory, and reports whether its note is new or another one.
// mu is held, or nobody else has h yet.
func (h *Holds) put(x sidecar.Held, now time.Time) bool {
	who, id := x.Payer.Clone(), strings.Clone(x.ID)
	messages := h.subjects[who.Subject()]
	if messages == nil {
		messages = map[string]*heldMessage{}
		h.subjects[who.Subject()] = messages
	}
	m := messages[id]
	if m == nil {
		m = &heldMessage{id: id, author: x.Author.Clone(), recipients: map[ratelimit.Token]heldRecipient{}}
		messages[id] = m
	}
	if m.author.Key == "" && x.Author.Key != "" { // an older version has noted it
		h.authors[x.Author.Key] += len(m.recipients)
		m.author = x.Author.Clone()
	}
	m.who, m.asked, m.last, m.stop = who, now, x.Last, strings.Clone(x.Stop)
	r, held := m.recipients[x.Token]
	if held && r.stop == m.stop {
		return false
	}
	if held {
		h.uncountStop(m, r)
		r.stop = m.stop
		m.recipients[x.Token] = r
		h.countStop(m, r)
		return true
	}
	r = heldRecipient{now, x.Charged, x.Last, m.stop, strings.Clone(x.Original)}
	m.recipients[x.Token] = r
	h.messages[id]++
	if m.author.Key != "" {
		h.authors[m.author.Key]++
	}
	h.countStop(m, r)
	return true
}

// countStop counts a recipient as held by a stop of more than its author.
func (h *Holds) countStop(m *heldMessage, r heldRecipient) {
	if r.stop != "" && r.stop != m.author.Key {
		h.authors[r.stop]++
	}
}

func (h *Holds) uncountStop(m *heldMessage, r heldRecipient) {
	if r.stop != "" && r.stop != m.author.Key {
		subtract(h.authors, r.stop)
	}
}

// held returns a held recipient; false if it is not held. mu is held.
func (h *Holds) held(subject, id string, token ratelimit.Token) (r heldRecipient, held bool) {
	if m := h.subjects[subject][id]; m != nil {
		r, held = m.recipients[token]
	}
	return r, held
}

// HeldBy returns the scope of the stop that has held a recipient last; empty if it is not
// held, or another reason has held it since.
func (h *Holds) HeldBy(subject, id string, token ratelimit.Token) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, _ := h.held(subject, id, token)
	return r.stop
}

// NumberOf returns how many recipients of an author's mail are held, or by a stop of an
// account or login.
func (h *Holds) NumberOf(scope string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.authors[scope]
}

// Uncharged reports whether a recipient is held and was never charged.
func (h *Holds) Uncharged(subject, id string, token ratelimit.Token) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	r, held := h.held(subject, id, token)
	return held && !r.charged || h.unchargedAside(subject, id, token)
}

// add adds a held recipient in memory and in the notes, and reports whether it was not held
// before. mu is held for both, as in Drop, so that the two never disagree.
func (h *Holds) add(x sidecar.Held, now time.Time) (begins bool, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.addLocked(x, now)
}

// addLocked is add while mu is held.
func (h *Holds) addLocked(x sidecar.Held, now time.Time) (begins bool, err error) {
	_, before := h.held(x.Payer.Subject(), x.ID, x.Token)
	if !h.put(x, now) {
		return false, nil
	}
	r, _ := h.held(x.Payer.Subject(), x.ID, x.Token)
	x.Charged, x.Last, x.Stop, x.Original = r.charged, r.last, r.stop, r.original
	return !before, h.notes.Put(noteOf(x, r.since), x.Payer.Subject(), x.ID, tokenName(x.Token))
}

// drop forgets a recipient, if it is held, and its note. mu is held.
func (h *Holds) drop(subject, id string, token ratelimit.Token) error {
	m := h.subjects[subject][id]
	if m == nil {
		return nil
	}
	r, held := m.recipients[token]
	if !held {
		return nil
	}
	delete(m.recipients, token)
	h.uncountStop(m, r)
	subtract(h.messages, id)
	subtract(h.authors, m.author.Key)
	if len(m.recipients) == 0 {
		delete(h.subjects[subject], id)
	}
	if len(h.subjects[subject]) == 0 {
		delete(h.subjects, subject)
		delete(h.epochs, subject)
	}
	return h.notes.Drop(subject, id, tokenName(token))
}

// subtract subtracts one of a key, and forgets a key that has none left.
func subtract(counts map[string]int, key string) {
	if counts[key]--; counts[key] <= 0 {
		delete(counts, key)
	}
}

// setTried records that Exim is asked to deliver messages.
func (h *Holds) setTried(subject string, ids []string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if m := h.subjects[subject][id]; m != nil {
			m.tried = now
		}
	}
}

// expire forgets the messages of a subject about which the router has not asked for HoldFor.
func (h *Holds) expire(subject string, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for id, m := range h.subjects[subject] {
		if now.Sub(m.asked) <= HoldFor {
			continue
		}
		for token := range m.recipients {
			errs = append(errs, h.drop(subject, id, token))
		}
	}
	return errors.Join(errs...)
}

// heldIn returns the held messages of a subject without their recipients, in no order.
func (h *Holds) heldIn(subject string) (all []heldMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.subjects[subject] {
		one := heldMessage{id: m.id, who: m.who, author: m.author, stop: m.stop, asked: m.asked, tried: m.tried, last: m.last}
		for _, r := range m.recipients {
			if r.charged {
				one.charged++
			}
		}
		all = append(all, one)
	}
	return all
}

// NumberIn returns how many recipients of a subject are held.
func (h *Holds) NumberIn(subject string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.subjects[subject] {
		n += len(m.recipients)
	}
	return n
}

// NumberHeldBy returns how many recipients are held by a stop of a scope, of messages that
// which reports true for.
func (h *Holds) NumberHeldBy(stop string, which func(id string) bool) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, messages := range h.subjects {
		for id, m := range messages {
			if m.stop == stop && which(id) {
				n += len(m.recipients)
			}
		}
	}
	return n
}

// Number returns how many recipients are held in all.
func (h *Holds) Number() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := 0
	for _, n := range h.messages {
		all += n
	}
	return all
}

// Messages returns how many recipients of each message are held, by its id: of one that is set
// aside in the quarantine, none.
func (h *Holds) Messages() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := maps.Clone(h.messages)
	for id := range h.aside {
		all[id] += 0
	}
	return all
}

// Subjects returns the subjects with held mail: domains and special ones.
func (h *Holds) Subjects() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.subjects))
}
