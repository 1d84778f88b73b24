package cluster

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
)

// A Feed exchanges reports with the other nodes. A nil *Feed is that of a node without others.
type Feed struct {
	Options

	some atomic.Bool // something was heard
	mu   sync.Mutex
	// What other nodes have told, by subject and node, and how much that is.
	heard map[string]map[string]heard
	size  int
	news  []heard // not in heard yet, for it is not known when they came

	asked map[string]question // the last about a subject, here or there
	due   map[string]bool     // subjects to be told of as soon as possible
}

// Options are what a Feed is made with; all are needed.
type Options struct {
	Board sidecar.Board
	Node  func() string // of this node
	// Report is what this node knows of a subject; false: nothing.
	Report func(now time.Time, subject string) (Report, bool)
	// Used is how much of its limits a subject has used, in percent, of the fullest; 100 if it has tripped.
	Used func(ratelimit.Standing) int64
	// Soon has Reconcile called.
	Soon func(subjects ...string)
	// Silent are the other nodes, with for how long nothing was heard of them.
	Silent func() map[string]time.Duration
}

// A question is when a subject was last asked about, and the number of this node's last question, or 0.
type question struct {
	at     time.Time
	number int64
}

// heard is what another node has told.
type heard struct {
	subject string
	at      time.Time // zero: not known yet
	Report
}

const (
	prefix = "who/" // of keys on the board; node, slash and subject follow

	tellEvery   = 10 * time.Second
	fresh       = 3 * tellEvery        // a report that is older is nobody's
	lives       = fresh + tellEvery    // on the board
	askedFor    = time.Minute          // how long a subject is told of after somebody has asked
	half        = 50                   // percent of a limit, from which on a subject is told of
	maxSubjects = 200                  // that a node tells of
	maxHeard    = 20 * maxSubjects     // reports of other nodes
	maxNews     = maxHeard             // likewise
	maxSubject  = 3 + 64 + 1 + maxText // bytes of a subject
)

// New returns a Feed that follows the board.
func New(o Options) *Feed {
	f := &Feed{Options: o, heard: map[string]map[string]heard{}, asked: map[string]question{}, due: map[string]bool{}}
	o.Board.Watch(prefix, f.receive)
	return f
}

// receive takes a value of the board, which must not be called from here. What cannot be a
// report is passed over: the next one of that node takes its place.
func (f *Feed) receive(key string, value []byte) {
	node, subject, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
	if len(value) == 0 || node == f.Node() || node != clean(node) || !sidecar.AlwaysCounted(subject) || len(subject) > maxSubject {
		return
	}
	r, err := decode(value)
	if err != nil {
		return
	}
	r.Node = strings.Clone(node)
	f.mu.Lock()
	if len(f.news) < maxNews {
		f.news = append(f.news, heard{subject: strings.Clone(subject), Report: r})
		f.some.Store(true)
	}
	f.mu.Unlock()
	if r.Asks != 0 {
		f.Soon(subject)
	}
}

// take takes in what has come. mu is held.
func (f *Feed) take(now time.Time) {
	for _, h := range f.news {
		of := f.heard[h.subject]
		before, known := of[h.Node]
		if !known && f.size >= maxHeard {
			continue
		}
		if of == nil {
			of = map[string]heard{}
			f.heard[h.subject] = of
		}
		if !known {
			f.size++
		}
		h.at = now
		of[h.Node] = h
		if h.Asks != 0 && h.Asks != before.Asks {
			f.asked[h.subject] = question{now, f.asked[h.subject].number}
			f.due[h.subject] = true
		}
	}
	f.news = nil
}

// Of returns what other nodes have told of a subject lately, by their names.
func (f *Feed) Of(now time.Time, subject string) (all []Report) {
	if f == nil || !f.some.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.take(now)
	for _, h := range f.heard[subject] {
		if now.Sub(h.at) <= fresh {
			all = append(all, h.Report)
		}
	}
	slices.SortFunc(all, func(a, b Report) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// Missing returns which other nodes were not heard of for so long that what they know is in
// nothing.
func (f *Feed) Missing() (nodes []string) {
	if f == nil {
		return nil
	}
	for node, silent := range f.Silent() {
		if silent > fresh {
			nodes = append(nodes, clean(node))
		}
	}
	slices.Sort(nodes)
	return nodes
}

// Ask asks the other nodes what they know of a subject, and has it told of for a minute.
func (f *Feed) Ask(now time.Time, subject string) {
	if f == nil {
		return
	}
	f.ask(now, subject)
	r, _ := f.Report(now, subject)
	f.tell(subject, r)
}

// AskSoon is Ask, as soon as possible. It does not wait: a question is being answered.
func (f *Feed) AskSoon(now time.Time, subject string) {
	if f != nil {
		f.ask(now, subject)
		f.Soon(subject)
	}
}

func (f *Feed) ask(now time.Time, subject string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	subject = strings.Clone(subject)
	before := f.asked[subject].number
	f.asked[subject], f.due[subject] = question{now, max(before+1, time.Now().UnixNano())}, true // also greater after a restart
}

// Keep has the other nodes told of a subject for a minute, without a question.
func (f *Feed) Keep(now time.Time, subject string) {
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked[strings.Clone(subject)] = question{now, f.asked[subject].number}
	}
}

// First reports whether this node is the first by name of all that are there.
func (f *Feed) First() bool {
	if f == nil {
		return true
	}
	for node, silent := range f.Silent() {
		if silent <= fresh && node < f.Node() {
			return false
		}
	}
	return true
}

// patience is how long the answers of other nodes are waited for.
const patience = 2 * time.Second

// Gather asks the other nodes about subjects, and waits until all have answered, or for as long
// as patience.
func (f *Feed) Gather(now time.Time, subjects ...string) {
	for _, subject := range subjects {
		f.Ask(now, subject)
	}
	unheard := func(subject string) bool { return !f.Heard(now, subject, now) }
	for until := time.Now().Add(patience); slices.ContainsFunc(subjects, unheard) && time.Now().Before(until); {
		time.Sleep(patience / 100)
	}
}

// Heard reports whether all nodes that are there have told of a subject since a time.
func (f *Feed) Heard(now time.Time, subject string, since time.Time) bool {
	if f == nil {
		return true
	}
	silent := f.Silent()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.take(now)
	for node, of := range silent {
		if h, known := f.heard[subject][node]; of <= fresh && (!known || h.at.Before(since)) {
			return false
		}
	}
	return true
}

// Reconcile tells the other nodes of a subject, if that is due.
func (f *Feed) Reconcile(_ context.Context, now time.Time, subject string) error {
	f.mu.Lock()
	f.take(now)
	due := f.due[subject]
	f.mu.Unlock()
	if due { // whoever is asked answers, also if it knows nothing
		r, _ := f.Report(now, subject)
		f.tell(subject, r)
	}
	return nil
}

func (f *Feed) tell(subject string, r Report) {
	f.mu.Lock()
	delete(f.due, subject)
	r.Asks = f.asked[subject].number // again, for this may take the place of the question
	f.mu.Unlock()
	if value, err := r.encode(); err == nil {
		f.Board.Tell(prefix+f.Node()+"/"+subject, value, lives)
	}
}

// Survey has all other nodes told of those subjects of which they may need to know: operators
// have asked about them, they have tripped, or have used the most of their limits.
func (f *Feed) Survey(now time.Time) (each func(ratelimit.Standing), done func()) {
	used := map[string]int64{}
	each = func(st ratelimit.Standing) {
		if n := f.Used(st); n >= half && sidecar.AlwaysCounted(st.Name) {
			used[st.Name] = n
		}
	}
	return each, func() {
		for _, subject := range f.chosen(now, used) {
			if r, known := f.Report(now, subject); known {
				f.tell(subject, r)
			}
		}
	}
}

// chosen are the subjects that are told of, of those that have used so much. It forgets what is old.
func (f *Feed) chosen(now time.Time, used map[string]int64) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.take(now)
	for subject, of := range f.heard {
		before := len(of)
		maps.DeleteFunc(of, func(_ string, h heard) bool { return now.Sub(h.at) > fresh })
		if f.size -= before - len(of); len(of) == 0 {
			delete(f.heard, subject)
		}
	}
	maps.DeleteFunc(f.asked, func(_ string, q question) bool { return now.Sub(q.at) > askedFor })
	for subject := range f.asked {
		used[subject] = maxNumber
	}
	all := slices.SortedFunc(maps.Keys(used), func(a, b string) int {
		return cmp.Or(cmp.Compare(used[b], used[a]), cmp.Compare(a, b))
	})
	return all[:min(len(all), maxSubjects)]
}
