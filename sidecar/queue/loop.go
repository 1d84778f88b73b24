package queue

import (
	"fmt"
	"hash/maphash"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
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
	arrivals  map[key]arrival
	forwards  map[forward]passes
	exchanges map[exchange]passes
}

// An arrival is what is needed of a message that has come.
type arrival struct {
	message uint64 // hash of its Message-ID; 0: none was logged
	sender  string // folded; empty: the null sender
}

// A forward is a message that an address sends on.
type forward struct {
	original string
	message  uint64
}

// An exchange is mail from one address to another.
type exchange struct{ from, to string }

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
	return &Loops{events: events, local: local, aliases: aliases, seed: maphash.MakeSeed(), now: newSeen(), before: newSeen(), told: map[string]time.Time{}}
}

func newSeen() seen {
	return seen{map[key]arrival{}, map[forward]passes{}, map[exchange]passes{}}
}

// Observe takes in lines of the main log, in order.
func (l *Loops) Observe(entries []sidecar.LogEntry) {
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
		case e.Kind == sidecar.LogArrived:
			a := arrival{sender: fold(e.Sender)}
			if e.MessageID != "" {
				a.message = maphash.String(l.seed, e.MessageID)
			}
			l.now.arrivals[k] = a
		case e.IsOutcome():
			l.outcome(e, k)
		}
	}
}

// fold is an address as it is compared, in memory of its own; "" of none.
func fold(address string) string {
	if address == "" {
		return ""
	}
	return strings.Clone(cut(envelope.FoldRouted(address).String()))
}

// turn forgets what is too old, or too much.
func (l *Loops) turn(at time.Time) {
	full := max(len(l.now.arrivals), len(l.now.forwards), len(l.now.exchanges)) >= maxSeen
	if age := at.Sub(l.began); !full && age >= 0 && age < loopWindow {
		return
	}
	l.now, l.before, l.began = newSeen(), l.now, at
	for address, when := range l.told {
		if at.Sub(when) >= loopWindow {
			delete(l.told, address)
		}
	}
}

// outcome takes in what became of one recipient.
func (l *Loops) outcome(e *sidecar.LogEntry, k key) {
	a, known := l.now.arrivals[k]
	if !known {
		a = l.before.arrivals[k]
	}
	to := fold(e.Recipient)
	original := to
	if e.Original != "" {
		original = fold(e.Original)
	}
	if envelope.DomainOf(to) == sidecar.HoldDomain { // it was not sent on yet
		return
	}
	local := l.local(envelope.DomainOf(original))
	switch forwards := local && original != to; {
	case tooManyHops.MatchString(e.Text):
		l.tell(e, original, "headers", to, 1, forwards)
	case forwards && a.message != 0:
		if n := len(add(l.now.forwards, l.before.forwards, forward{original, a.message}, pass{k, e.At}, leastPasses)); n >= leastPasses {
			l.tell(e, original, "forward", to, n, true)
		}
	}
	if a.sender == "" || a.sender == original {
		return
	}
	there := add(l.now.exchanges, l.before.exchanges, exchange{a.sender, original}, pass{k, e.At}, leastTurns)
	back := recent(l.now.exchanges, l.before.exchanges, exchange{original, a.sender}, e.At)
	if mine := original; len(there) >= leastTurns && len(back) >= leastTurns {
		other := a.sender
		if !local {
			mine, other = other, mine
		}
		l.tell(e, mine, "answers", other, len(there)+len(back), false)
	}
}

// tooManyHops is what servers say of a message that has passed too many, Exim first.
var tooManyHops = regexp.MustCompile(`(?i)too many "?received"? headers|mail loop|loop detected|too many hops|hop count exceeded`)

// recent are the passes of something that are not too old.
func recent[K comparable](now, before map[K]passes, k K, at time.Time) passes {
	p, known := now[k]
	if !known {
		p = before[k]
	}
	return slices.DeleteFunc(slices.Clone(p), func(one pass) bool { return at.Sub(one.at) > loopWindow })
}

// add adds a pass, unless it is of a message that has been counted, and returns the most last ones.
func add[K comparable](now, before map[K]passes, k K, this pass, most int) passes {
	p := recent(now, before, k, this.at)
	if !slices.ContainsFunc(p, func(one pass) bool { return one.id == this.id }) {
		p = append(p, this)
	}
	p = p[max(0, len(p)-most):]
	now[k] = p
	return p
}

// plain are addresses that may stand in a command which is printed to be copied.
var plain = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9@%+=:,./_-]*$`)

// tell tells of a loop at an address, unless that was told just now.
func (l *Loops) tell(e *sidecar.LogEntry, address, how, to string, times int, forwards bool) {
	if when, is := l.told[address]; is && e.At.Sub(when) < loopWindow || len(l.told) >= maxSeen {
		return
	}
	l.told[address] = e.At
	attrs := []any{"address", address, "how", how, "to", to, "times", times, "message", strings.Clone(e.ID)}
	if forwards {
		if line := l.aliasOf(address); line != "" {
			attrs = append(attrs, "alias", line)
		}
		if plain.MatchString(address) {
			attrs = append(attrs, "stop", fmt.Sprintf("sluice stop %s%s", sidecar.ForwardPrefix, address))
		}
	}
	l.events.Emit(event.Event{Kind: event.Loop, At: e.At, Domain: strings.Clone(envelope.DomainOf(address)), Attrs: event.Attrs(attrs...)})
}
