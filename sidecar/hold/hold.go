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
	notes    notes.Map[heldNote] // by subject, message id and token
	events   event.Sink
	exim     sidecar.Queue
	room     func(ctx context.Context, now time.Time, who sidecar.Payer) (sends, retries int)
	releases sync.WaitGroup

	mu       sync.Mutex
	subjects map[string]map[string]*heldMessage // by the payer's subject and message id
	current  map[string]int                     // number of the release that is running, by subject
	epochs   map[string]int64                   // of the last reset of each subject with held mail
	messages map[string]int                     // how many recipients are held, by message id
	begun    int                                // how many releases have begun
	count    int                                // of all recipients
}

// Options are what Holds are made with; all are needed.
type Options struct {
	Notes  sidecar.Notes
	Events event.Sink
	Queue  sidecar.Queue
	// Room returns how many sends of a payer would be accepted now, and how many that were
	// charged before may be tried again.
	Room func(ctx context.Context, now time.Time, who sidecar.Payer) (sends, retries int)
}

// A heldMessage is a message with its held recipients.
type heldMessage struct {
	id         string
	who        sidecar.Payer
	recipients map[ratelimit.Token]heldRecipient
	asked      time.Time // when the router last asked about one of them
	tried      time.Time // when Exim was last asked to deliver it
	last       bool      // it is released behind the others
	charged    int       // recipients that were charged; only of a copy, see heldIn
}

type heldRecipient struct {
	since   time.Time
	charged bool // it was charged before the router held it: a block held it, not a limit
	last    bool // as in sidecar.Held
}

// A heldNote is a held recipient as it is noted.
type heldNote struct {
	Since   time.Time `json:"since"`
	Domain  string    `json:"domain,omitempty"` // of a special subject
	Mailbox string    `json:"mailbox,omitempty"`
	Account string    `json:"account,omitempty"`
	Charged bool      `json:"charged,omitempty"`
	Last    bool      `json:"last,omitempty"`
}

// New returns Holds with what was noted.
func New(o Options) *Holds {
	h := &Holds{notes: notes.New[heldNote](o.Notes, "hold", 3, event.Unread(o.Events, event.HoldUnread)), events: o.Events, exim: o.Queue, room: o.Room,
		subjects: map[string]map[string]*heldMessage{}, messages: map[string]int{}, current: map[string]int{}, epochs: map[string]int64{}}
	h.notes.Load(func(name []string, n heldNote) error {
		token, err := strconv.ParseUint(name[2], 16, 64)
		if err == nil {
			who := sidecar.Payer{Domain: name[0], Mailbox: n.Mailbox, Account: n.Account}
			if sidecar.IsSpecial(name[0]) {
				who.Special, who.Domain = name[0], n.Domain
			}
			h.put(who, name[1], ratelimit.Token(token), heldRecipient{n.Since, n.Charged, n.Last})
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

// Hold records that the router holds a recipient.
func (h *Holds) Hold(now time.Time, x sidecar.Held) {
	h.logFailure(h.hold(x.Payer, x.ID, x.Token, heldRecipient{now, x.Charged, x.Last}))
}

// Drop forgets a recipient that is held no more.
func (h *Holds) Drop(subject, id string, token ratelimit.Token) {
	h.mu.Lock()
	err := h.drop(subject, id, token)
	h.mu.Unlock()
	h.logFailure(err)
}

// Recorded implements delivery.Observer. A send that is charged only by its line in the
// log was delivered without a question to Sluice, and is held no more.
func (h *Holds) Recorded(_ time.Time, news []sidecar.Outcome) {
	for i := range news {
		if o := &news[i]; o.Charged {
			h.Drop(o.Payer.Subject(), o.Entry.ID, o.Token)
		}
	}
}

// Left forgets what is held of messages that have left the queue: they were delivered,
// removed, or moved to another queue.
func (h *Holds) Left(ids []string) {
	h.logFailure(h.dropMessages(ids))
}

func (h *Holds) dropMessages(ids []string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for _, id := range ids {
		if h.messages[id] == 0 { // nearly always
			continue
		}
		for subject, messages := range h.subjects {
			if m := messages[id]; m != nil {
				for token := range m.recipients {
					errs = append(errs, h.drop(subject, id, token))
				}
			}
		}
	}
	return errors.Join(errs...)
}

// Forget forgets messages about which the router has not asked for HoldFor. Releases do
// that too; a simulation makes none.
func (h *Holds) Forget(now time.Time) {
	for _, subject := range h.Subjects() {
		h.logFailure(h.expire(subject, now))
	}
}

func (h *Holds) logFailure(err error) {
	if err != nil {
		h.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// Reset lets another release of a subject begin at once: one that is running may wait for
// Exim much longer than an operator wants to. The old release still finishes the messages
// that it is delivering, and then ends.
func (h *Holds) Reset(_ context.Context, _ time.Time, r sidecar.Reset) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.subjects[r.Domain] != nil && h.epochs[r.Domain] < r.Epoch {
		h.epochs[r.Domain] = r.Epoch
		delete(h.current, r.Domain)
	}
	return nil
}

func tokenName(token ratelimit.Token) string { return fmt.Sprintf("%016x", uint64(token)) }

// put adds a held recipient in memory, and reports whether it is a new one. mu is held,
// or nobody else has h yet.
func (h *Holds) put(who sidecar.Payer, id string, token ratelimit.Token, r heldRecipient) bool {
	who, id = who.Clone(), strings.Clone(id)
	messages := h.subjects[who.Subject()]
	if messages == nil {
		messages = map[string]*heldMessage{}
		h.subjects[who.Subject()] = messages
	}
	m := messages[id]
	if m == nil {
		m = &heldMessage{id: id, who: who, recipients: map[ratelimit.Token]heldRecipient{}}
		messages[id] = m
	}
	m.who, m.asked, m.last = who, r.since, r.last
	if _, held := m.recipients[token]; held {
		return false
	}
	m.recipients[token] = r
	h.count++
	h.messages[id]++
	return true
}

// Uncharged reports whether a recipient is held and was never charged.
func (h *Holds) Uncharged(subject, id string, token ratelimit.Token) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.subjects[subject][id]
	if m == nil {
		return false
	}
	r, held := m.recipients[token]
	return held && !r.charged
}

// hold adds a held recipient in memory and in the notes. mu is held for both, as in
// Drop, so that the two never disagree.
func (h *Holds) hold(who sidecar.Payer, id string, token ratelimit.Token, r heldRecipient) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.put(who, id, token, r) {
		return nil
	}
	n := heldNote{Since: r.since, Mailbox: who.Mailbox, Account: who.Account, Charged: r.charged, Last: r.last}
	if who.Special != "" {
		n.Domain = who.Domain
	}
	return h.notes.Put(n, who.Subject(), id, tokenName(token))
}

// drop forgets a recipient, if it is held, and its note. mu is held.
func (h *Holds) drop(subject, id string, token ratelimit.Token) error {
	m := h.subjects[subject][id]
	if m == nil {
		return nil
	}
	if _, held := m.recipients[token]; !held {
		return nil
	}
	delete(m.recipients, token)
	h.count--
	if h.messages[id]--; h.messages[id] == 0 {
		delete(h.messages, id)
	}
	if len(m.recipients) == 0 {
		delete(h.subjects[subject], id)
	}
	if len(h.subjects[subject]) == 0 {
		delete(h.subjects, subject)
		delete(h.epochs, subject)
	}
	return h.notes.Drop(subject, id, tokenName(token))
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
		one := heldMessage{id: m.id, who: m.who, asked: m.asked, tried: m.tried, last: m.last}
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

// Number returns how many recipients are held in all.
func (h *Holds) Number() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// Subjects returns the subjects with held mail: domains and special ones.
func (h *Holds) Subjects() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Collect(maps.Keys(h.subjects))
}
