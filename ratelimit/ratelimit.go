// Package ratelimit counts sends of named subjects in sliding windows, and
// charges several subjects at once, all or nothing.
//
// It knows no mail: a subject is a name, a send is a token. A Ledger is the
// embedded store; the package journal makes one survive a crash.
//
// # Windows
//
// A window of length w is cut into buckets of ceil(w/60) microseconds. A
// bucket counts until its end has left the window, so 61 buckets may count at
// a time and the error is at most a sixtieth of the window, always towards
// counting too long. What a peer would count in fixed hours lets twice the
// limit pass around the full hour; this never lets more pass than the limit.
//
// A subject that is counted and gains a window is counted in it from as far back
// as a shorter window of its own can tell, whose buckets make up those of the new one.
package ratelimit

import "time"

// The shortest and the longest window.
const (
	MinWindow = time.Second
	MaxWindow = 31 * 24 * time.Hour
)

// A Token names one send for good: the same token is charged once, however
// often it is offered. Tokens are made by hashing whatever identifies the
// send; a store keeps them as long as its longest limited window.
type Token uint64

// A Limit is how many sends one subject may make in a window.
type Limit struct {
	Window time.Duration // MinWindow to MaxWindow
	Max    int64         // sends; 0 is unlimited, and still counted
}

// A Subject is one of those who are charged for a send, and its limits.
type Subject struct {
	Name   string
	Limits []Limit
	// Watched limits never refuse. Sends for which they have no room are
	// recorded without this subject: nothing charges it for them later, and
	// their marks count as its refusals. So it counts what it would count if
	// it did refuse.
	Watched bool
	// Past, in a Send, says that it is dated before the subject's last reset, and
	// counts nothing for it.
	Past bool
}

// A Take asks to charge sends to subjects. Its slices are the caller's again
// when the answer is there.
type Take struct {
	Subjects []Subject
	Tokens   []Token       // one per send
	Marks    []Token       // one per send: what tells refusals apart; nil counts no refusals
	Ahead    int64         // sends that were promised before these, and are charged nowhere yet
	Age      time.Duration // how long ago the sends were made
	Force    bool          // charge whatever the limits say
	Outcome  Outcome       // what became of the sends, those that were charged before included; see Ledger.Settle
	Uses     []Use         // where those of the Result may be put, from the beginning; nil: in new memory
}

// A Result is what became of a Take.
type Result struct {
	OK      bool      // charged now or earlier; for a Look: there is room
	Charged int       // sends charged now; those known before are not among them
	Moved   int       // sends that got another outcome now, newly charged ones included
	Uses    []Use     // for each subject and limit, in the order asked
	At      time.Time // the store's time of the decision
}

// A Use is the state of one limit of one subject after a Take.
type Use struct {
	Subject string
	Limit   Limit
	Used    int64     // sends in the window, those of this Take included where OK
	Refused int64     // distinct sends refused since the limit was reached, these included
	Full    bool      // this limit had no room for the Take, or if it is watched for all of it
	Watched bool      // as asked
	Frees   time.Time // where Full: when there is room; zero if there never is, being more than Max
	Epoch   int64     // the subject's epoch: the store's time of its last reset in Unix milliseconds, 0 for none
}

// Room is how many more sends the limit admits, at least 0.
func (u Use) Room() int64 { return max(0, u.Limit.Max-u.Used) }

// Counts are sends and what became of them.
type Counts struct {
	Sent, Delivered, Deferred, Failed int64

	Excused int64 // those of Deferred and Failed that are not held against the subject
}

// Bad is how many sends are held against the subject.
func (c Counts) Bad() int64 { return c.Deferred + c.Failed - c.Excused }

// A Standing is all that is counted for a subject.
type Standing struct {
	Name    string
	Epoch   int64 // see Use
	Refused int64 // see Use
	Windows []WindowCounts
	Partial bool // one node's knowledge: the store that several share does not answer
}

// Sent is how many sends a limit of a window finds: where the subject is not counted
// in that window yet, those with which it would begin.
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

// WindowCounts are the counts in one window of a subject.
type WindowCounts struct {
	Window time.Duration
	Counts
}
