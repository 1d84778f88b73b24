package attribution

import (
	"container/list"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/senders"
	"sluice/sidecar/sketch"
)

// subjects are all of which anything is known.
type subjects struct {
	byName  map[string]*subject
	byQuiet *list.List // of *subject, the one that was quiet for the longest first
	used    int64      // bytes, without authors and evidence
	dropped int64      // subjects that were forgotten for their memory
	changed []*subject // not saved as they are now, the longest first
	noted   int        // that have a note
	gone    []string   // names whose notes are not needed any more
}

func newSubjects() subjects { return subjects{byName: map[string]*subject{}, byQuiet: list.New()} }

// A subject is what is known of one.
type subject struct {
	name      string
	panes     []sketch.Pane             // the oldest first
	last      int64                     // number of the newest pane, when something was last taken in
	epoch     int64                     // of its counts, as in sidecar.Reset
	place     *list.Element             // in subjects.byQuiet
	chosen    []uint32                  // authors that may have been made up, see maxChosen
	marks     map[ratelimit.Token]int64 // of refused sends, by pane
	uncharged []uncharged               // the oldest first
	minutes   minutes
	size      int64 // bytes in all
	wrong
	saved
}

// wrong is what of a subject's sends went wrong.
type wrong struct {
	badSends map[ratelimit.Token]badSend
	spam     *senders.CalledSpam
}

// saved is how far a subject is saved.
type saved struct {
	noted   int64     // bytes of its note; 0: it has none
	changed time.Time // since when it is not saved as it is; zero: it is
}

// A badSend is a send that was deferred or has failed.
type badSend struct {
	author uint32
	pane   int64 // when its message arrived
	cause  sidecar.Cause
}

// maxMarks and maxBadSends bound those of a subject; further ones are not seen.
const (
	maxMarks    = 4096
	maxBadSends = 4096
)

// subject returns what is known of one, without what has left the window, and the number of
// the pane of now. It makes it if there is none.
func (t *table) subject(now time.Time, name string) (s *subject, number int64) {
	s, number = t.subjects.byName[name], t.number(now, now)
	if s == nil {
		s = &subject{name: strings.Clone(name), last: number, epoch: t.Epoch(name)}
		t.subjects.byName[s.name] = s
		s.place = t.subjects.byQuiet.PushBack(s)
		t.resize(s)
		return s, number
	}
	t.subjects.byQuiet.MoveToBack(s.place)
	if s.last < number {
		t.learn(s, now)
		t.expire(s, number)
	}
	return s, number
}

// quietest is the subject of which nothing was heard for the longest; nil: there is none.
func (x *subjects) quietest() *subject {
	if first := x.byQuiet.Front(); first != nil {
		return first.Value.(*subject)
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
func (t *table) expire(s *subject, number int64) {
	s.last = number
	old := 0
	for old < len(s.panes) && s.panes[old].Number < number-parts {
		t.empty(&s.panes[old])
		old++
	}
	s.panes = slices.Delete(s.panes, 0, old)
	t.forgetMinutes(&s.minutes, (number-parts)*t.length/time.Minute.Milliseconds())
	s.uncharged = slices.DeleteFunc(s.uncharged, func(u uncharged) bool { return u.pane < number-parts })
	for token, b := range s.badSends {
		if b.pane < number-parts {
			t.forgive(s, token)
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
	t.resize(s)
}

func (t *table) empty(p *sketch.Pane) {
	for _, e := range p.Entries {
		t.release(e.Author)
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
func (t *table) drop(s *subject) {
	for i := range s.panes {
		t.empty(&s.panes[i])
	}
	for _, b := range s.badSends {
		t.release(b.author)
	}
	for _, m := range s.minutes.of {
		t.release(m.author)
	}
	x := &t.subjects
	x.byQuiet.Remove(s.place)
	delete(x.byName, s.name)
	x.used -= s.size
	if s.noted > 0 {
		x.noted--
		x.gone = append(x.gone, s.name)
	}
	s.panes, s.wrong, s.marks, s.uncharged, s.minutes, s.saved = nil, wrong{}, nil, nil, minutes{}, saved{} // it may be in changed
}

// resize measures a subject anew, and forgets others if all take too much memory.
func (t *table) resize(s *subject) {
	size := 432 + 2*int64(len(s.name)) + 64*int64(cap(s.panes)) + 4*int64(cap(s.chosen)) + 48*int64(len(s.marks)) + 40*int64(cap(s.uncharged)) + 96*int64(len(s.badSends)) + minuteSize*int64(cap(s.minutes.of)) + 2*s.noted
	for i := range s.panes {
		size += 16 * int64(cap(s.panes[i].Entries))
	}
	t.subjects.used += size - s.size
	s.size = size
	for t.memory() > t.Memory {
		if t.authors.size() > t.Memory/4 && t.authors.forget() {
			continue
		}
		quiet := t.subjects.quietest()
		if quiet == nil || quiet == s {
			return
		}
		t.drop(quiet)
		t.subjects.dropped++
	}
}

// memory is how many bytes are used, about.
func (t *table) memory() int64 {
	return t.subjects.used + t.authors.size() + t.usual.Bytes() + sheetSize*int64(t.sheets)
}
