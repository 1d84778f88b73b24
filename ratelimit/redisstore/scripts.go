package redisstore

import (
	"crypto/sha1"
	_ "embed"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"sluice/ratelimit"
)

//go:embed store.lua
var storeSource string

//go:embed operations.lua
var operationsSource string

//go:embed board.lua
var boardSource string

// A script is a Lua script, and the SHA-1 by which a server knows it.
type script struct{ source, sha string }

func newScript(source string) script {
	return script{source, fmt.Sprintf("%x", sha1.Sum([]byte(source)))}
}

// The scripts: one has all operations on counts, one those of the board. A call is
// one round trip.
var (
	storeScript = newScript(storeSource + operationsSource)
	boardScript = newScript(boardSource)
)

// The first number of the script's answer to a take.
const (
	statusRefused = 0
	statusOK      = 1
	statusBuried  = 2 // the attempt arrived after it was undone
)

// A call is one run of a script.
type call struct {
	script
	keys []string
	args []any
}

// terms are the parameters that all operations have.
type terms struct {
	now     time.Time     // zero: Redis's clock; tests set another time
	keep    time.Duration // how long sends are kept; older ones are not charged
	horizon time.Duration // sends of this age or older may be forgotten
	attempt int64         // number of this attempt, greater than all of this node's before
	again   bool          // an earlier attempt is to be undone, and the call for that may be under way
}

// newCall makes a call with the arguments that all operations have.
func newCall(op string, t terms, subjects []ratelimit.Subject) call {
	c := call{script: storeScript, args: make([]any, 0, 16+8*len(subjects))}
	slots := map[string]int{}
	for _, s := range subjects {
		slot := slotOf(s.Name)
		if _, ok := slots[slot]; !ok {
			c.keys = append(c.keys, rootKey(slot))
			slots[slot] = len(c.keys)
		}
	}
	now := any("")
	if !t.now.IsZero() {
		now = t.now.UnixMilli()
	}
	c.add(op, now, t.keep.Milliseconds(), len(slots), len(subjects))
	for _, s := range subjects {
		c.keys = append(c.keys, subjectKey(s.Name))
		c.add(slots[slotOf(s.Name)], bit(s.Watched)+2*bit(s.Past), len(s.Limits))
		for _, l := range s.Limits {
			c.add(l.Window.Milliseconds(), l.Max, max(0, l.Withheld))
		}
	}
	return c
}

func (c *call) add(args ...any) { c.args = append(c.args, args...) }

// takeCall charges sends, all or nothing.
func takeCall(t terms, take ratelimit.Take) call {
	c := newCall("take", t, take.Subjects)
	c.add(t.attempt, bit(t.again), max(0, take.Age.Milliseconds()), t.horizon.Milliseconds(), take.Ahead, bit(take.Force),
		int(take.Outcome), packTokens(take.Tokens), packTokens(take.Marks))
	return c
}

// lookCall decides like takeCall and charges nothing.
func lookCall(t terms, take ratelimit.Take) call {
	c := newCall("look", t, take.Subjects)
	c.add(take.Ahead, packTokens(take.Marks))
	return c
}

// dropCall uncharges sends, and prevents that an attempt up to t.attempt that arrives
// later charges them.
func dropCall(t terms, subjects []ratelimit.Subject, tokens []ratelimit.Token) call {
	c := newCall("drop", t, subjects)
	c.add(t.attempt, t.horizon.Milliseconds(), packTokens(tokens))
	return c
}

// resetCall restarts a subject at zero, as of asOf by Redis's clock. If asOf is zero, or
// later than the time at which Redis runs the call, that time counts. For seen see
// Store.Reset.
func resetCall(t terms, subject string, asOf time.Time, seen int64) call {
	c := newCall("reset", t, []ratelimit.Subject{{Name: subject}})
	at := any("")
	if !asOf.IsZero() {
		at = asOf.UnixMilli()
	}
	c.add(at, seen)
	return c
}

// standingCall asks for all that is counted for a subject.
func standingCall(t terms, subject string) call {
	return newCall("standing", t, []ratelimit.Subject{{Name: subject}})
}

func bit(b bool) int {
	if b {
		return 1
	}
	return 0
}

func packTokens(tokens []ratelimit.Token) string {
	b := make([]byte, 0, 8*len(tokens))
	for _, t := range tokens {
		b = binary.LittleEndian.AppendUint64(b, uint64(t))
	}
	return string(b)
}

// An answer is the answer to a take or a look.
type answer struct {
	status int64
	ratelimit.Result
	admitted map[string]int // for how many sends each watched subject is charged that has no room for all
	over     map[string]int // how many of the rest are over its limits, and not only withheld
}

// answerOf reads an answer.
func answerOf(reply any, subjects []ratelimit.Subject) (a answer, err error) {
	numbers, err := integers(reply)
	if err == nil && len(numbers) < 3 {
		err = errReply
	}
	if err != nil {
		return a, err
	}
	a.status, a.OK = numbers[0], numbers[0] == statusOK
	a.At, a.Charged = time.UnixMilli(numbers[1]), int(numbers[2])
	numbers = numbers[3:]
	for _, s := range subjects {
		for _, l := range s.Limits {
			if len(numbers) < 6 {
				return a, errReply
			}
			u := ratelimit.Use{Subject: s.Name, Watched: s.Watched, Limit: l, Used: numbers[0], Refused: numbers[1], Full: numbers[2] >= 0, Epoch: numbers[3]}
			u.Withheld = u.Full && numbers[5] == 0
			if numbers[2] > 0 {
				u.Frees = time.UnixMilli(numbers[2])
			}
			if s.Watched && u.Full {
				if a.admitted == nil {
					a.admitted, a.over = map[string]int{}, map[string]int{}
				}
				a.admitted[s.Name] = int(numbers[4])
				a.over[s.Name] = max(a.over[s.Name], int(numbers[5]))
			}
			a.Uses = append(a.Uses, u)
			numbers = numbers[6:]
		}
	}
	return a, nil
}

// standingOf reads the answer to a standingCall, and Redis's time of it.
func standingOf(reply any, subject string) (st ratelimit.Standing, at time.Time, err error) {
	n, err := integers(reply)
	if err != nil || len(n)%6 != 3 {
		return st, at, errReply
	}
	at = time.UnixMilli(n[0])
	st = ratelimit.Standing{Name: subject, Epoch: n[1], Refused: n[2]}
	for n = n[3:]; len(n) > 0; n = n[6:] {
		st.Windows = append(st.Windows, ratelimit.WindowCounts{
			Window: time.Duration(n[0]) * time.Millisecond,
			Counts: ratelimit.Counts{Sent: n[1], Delivered: n[2], Deferred: n[3], Failed: n[4], Excused: n[5]},
		})
	}
	return st, at, nil
}

// errReply means that the answer has not the form of those of our scripts.
var errReply = errors.New("read the reply of a script: it is none of ours")

func integers(reply any) ([]int64, error) {
	list, ok := reply.([]any)
	if !ok {
		return nil, errReply
	}
	numbers := make([]int64, len(list))
	for i, v := range list {
		if numbers[i], ok = v.(int64); !ok {
			return nil, errReply
		}
	}
	return numbers, nil
}
