package ratelimit

import (
	"errors"
	"time"
)

// ErrUncounted is of a store that several nodes share: a send can be neither accepted nor refused
// now, for Redis does not answer, and this node's share is used up or it is to accept nothing.
// The client should try again later.
var ErrUncounted = errors.New("cannot be counted now: Redis does not answer, and this node's share is used up")

// The shortest and the longest window.
const (
	MinWindow = time.Second
	MaxWindow = 31 * 24 * time.Hour
)

// A Token identifies one send: a token is charged once, however often it is
// offered. Callers make tokens by hashing whatever identifies the send; a store
// remembers them for as long as its longest limited window. 0 is no token.
type Token uint64

// A Limit is how many sends one subject may make in a window.
type Limit struct {
	Window time.Duration // MinWindow to MaxWindow
	Max    int64         // sends; 0 is unlimited, but counted
	// Withheld are sends of Max that this Take must leave to others. They only make the
	// limit tighter for it, and not where the Take has Force.
	Withheld int64 `json:",omitempty"`
}

// withheld is Withheld within its bounds.
func (l Limit) withheld() int64 { return max(0, min(l.Withheld, l.Max)) }

// A Subject is somebody who is charged for a send, such as a domain, and its limits.
type Subject struct {
	Name   string
	Limits []Limit
	// Watched limits never refuse. Sends that they have no room for are charged to
	// the other subjects only, and counted as refused here: so a watched subject
	// has the same counts as one that does refuse.
	Watched bool
	// Past is set in a Send that was made before the subject's last reset and so
	// does not count for it.
	Past bool
}

// A Take is a request to charge sends to subjects. The store does not keep its
// slices.
type Take struct {
	Subjects []Subject
	Tokens   []Token       // one per send
	Marks    []Token       // one per send: the same send refused twice has the same mark and is one refusal; nil counts no refusals, and in a Look forgets none
	Ahead    int64         // sends that have been let through already but are not charged yet
	Age      time.Duration // how long ago the sends were made
	Force    bool          // charge, whether the limits have room or not
	Outcome  Outcome       // what became of the sends, also of those charged before; see Ledger.Settle
	Uses     []Use         // memory to reuse for Result.Uses; may be nil
}

// A Result is the answer to a Take.
type Result struct {
	OK      bool      // charged now or earlier; for a Look: there is room
	Charged int       // sends charged now, not those charged earlier
	Moved   int       // sends whose outcome has changed, newly charged ones included
	Uses    []Use     // for each subject and limit, in the order asked
	At      time.Time // the store's time of the decision
}

// A Use is the state of one limit of one subject after a Take.
type Use struct {
	Subject string
	Limit   Limit
	Used    int64     // sends in the window, with those of this Take if it was OK
	Refused int64     // distinct sends refused since the limit was reached, with these
	Full    bool      // the limit had no room for all sends of the Take
	Watched bool      // see Subject
	Over    int64     // if Watched: how many sends of this Take were charged to the others only, Max having no room for them
	Frees   time.Time // if Full: when there will be room; zero if never, the sends being more than Max
	Epoch   int64     // when the subject was last reset, by the store's clock, Unix milliseconds; 0: never

	// Withheld is set if the limit is Full only because of Limit.Withheld. The sends are
	// not counted as refused then, nor as Over if the subject is watched.
	Withheld bool
}

// Room is how many more sends the limit admits, at least 0.
func (u Use) Room() int64 { return max(0, u.Limit.Max-u.Limit.withheld()-u.Used) }

// Counts are sends, in all and by what became of them.
type Counts struct {
	Sent, Delivered, Deferred, Failed int64

	Excused int64 // how many of Deferred and Failed are not held against the subject
}

// Bad is how many sends are held against the subject.
func (c Counts) Bad() int64 { return c.Deferred + c.Failed - c.Excused }

// A Standing is everything that is counted for a subject.
type Standing struct {
	Name    string
	Epoch   int64 // see Use
	Refused int64 // see Use
	Windows []WindowCounts
	Partial bool // only what this node knows: the shared store does not answer
}

// Sent is how many sends are counted in a window or, if the subject is not counted in
// it yet, the count that the window would start with.
func (s Standing) Sent(window time.Duration) (sent int64) {
	for _, w := range s.Windows {
		if w.Window == window {
			return w.Sent
		}
		if Nests(w.Window, window) {
			sent = max(sent, w.Sent)
		}
	}
	return sent
}

// WindowCounts are the counts of a subject in one window.
type WindowCounts struct {
	Window time.Duration
	Counts
}
