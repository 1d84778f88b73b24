package hold

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// holdFor is how long a held recipient is remembered about which nobody asks
// any more: its message has left the queue behind our back. Each queue run asks.
const HoldFor = 7 * 24 * time.Hour

// Holds is what waits in Exim's queue because the router held it: recipients
// of accepted messages that were not charged. They are noted, so that Sluice
// knows after a restart what to release, and that they are to be charged
// however old their messages have become.
type Holds struct {
	notes    notes.Map[heldNote] // by domain, message id and token
	events   event.Sink
	exim     sidecar.Queue
	room     func(ctx context.Context, now time.Time, who sidecar.Payer) int
	releases sync.WaitGroup

	mu      sync.Mutex
	domains map[string]map[string]*heldMessage // by domain and message id
	under   map[string]int                     // number of the release that is under way, by domain
	epochs  map[string]int64                   // of the last reset of each that has something held
	begun   int                                // how many releases have begun
	count   int
}

// HoldOptions are what Holds are made with; all are needed.
type Options struct {
	Notes  sidecar.Notes
	Events event.Sink
	Queue  sidecar.Queue
	// Room is how many sends of somebody would be accepted now.
	Room func(ctx context.Context, now time.Time, who sidecar.Payer) int
}

// A heldMessage is one message with the recipients that are held.
type heldMessage struct {
	id         string
	who        sidecar.Payer
	recipients map[ratelimit.Token]heldRecipient
	asked      time.Time // when the router last asked about one of them
	tried      time.Time // when Exim was last told to deliver it
}

type heldRecipient struct {
	since   time.Time
	charged bool // before it was held, under a lock by hand
}

// A heldNote is a recipient in the notes.
type heldNote struct {
	Since   time.Time `json:"since"`
	Mailbox string    `json:"mailbox,omitempty"`
	Account string    `json:"account,omitempty"`
	Charged bool      `json:"charged,omitempty"`
}

// NewHolds returns Holds that know what was noted.
func New(o Options) *Holds {
	h := &Holds{notes: notes.New[heldNote](o.Notes, "hold", 3, event.Unread(o.Events, event.HoldUnread)), events: o.Events, exim: o.Queue, room: o.Room,
		domains: map[string]map[string]*heldMessage{}, under: map[string]int{}, epochs: map[string]int64{}}
	h.notes.Load(func(name []string, n heldNote) error {
		token, err := strconv.ParseUint(name[2], 16, 64)
		if err == nil {
			h.put(sidecar.Payer{Domain: name[0], Mailbox: n.Mailbox, Account: n.Account}, name[1], ratelimit.Token(token), heldRecipient{n.Since, n.Charged})
		}
		return err
	})
	return h
}

// releaseAll releases what has room now.
func (h *Holds) ReleaseAll(ctx context.Context, now time.Time) {
	for _, domain := range h.Domains() {
		h.startRelease(ctx, now, domain)
	}
}

// Wait waits for the deliveries that have begun.
func (h *Holds) Wait() { h.releases.Wait() }

// Hold notes that the router holds a recipient; charged: it was paid for before.
func (h *Holds) Hold(now time.Time, who sidecar.Payer, id string, token ratelimit.Token, charged bool) {
	h.tellFailure(h.hold(who, id, token, heldRecipient{now, charged}))
}

// Drop forgets that the router held a recipient.
func (h *Holds) Drop(domain, id string, token ratelimit.Token) {
	h.tellFailure(h.release(domain, id, token))
}

// Recorded forgets that recipients are held which the log has seen leave.
func (h *Holds) Recorded(_ time.Time, news []sidecar.Outcome) {
	for i := range news {
		if o := &news[i]; o.Charged {
			h.Drop(o.Payer.Domain, o.Entry.ID, o.Token)
		}
	}
}

// Forget forgets messages about which nobody has asked for too long, where no
// release does it.
func (h *Holds) Forget(now time.Time) {
	for _, domain := range h.Domains() {
		h.tellFailure(h.expire(domain, now))
	}
}

func (h *Holds) tellFailure(err error) {
	if err != nil {
		h.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
	}
}

// reset lets another release of a domain begin: the one that is under way may
// wait for Exim much longer than an operator.
func (h *Holds) Reset(_ context.Context, _ time.Time, r sidecar.Reset) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.domains[r.Domain] != nil && h.epochs[r.Domain] < r.Epoch {
		h.epochs[r.Domain] = r.Epoch
		delete(h.under, r.Domain)
	}
	return nil
}

func tokenName(token ratelimit.Token) string { return fmt.Sprintf("%016x", uint64(token)) }

// put remembers a held recipient, and reports whether it is a new one. mu is
// held, or nobody else knows h yet.
func (h *Holds) put(who sidecar.Payer, id string, token ratelimit.Token, r heldRecipient) bool {
	who, id = who.Clone(), strings.Clone(id)
	messages := h.domains[who.Domain]
	if messages == nil {
		messages = map[string]*heldMessage{}
		h.domains[who.Domain] = messages
	}
	m := messages[id]
	if m == nil {
		m = &heldMessage{id: id, who: who, recipients: map[ratelimit.Token]heldRecipient{}}
		messages[id] = m
	}
	m.who, m.asked = who, r.since
	if _, held := m.recipients[token]; held {
		return false
	}
	m.recipients[token] = r
	h.count++
	return true
}

// Uncharged tells whether a recipient is held that was never charged.
func (h *Holds) Uncharged(domain, id string, token ratelimit.Token) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.domains[domain][id]
	if m == nil {
		return false
	}
	r, held := m.recipients[token]
	return held && !r.charged
}

// hold remembers and notes a held recipient. mu is held for both, here and where
// one is forgotten: what is noted and what is remembered never disagree.
func (h *Holds) hold(who sidecar.Payer, id string, token ratelimit.Token, r heldRecipient) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.put(who, id, token, r) {
		return nil
	}
	return h.notes.Put(heldNote{Since: r.since, Mailbox: who.Mailbox, Account: who.Account, Charged: r.charged}, who.Domain, id, tokenName(token))
}

// release forgets a recipient that is held no more.
func (h *Holds) release(domain, id string, token ratelimit.Token) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.drop(domain, id, token)
}

// drop forgets a recipient, if it is held, and its note. mu is held.
func (h *Holds) drop(domain, id string, token ratelimit.Token) error {
	m := h.domains[domain][id]
	if m == nil {
		return nil
	}
	if _, held := m.recipients[token]; !held {
		return nil
	}
	delete(m.recipients, token)
	h.count--
	if len(m.recipients) == 0 {
		delete(h.domains[domain], id)
	}
	if len(h.domains[domain]) == 0 {
		delete(h.domains, domain)
		delete(h.epochs, domain)
	}
	return h.notes.Drop(domain, id, tokenName(token))
}

// try notes that Exim is told to deliver messages.
func (h *Holds) try(domain string, ids []string, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, id := range ids {
		if m := h.domains[domain][id]; m != nil {
			m.tried = now
		}
	}
}

// expire forgets the messages of a domain about which nobody has asked for too
// long.
func (h *Holds) expire(domain string, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for id, m := range h.domains[domain] {
		if now.Sub(m.asked) <= HoldFor {
			continue
		}
		for token := range m.recipients {
			errs = append(errs, h.drop(domain, id, token))
		}
	}
	return errors.Join(errs...)
}

// heldIn lists the held messages of a domain, in no order.
func (h *Holds) heldIn(domain string) (all []heldMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.domains[domain] {
		all = append(all, heldMessage{id: m.id, who: m.who, asked: m.asked, tried: m.tried})
	}
	return all
}

// NumberIn is how many recipients of a domain are held.
func (h *Holds) NumberIn(domain string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.domains[domain] {
		n += len(m.recipients)
	}
	return n
}

func (h *Holds) Number() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// Domains lists the domains that have something held.
func (h *Holds) Domains() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []string
	for domain := range h.domains {
		all = append(all, domain)
	}
	return all
}

// begin begins a release of a domain, unless one is under way. Its number tells
// it from others.
func (h *Holds) begin(domain string) (number int, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.under[domain] != 0 {
		return 0, false
	}
	h.begun++
	h.under[domain] = h.begun
	return h.begun, true
}

// leave lets another release of a domain begin: the one that is under way may
// wait for Exim much longer than an operator. It ends with the messages that
// it is at.
func (h *Holds) leave(domain string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.under, domain)
}

// goesOn tells whether a release is still the one of its domain.
func (h *Holds) goesOn(domain string, number int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.under[domain] == number
}
