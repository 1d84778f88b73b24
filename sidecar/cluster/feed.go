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
	"sluice/sidecar/notes"
)

// A Feed exchanges reports with the other nodes. A nil *Feed is that of a node without others.
type Feed struct {
	Options

	anyReceived atomic.Bool // another node has published a report
	mu          sync.Mutex
	// What other nodes have published, by subject and node, and how many reports that is.
	reports map[string]map[string]otherReport
	size    int
	news    []otherReport // not in reports yet: receive does not know the time

	asked map[string]question // the last about a subject, here or there
	due   map[string]bool     // subjects to be published as soon as possible
}

// Options are what a Feed is made with; all are needed.
type Options struct {
	Board notes.Board
	Node  func() string // of this node
	// Report is what this node knows of a subject; false: nothing.
	Report func(now time.Time, subject string) (Report, bool)
	// Used is how much of its limits a subject has used, in percent, of the fullest; 100 if it has tripped.
	Used func(ratelimit.Standing) int64
	// Soon lets Reconcile be called soon.
	Soon func(subjects ...string)
	// Silent returns the other nodes, each with how long ago it gave the last sign of life.
	Silent func() map[string]time.Duration
}

// A question is when a subject was last asked about, and the number of this node's last question, or 0.
type question struct {
	at     time.Time
	number int64
}

// An otherReport is a report that another node has published.
type otherReport struct {
	subject string
	at      time.Time // zero: not known yet
	Report
}

const (
	prefix = "who/" // of keys on the board; node, slash and subject follow

	publishEvery = 10 * time.Second
	fresh        = 3 * publishEvery     // a report that is older is nobody's
	lives        = fresh + publishEvery // on the board
	askedFor     = time.Minute          // how long a subject is published after somebody has asked
	half         = 50                   // percent of a limit, from which on a subject is published
	maxSubjects  = 200                  // that a node publishes
	maxReports   = 20 * maxSubjects     // reports of other nodes
	maxNews      = maxReports           // likewise
	maxSubject   = 3 + 64 + 1 + maxText // bytes of a subject
)

// New returns a Feed that follows the board.
func New(o Options) *Feed {
	f := &Feed{Options: o, reports: map[string]map[string]otherReport{}, asked: map[string]question{}, due: map[string]bool{}}
	o.Board.Watch(prefix, f.receive)
	return f
}

// receive gets a value of the board, which must not be called from here. What is not a valid
// report is ignored: the next one of that node takes its place.
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
		f.news = append(f.news, otherReport{subject: strings.Clone(subject), Report: r})
		f.anyReceived.Store(true)
	}
	f.mu.Unlock()
	if r.Asks != 0 {
		f.Soon(subject)
	}
}

// store moves what was received to the reports, dated now. mu is held.
func (f *Feed) store(now time.Time) {
	for _, h := range f.news {
		of := f.reports[h.subject]
		before, known := of[h.Node]
		if !known && f.size >= maxReports {
			continue
		}
		if of == nil {
			of = map[string]otherReport{}
			f.reports[h.subject] = of
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

// Of returns the fresh reports of other nodes about a subject, sorted by node.
func (f *Feed) Of(now time.Time, subject string) (all []Report) {
	if f == nil || !f.anyReceived.Load() {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store(now)
	for _, h := range f.reports[subject] {
		if now.Sub(h.at) <= fresh {
			all = append(all, h.Report)
		}
	}
	slices.SortFunc(all, func(a, b Report) int { return cmp.Compare(a.Node, b.Node) })
	return all
}

// Missing returns the other nodes that have been silent for so long that their reports are left out.
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

// Ask asks the other nodes what they know of a subject, and publishes this node's report of it, now
// and for a minute.
func (f *Feed) Ask(now time.Time, subject string) {
	if f == nil {
		return
	}
	f.ask(now, subject)
	r, _ := f.Report(now, subject)
	f.publish(subject, r)
}

// AskSoon is Ask, done as soon as possible in the background, so that no answer to a mail server waits.
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

// KeepPublishing publishes reports about a subject for a minute, without asking the other nodes.
func (f *Feed) KeepPublishing(now time.Time, subject string) {
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.asked[strings.Clone(subject)] = question{now, f.asked[subject].number}
	}
}

// First reports whether this node is the first by name of all nodes that are not silent.
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

// patience is how long Gather waits for the other nodes.
const patience = 2 * time.Second

// Gather asks the other nodes about subjects, and waits until all have answered, at most for patience.
func (f *Feed) Gather(now time.Time, subjects ...string) {
	for _, subject := range subjects {
		f.Ask(now, subject)
	}
	unanswered := func(subject string) bool { return !f.Answered(now, subject, now) }
	for until := time.Now().Add(patience); slices.ContainsFunc(subjects, unanswered) && time.Now().Before(until); {
		time.Sleep(patience / 100)
	}
}

// Answered reports whether all nodes that are not silent have reported about a subject since a time.
func (f *Feed) Answered(now time.Time, subject string, since time.Time) bool {
	if f == nil {
		return true
	}
	silent := f.Silent()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store(now)
	for node, of := range silent {
		if h, known := f.reports[subject][node]; of <= fresh && (!known || h.at.Before(since)) {
			return false
		}
	}
	return true
}

// Reconcile publishes this node's report about a subject, if that is due.
func (f *Feed) Reconcile(_ context.Context, now time.Time, subject string) error {
	f.mu.Lock()
	f.store(now)
	due := f.due[subject]
	f.mu.Unlock()
	if due { // whoever is asked answers, also if it knows nothing
		r, _ := f.Report(now, subject)
		f.publish(subject, r)
	}
	return nil
}

func (f *Feed) publish(subject string, r Report) {
	f.mu.Lock()
	delete(f.due, subject)
	r.Asks = f.asked[subject].number // again, for this may take the place of the question
	f.mu.Unlock()
	if value, err := r.encode(); err == nil {
		f.Board.Tell(prefix+f.Node()+"/"+subject, value, lives)
	}
}

// Survey publishes reports about the subjects that other nodes may need to know of: those that
// operators have asked about, that have tripped, or that have used most of their limits.
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
				f.publish(subject, r)
			}
		}
	}
}

// chosen returns the subjects to publish; used has how many percent of a limit each has used. It
// drops old reports and questions.
func (f *Feed) chosen(now time.Time, used map[string]int64) []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.store(now)
	for subject, of := range f.reports {
		before := len(of)
		maps.DeleteFunc(of, func(_ string, h otherReport) bool { return now.Sub(h.at) > fresh })
		if f.size -= before - len(of); len(of) == 0 {
			delete(f.reports, subject)
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
