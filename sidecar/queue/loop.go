package queue

import (
	"cmp"
	"hash/maphash"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/printable"
)

// Loops finds mail that goes round in a loop, by the main log:
//   - the same message, by its Message-ID, is sent on by the same address again and again;
//   - two addresses answer each other, as automatic answers do;
//   - a server says that a message has too many Received headers.
type Loops struct {
	events  event.Sink
	local   func(domain string) bool
	aliases []string // as of NewLoops
	seed    maphash.Seed

	mu          sync.Mutex
	now, before seen                 // before is what was seen until now began
	began       time.Time            // when now began
	told        map[string]time.Time // when a loop was told, by its address
}

// seen is what the log has told in some minutes.
type seen struct {
	arrivals  map[key]arrival // of messages that have not left
	forwards  map[forward]passes
	exchanges map[exchange]turns
}

// An arrival is what is needed of a message that has come.
type arrival struct {
	message uint64 // hash of its Message-ID; 0: none was logged
	sender  string // empty: the null sender
}

// Forwards and exchanges are looked up for each line of the log, so they are hashes: maps are
// fastest by such a number.

// A forward is a message that an address sends on: the sum of the hashes of both.
type forward uint64

// An exchange is mail between two addresses, whoever of them has sent it: the sum of their hashes.
type exchange uint64

// turns are how many messages went from the address with the lower hash of two, and from the
// other, since a time in Unix seconds, and the last of each.
type turns struct {
	since int64
	n     [2]int32
	last  [2]key
}

// passes are the last times at which something has passed, each in a message of its own.
type passes []pass

type pass struct {
	id key
	at time.Time
}

const (
	loopWindow  = 10 * time.Minute
	leastPasses = 3      // of the same message
	leastTurns  = 10     // in each direction between two addresses
	maxSeen     = 50_000 // arrivals, forwards, and exchanges, in each half of what is kept
)

// NewLoops returns Loops that have seen nothing. aliases are paths of alias files, in which
// DOMAIN stands for the domain of an address.
func NewLoops(events event.Sink, local func(domain string) bool, aliases []string) *Loops {
	return &Loops{events: events, local: local, aliases: aliases, seed: maphash.MakeSeed(), now: newSeen(seen{}), before: newSeen(seen{}), told: map[string]time.Time{}}
}

// newSeen has seen nothing, and has room for as much as another has seen.
func newSeen(like seen) seen {
	return seen{make(map[key]arrival, len(like.arrivals)), make(map[forward]passes, len(like.forwards)), make(map[exchange]turns, len(like.exchanges))}
}

// Observe takes in lines of the main log, in order.
func (l *Loops) Observe(entries []logline.Entry) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range entries {
		e := &entries[i]
		k, ok := keyOf(e.ID)
		if !ok || e.Postfix {
			continue
		}
		l.turn(e.At)
		switch {
		case e.Kind == logline.Arrived:
			a := arrival{sender: strings.Clone(cut(e.Sender))}
			if e.MessageID != "" {
				a.message = maphash.String(l.seed, e.MessageID)
			}
			l.now.arrivals[k] = a
		case e.Kind == logline.Completed: // nothing more will become of it
			delete(l.now.arrivals, k)
			delete(l.before.arrivals, k)
		case e.IsOutcome():
			l.outcome(e, k)
		}
	}
}

// fold is an address as it is compared, in memory of its own.
func fold(address string) string { return strings.Clone(cut(envelope.FoldRouted(address).String())) }

func (l *Loops) isLocal(address string) bool { return l.local(envelope.DomainOf(address)) }

func (l *Loops) hash(address string) uint64 { return maphash.String(l.seed, strings.ToLower(address)) }

// turn forgets what is too old, or too much.
func (l *Loops) turn(at time.Time) {
	full := max(len(l.now.arrivals), len(l.now.forwards), len(l.now.exchanges)) >= maxSeen
	if age := at.Sub(l.began); !full && age >= 0 && age < loopWindow {
		return
	}
	l.now, l.before, l.began = newSeen(l.now), l.now, at
	for address, when := range l.told {
		if at.Sub(when) >= loopWindow {
			delete(l.told, address)
		}
	}
}

// outcome takes in what became of one recipient.
func (l *Loops) outcome(e *logline.Entry, k key) {
	a, known := l.now.arrivals[k]
	if !known {
		a = l.before.arrivals[k]
	}
	if envelope.DomainOf(e.Recipient) == logline.HoldDomain { // it was not sent on yet
		return
	}
	original := cmp.Or(e.Original, e.Recipient)
	switch forwards := sendsOn(e, l.local); {
	case e.Kind != logline.Delivered && saysLoop(e.Text):
		l.tell(e, original, "headers", e.Recipient, 1, forwards)
	case forwards && a.message != 0:
		if n := len(add(l.now.forwards, l.before.forwards, forward(l.hash(fold(original))+a.message), pass{k, e.At}, leastPasses)); n >= leastPasses {
			l.tell(e, original, "forward", e.Recipient, n, true)
		}
	}
	if a.sender != "" {
		l.exchanged(e, k, a.sender, original)
	}
}

// sendsOn reports whether an address here sends on what an outcome is about. What goes into a
// mailbox, which the log names by its user alone, a file or a program, is not sent on.
func sendsOn(e *logline.Entry, local func(domain string) bool) bool {
	to := envelope.DomainOf(e.Recipient)
	return to != "" && !local(to) && local(envelope.DomainOf(e.Original))
}

// exchanged counts a message from one address to another.
func (l *Loops) exchanged(e *logline.Entry, k key, from, to string) {
	one, other, by := l.hash(from), l.hash(to), 0
	if one > other {
		by = 1
	}
	x := exchange(one + other)
	t := l.turns(x, e.At)
	if t.last[by] == k {
		return
	}
	t.n[by], t.last[by] = t.n[by]+1, k
	l.now.exchanges[x] = t
	if min(t.n[0], t.n[1]) < leastTurns {
		return
	}
	if l.isLocal(to) {
		from, to = to, from
	}
	l.tell(e, from, "answers", to, int(t.n[0]+t.n[1]), false)
}

// turns are those of an exchange in the ten minutes that have begun with one of them.
func (l *Loops) turns(x exchange, at time.Time) turns {
	t, known := l.now.exchanges[x]
	if !known {
		t = l.before.exchanges[x]
	}
	if at.Unix()-t.since > int64(loopWindow/time.Second) {
		t = turns{since: at.Unix()}
	}
	return t
}

// tooManyHops is what servers say of a message that has passed too many, Exim first.
var tooManyHops = regexp.MustCompile(`(?i)too many "?received"? headers|mail loop|loop detected|too many hops|hop count exceeded`)

// saysLoop reports whether a server says that a message has passed too many. Of a million lines next
// to none do, so what all of these have in it is looked for first.
func saysLoop(text string) bool {
	return slices.ContainsFunc([]string{"hop", "loop", "eceived", "Hop", "Loop", "HOP", "LOOP", "ECEIVED"},
		func(part string) bool { return strings.Contains(text, part) }) && tooManyHops.MatchString(text)
}

// add adds a pass, unless it is of a message that has been counted, and returns the most last ones.
func add(now, before map[forward]passes, k forward, this pass, most int) passes {
	p, known := now[k]
	if !known {
		p = before[k]
	}
	p = slices.DeleteFunc(slices.Clone(p), func(one pass) bool { return this.at.Sub(one.at) > loopWindow })
	if !slices.ContainsFunc(p, func(one pass) bool { return one.id == this.id }) {
		p = append(p, this)
	}
	p = p[max(0, len(p)-most):]
	now[k] = p
	return p
}

// tell tells of a loop at an address, unless that was told just now.
func (l *Loops) tell(e *logline.Entry, address, how, to string, times int, forwards bool) {
	address, to = fold(address), fold(to)
	if when, is := l.told[address]; is && e.At.Sub(when) < loopWindow || len(l.told) >= maxSeen {
		return
	}
	l.told[address] = e.At
	attrs := []any{"address", address, "how", how, "to", to, "times", times, "message", strings.Clone(e.ID)}
	if forwards {
		if line := l.aliasOf(address); line != "" {
			attrs = append(attrs, "alias", line)
		}
		if command := printable.Command("sluice stop", sidecar.ForwardPrefix+address); command != "" {
			attrs = append(attrs, "stop", command)
		}
	}
	l.events.Emit(event.Event{Kind: event.Loop, At: e.At, Domain: strings.Clone(envelope.DomainOf(address)), Attrs: event.Attrs(attrs...)})
}
