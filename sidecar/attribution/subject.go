package attribution

import (
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/sketch"
)

// subjects are all of which anything is known, in a ring from the one that was quiet for the
// longest to the newest, which begins and ends with head.
type subjects struct {
	byName  map[string]*subject
	head    subject
	used    int64      // bytes, without authors and evidence
	dropped int64      // subjects that were forgotten for their memory
	changed []*subject // not saved as they are now, the longest first
	noted   int        // that have a note
	gone    []string   // names whose notes are not needed any more
}

func newSubjects() subjects { return subjects{byName: map[string]*subject{}} }

// A subject is what is known of one.
type subject struct {
	name       string
	panes      []sketch.Pane // the oldest first
	last       int64         // number of the newest pane, when something was last taken in
	epoch      int64         // of its counts, as in sidecar.Reset
	prev, next *subject
	chosen     []uint32                  // authors that may have been made up, see maxChosen
	marks      map[ratelimit.Token]int64 // of refused sends, by pane
	bads       map[ratelimit.Token]bad
	uncharged  []uncharged // the oldest first
	spam       *CalledSpam
	size       int64 // bytes in all
	saved
}

// saved is how far a subject is saved.
type saved struct {
	noted   int64     // bytes of its note; 0: it has none
	changed time.Time // since when it is not saved as it is; zero: it is
}

// A bad is a send that was deferred or has failed.
type bad struct {
	author uint32
	pane   int64 // when its message arrived
	cause  sidecar.Cause
}

// maxMarks and maxBads bound those of a subject; further ones are not seen.
const (
	maxMarks = 4096
	maxBads  = 4096
)

// subject returns what is known of one, without what has left the window, and the number of
// the pane of now. It makes it if there is none.
func (a *Attribution) subject(now time.Time, name string) (s *subject, number int64) {
	s, number = a.subjects.byName[name], a.number(now, now)
	if s == nil {
		s = &subject{name: strings.Clone(name), last: number, epoch: a.Counts(now, name).Epoch}
		a.subjects.byName[s.name] = s
		a.subjects.push(s)
		a.resize(s)
		return s, number
	}
	if s.next != &a.subjects.head {
		a.subjects.remove(s)
		a.subjects.push(s)
	}
	if s.last < number {
		a.learn(s, now)
		a.expire(s, number)
	}
	return s, number
}

// push makes a subject the newest.
func (x *subjects) push(s *subject) {
	if x.head.next == nil {
		x.head.next, x.head.prev = &x.head, &x.head
	}
	s.prev, s.next = x.head.prev, &x.head
	s.prev.next, s.next.prev = s, s
}

// remove takes a subject out of the ring.
func (x *subjects) remove(s *subject) { s.prev.next, s.next.prev = s.next, s.prev }

// quietest is the subject of which nothing was heard for the longest; nil: there is none.
func (x *subjects) quietest() *subject {
	if s := x.head.next; s != &x.head {
		return s
	}
	return nil
}

// pane returns that of a number, and makes it if there is none.
func (s *subject) pane(number int64) *sketch.Pane {
	i := len(s.panes)
	for i > 0 && s.panes[i-1].Number > number {
		i--
	}
	if i > 0 && s.panes[i-1].Number == number {
		return &s.panes[i-1]
	}
	s.panes = slices.Insert(s.panes, i, sketch.Pane{Number: number})
	return &s.panes[i]
}

// expire forgets what has left the window in which number is the newest pane.
func (a *Attribution) expire(s *subject, number int64) {
	s.last = number
	old := 0
	for old < len(s.panes) && s.panes[old].Number < number-parts {
		a.empty(&s.panes[old])
		old++
	}
	s.panes = slices.Delete(s.panes, 0, old)
	s.uncharged = slices.DeleteFunc(s.uncharged, func(u uncharged) bool { return u.pane < number-parts })
	for token, b := range s.bads {
		if b.pane < number-parts {
			a.forgive(s, token)
		}
	}
	for mark, at := range s.marks {
		if at < number-parts {
			delete(s.marks, mark)
		}
	}
	s.chosen = slices.DeleteFunc(s.chosen, func(id uint32) bool {
		return !slices.ContainsFunc(s.panes, func(p sketch.Pane) bool { return p.Find(id) != nil })
	})
	a.resize(s)
}

func (a *Attribution) empty(p *sketch.Pane) {
	for _, e := range p.Entries {
		a.release(e.Author)
	}
}

// accept returns how many recipients of a message were refused before.
func (s *subject) accept(m *Message) (refused int) {
	if len(s.marks) == 0 || m.Request == nil {
		return 0
	}
	for _, to := range m.To {
		mark := envelope.Mark(m.Request.Sender, to)
		if _, is := s.marks[mark]; is {
			delete(s.marks, mark)
			refused++
		}
	}
	return refused
}

// refuse returns how many recipients of a message were not refused before.
func (s *subject) refuse(m *Message) (n int) {
	for _, to := range m.To {
		if s.mark(envelope.Mark(m.Request.Sender, to)) {
			n++
		}
	}
	return n
}

// mark keeps a mark, and reports whether it is new.
func (s *subject) mark(mark ratelimit.Token) bool {
	if _, is := s.marks[mark]; is || len(s.marks) >= maxMarks {
		return false
	}
	if s.marks == nil {
		s.marks = map[ratelimit.Token]int64{}
	}
	s.marks[mark] = s.last
	return true
}

// drop forgets a subject.
func (a *Attribution) drop(s *subject) {
	for i := range s.panes {
		a.empty(&s.panes[i])
	}
	for _, b := range s.bads {
		a.release(b.author)
	}
	x := &a.subjects
	x.remove(s)
	delete(x.byName, s.name)
	x.used -= s.size
	if s.noted > 0 {
		x.noted--
		x.gone = append(x.gone, s.name)
	}
	s.panes, s.bads, s.marks, s.uncharged, s.spam, s.saved = nil, nil, nil, nil, nil, saved{} // it may be in changed
}

// resize measures a subject anew, and forgets others if all take too much memory.
func (a *Attribution) resize(s *subject) {
	size := 400 + 2*int64(len(s.name)) + 64*int64(cap(s.panes)) + 4*int64(cap(s.chosen)) + 48*int64(len(s.marks)) + 40*int64(cap(s.uncharged)) + 96*int64(len(s.bads)) + 2*s.noted
	for i := range s.panes {
		size += 16 * int64(cap(s.panes[i].Entries))
	}
	a.subjects.used += size - s.size
	s.size = size
	for a.memory() > a.Memory {
		if a.authors.size() > a.Memory/4 && a.authors.forget() {
			continue
		}
		quiet := a.subjects.quietest()
		if quiet == nil || quiet == s {
			return
		}
		a.drop(quiet)
		a.subjects.dropped++
	}
}

// memory is how many bytes are used, about.
func (a *Attribution) memory() int64 {
	return a.subjects.used + a.authors.size() + a.usual.Bytes() + sheetSize*int64(a.sheets)
}
