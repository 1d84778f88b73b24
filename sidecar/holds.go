package sidecar

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/notes"
)

// holdFor is how long a held recipient is remembered about which nobody asks
// any more: its message has left the queue behind our back. Each queue run asks.
const holdFor = 7 * 24 * time.Hour

// holds is what waits in Exim's queue because the router held it: recipients
// of accepted messages that were not charged. They are noted, so that Sluice
// knows after a restart what to release, and that they are to be charged
// however old their messages have become.
type holds struct {
	notes notes.Map[heldNote] // by domain, message id and token

	mu      sync.Mutex
	domains map[string]map[string]*heldMessage // by domain and message id
	under   map[string]int                     // number of the release that is under way, by domain
	begun   int                                // how many releases have begun
	count   int
}

// A heldMessage is one message with the recipients that are held.
type heldMessage struct {
	id         string
	who        identity
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

func newHolds(store Notes, log *OperatorLog) *holds {
	h := &holds{notes: notes.New[heldNote](store, "hold", 3, log.HoldUnread), domains: map[string]map[string]*heldMessage{}, under: map[string]int{}}
	h.notes.Load(func(name []string, n heldNote) error {
		token, err := strconv.ParseUint(name[2], 16, 64)
		if err == nil {
			h.put(identity{domain: name[0], mailbox: n.Mailbox, account: n.Account}, name[1], ratelimit.Token(token), heldRecipient{n.Since, n.Charged})
		}
		return err
	})
	return h
}

func tokenName(token ratelimit.Token) string { return fmt.Sprintf("%016x", uint64(token)) }

// put remembers a held recipient, and reports whether it is a new one. mu is
// held, or nobody else knows h yet.
func (h *holds) put(who identity, id string, token ratelimit.Token, r heldRecipient) bool {
	who, id = who.clone(), strings.Clone(id)
	messages := h.domains[who.domain]
	if messages == nil {
		messages = map[string]*heldMessage{}
		h.domains[who.domain] = messages
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

// uncharged tells whether a recipient is held that was never charged.
func (h *holds) uncharged(domain, id string, token ratelimit.Token) bool {
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
func (h *holds) hold(who identity, id string, token ratelimit.Token, r heldRecipient) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.put(who, id, token, r) {
		return nil
	}
	return h.notes.Put(heldNote{Since: r.since, Mailbox: who.mailbox, Account: who.account, Charged: r.charged}, who.domain, id, tokenName(token))
}

// release forgets a recipient that is held no more.
func (h *holds) release(domain, id string, token ratelimit.Token) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.drop(domain, id, token)
}

// drop forgets a recipient, if it is held, and its note. mu is held.
func (h *holds) drop(domain, id string, token ratelimit.Token) error {
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
	}
	return h.notes.Drop(domain, id, tokenName(token))
}

// try notes that Exim is told to deliver messages.
func (h *holds) try(domain string, ids []string, now time.Time) {
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
func (h *holds) expire(domain string, now time.Time) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	var errs []error
	for id, m := range h.domains[domain] {
		if now.Sub(m.asked) <= holdFor {
			continue
		}
		for token := range m.recipients {
			errs = append(errs, h.drop(domain, id, token))
		}
	}
	return errors.Join(errs...)
}

// heldIn lists the held messages of a domain, the oldest first: Exim's ids
// begin with the time.
func (h *holds) heldIn(domain string) []heldMessage {
	all := h.copyOf(domain)
	slices.SortFunc(all, func(a, b heldMessage) int { return strings.Compare(a.id, b.id) })
	return all
}

func (h *holds) copyOf(domain string) (all []heldMessage) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.domains[domain] {
		all = append(all, heldMessage{id: m.id, who: m.who, asked: m.asked, tried: m.tried})
	}
	return all
}

// numberIn is how many recipients of a domain are held.
func (h *holds) numberIn(domain string) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, m := range h.domains[domain] {
		n += len(m.recipients)
	}
	return n
}

func (h *holds) number() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.count
}

// withHolds lists the domains that have something held.
func (h *holds) withHolds() []string {
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
func (h *holds) begin(domain string) (number int, ok bool) {
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
func (h *holds) leave(domain string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.under, domain)
}

// goesOn tells whether a release is still the one of its domain.
func (h *holds) goesOn(domain string, number int) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.under[domain] == number
}

// hold notes that the router holds a recipient, and answers so.
func (p *Policy) hold(q *question, token ratelimit.Token, charged bool, r Reply) Reply {
	if err := p.holds.hold(q.who, q.ID, token, heldRecipient{q.now, charged}); err != nil {
		p.log.StoreFailed(err)
	}
	return r
}

// unhold forgets that the router held a recipient.
func (p *Policy) unhold(q *question, token ratelimit.Token) {
	if err := p.holds.release(q.who.domain, q.ID, token); err != nil {
		p.log.StoreFailed(err)
	}
}
