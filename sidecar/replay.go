package sidecar

import (
	"context"
	"slices"
	"strings"
	"time"
)

// A Replay tells simulations what a log says, in its order and at its times.
//
// Exim asks about a message with all of its recipients, but the line of its
// arrival names them only where that is configured. So a Replay reads ahead,
// until the first attempts at them are logged. And where scripts are run, the line
// that says so stands above the message's, without its id.
type Replay struct {
	sims     []*Simulation
	ahead    []replayed // a ring: read, and not replayed yet
	next, n  int        // of ahead: the line to replay next, and how many there are
	messages map[string]*message
	senders  senders
	ran      []LogEntry // of LogRan, whose messages have not arrived yet
	last     time.Time  // of the line that was read last
	expired  time.Time
}

// How far a Replay reads ahead, whichever comes first. What Exim attempts later
// for the first time is taken to have been accepted with its message.
const (
	readAhead    = 5 * time.Minute
	maxReadAhead = 1 << 15 // lines
)

// maxRan bounds the programs that were run and have submitted nothing yet.
const maxRan = 100

// A replayed line is one with the message that it is about; nil if its arrival
// is not in the log.
type replayed struct {
	LogEntry
	message *message
}

// A message is one on its way through the log.
type message struct {
	sender    *sender
	directory string    // where the program ran that has submitted it
	arrived   int64     // Unix seconds
	to        []string  // its recipients as it was sent to them; until its arrival is replayed
	passages  []passage // one for each simulation
}

// NewReplay returns a Replay for some simulations.
func NewReplay(sims ...*Simulation) *Replay {
	return &Replay{sims: sims, ahead: make([]replayed, maxReadAhead), messages: map[string]*message{}, senders: senders{known: map[string]*sender{}}}
}

// Prepare does what of Read can be done ahead, while other lines are read.
func (r *Replay) Prepare(entries []LogEntry) {
	if len(r.sims) == 1 { // several may judge differently
		r.sims[0].prepare(entries)
	}
}

// Read takes the next lines of the log, and replays what is far enough behind.
func (r *Replay) Read(ctx context.Context, entries []LogEntry) {
	for i := range entries {
		if r.n == len(r.ahead) {
			r.play(ctx)
		}
		r.hear(&entries[i])
		for r.n > 0 && r.last.Sub(r.ahead[r.next].At) > readAhead {
			r.play(ctx)
		}
	}
}

// End replays the rest, at the end of the log.
func (r *Replay) End(ctx context.Context) {
	for r.n > 0 {
		r.play(ctx)
	}
	for _, s := range r.sims {
		s.end(ctx)
	}
}

// hear notes what a line says of its message, and has it replayed later.
func (r *Replay) hear(e *LogEntry) {
	if e.At.After(r.last) {
		r.last = e.At
	}
	if e.Kind == LogRan {
		r.ran = append(r.ran, e.clone())
		r.ran = r.ran[max(0, len(r.ran)-maxRan):]
		return
	}
	m := r.messages[e.ID]
	switch {
	case e.Kind == LogArrived && m == nil:
		m = &message{sender: r.senders.get(originOf(e)), arrived: e.At.Unix(), passages: make([]passage, len(r.sims))}
		r.messages[strings.Clone(e.ID)] = m
		if e.Login != "" {
			m.directory = r.claim(e)
		}
		for to := range strings.FieldsSeq(e.Recipients) {
			m.add(to)
		}
	case e.Kind != LogRefused && m != nil && !m.passages[0].arrived:
		m.add(sentTo(e))
	}
	r.ahead[(r.next+r.n)%len(r.ahead)] = replayed{*e, m}
	r.n++
}

// claim finds the directory of the program that has submitted a message: that of
// its own process where those are logged, else of the last one that was run.
func (r *Replay) claim(e *LogEntry) (directory string) {
	i := len(r.ran) - 1
	if e.Process != "" {
		i = slices.IndexFunc(r.ran, func(ran LogEntry) bool { return ran.Process == e.Process })
	}
	if i < 0 {
		return ""
	}
	directory = r.ran[i].Directory
	r.ran = slices.Delete(r.ran, i, i+1)
	return directory
}

// sentTo is the recipient that a line is about as the message was sent to it,
// whatever aliases and lists have made of it.
func sentTo(e *LogEntry) string {
	if e.Original != "" {
		return e.Original
	}
	return e.Recipient
}

// add adds a recipient, unless it is known.
func (m *message) add(to string) {
	if to != "" && !slices.Contains(m.to, to) {
		m.to = append(m.to, strings.Clone(to))
	}
}

// play replays the next line in all simulations.
func (r *Replay) play(ctx context.Context) {
	e := &r.ahead[r.next]
	r.next, r.n = (r.next+1)%len(r.ahead), r.n-1
	for i, s := range r.sims {
		var p *passage
		if e.message != nil {
			p = &e.message.passages[i]
		}
		s.play(ctx, &e.LogEntry, e.message, p)
	}
	switch {
	case e.message == nil:
	case e.Kind == LogArrived:
		e.message.to = nil
	case e.Kind == LogCompleted:
		delete(r.messages, e.ID)
	}
	r.expire(e.At)
	*e = replayed{} // it holds on to the log
}

// expire forgets the messages that have left behind the log's back.
func (r *Replay) expire(now time.Time) {
	if now.Sub(r.expired) < time.Hour {
		return
	}
	r.expired = now
	for id, m := range r.messages {
		if now.Unix()-m.arrived > int64(arrivalFor/time.Second) {
			delete(r.messages, id)
		}
	}
}
