package simulate

import (
	"context"
	"slices"
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/delivery"
	"sluice/sidecar/domains"
	"sluice/sidecar/envelope"
	"sluice/sidecar/hold"
	"sluice/sidecar/logline"
	"sluice/sidecar/settings"
)

// A Replay passes the lines of a log to simulations, in its order and at its times.
//
// Exim asks about a message with all of its recipients, but the line of its arrival names
// them only if that is configured. So a Replay reads ahead until the first attempts at them
// are logged. And if scripts are run, the line about that comes before the message's, without
// its id.
//
// Prepare takes in what lines say of their messages. The func that it returns replays earlier
// lines, and may run at the same time. The recipients of a message pass from one to the
// other: Prepare adds none that is logged more than readAhead or maxReadAhead behind the
// arrival, and an arrival is replayed only once a line beyond those was read.
type Replay struct {
	sims  []*Simulation
	index index

	ahead []block // not replayed to their end
	next  int     // of the first one: the line to replay next
	lines int     // that are ahead
}

// A block is a part of the log, with its lines understood.
type block struct {
	entries []logline.Entry
	lines   []line
}

// A line of the log, with its message: nil if the arrival of that is not in the log.
type line struct {
	delivery.Judged
	message *message
}

// How far a Replay reads ahead, whichever comes first. What Exim attempts later
// for the first time is taken to have been accepted with its message.
const (
	readAhead    = 5 * time.Minute
	maxReadAhead = 1 << 15 // lines
)

// A message on its way through the log.
type message struct {
	states    []state  // one for each simulation
	onlyState [1]state // backs states while there is one

	at       time.Time // of its arrival
	from     *delivery.Source
	answered *delivery.Source // of a bounce: the sender of the message that it answers; nil if that is not in the log
	replied  *delivery.Source // likewise of an automatic answer
	line     int              // number of its arrival
	alike    bool             // two of its recipients fold to one address
	early    bool             // something was delivered before its arrival was logged: cutthrough
	to       []recipient      // until its arrival is replayed; parts of the log
	onlyTo   [1]recipient     // backs to while there is one
}

// A messageID is the id of a message of Exim, of 16 or 23 characters, as a map key without a
// pointer.
type messageID [23]byte

func idOf(text string) (id messageID) {
	copy(id[:], text)
	return id
}

// A recipient is one that the sender of a message has named, whatever aliases and lists have
// made of it.
type recipient struct {
	written string
	envelope.Address
	token     ratelimit.Token // of the first send to this address; 0 if not known yet
	transport string          // by which it was delivered; empty if that is not known
	redirects bool            // an alias or list of the host sends it on: no send goes to itself
}

// NewReplay returns a Replay for some simulations.
func NewReplay(sims ...*Simulation) *Replay {
	return &Replay{sims: sims, index: newIndex(sims[0].settings)}
}

// Prepare takes the next lines of the log. The func that it returns replays lines that are far
// enough behind these, and returns the blocks that are no longer needed.
func (r *Replay) Prepare(entries []logline.Entry) (read func(ctx context.Context) (done [][]logline.Entry)) {
	b := block{entries, make([]line, 0, len(entries))}
	for i := range entries {
		h := line{Judged: delivery.Judged{Entry: &entries[i]}}
		if h.IsOutcome() && len(r.sims) == 1 { // several may judge differently
			delivery.Judge(r.sims[0].settings, &h.Judged)
		}
		h.message = r.index.add(&h.Judged, len(r.sims))
		b.lines = append(b.lines, h)
	}
	return func(ctx context.Context) [][]logline.Entry { return r.read(ctx, b) }
}

func (r *Replay) read(ctx context.Context, b block) (done [][]logline.Entry) {
	if len(b.entries) == 0 {
		return [][]logline.Entry{b.entries}
	}
	r.ahead, r.lines = append(r.ahead, b), r.lines+len(b.entries)
	return r.replay(ctx, b.entries[len(b.entries)-1].At)
}

// End replays the rest, at the end of the log.
func (r *Replay) End(ctx context.Context) {
	r.lines += maxReadAhead
	r.replay(ctx, time.Time{})
	for _, s := range r.sims {
		s.end(ctx)
	}
}

// replay replays the lines that are far enough behind last, or behind the last line.
func (r *Replay) replay(ctx context.Context, last time.Time) (done [][]logline.Entry) {
	for len(r.ahead) > 0 {
		for block := r.ahead[0].lines; r.next < len(block); r.next++ {
			h := &block[r.next]
			if r.lines <= maxReadAhead && last.Sub(h.At) <= readAhead {
				return done
			}
			r.replayLine(ctx, h)
			r.lines--
		}
		for _, s := range r.sims {
			s.flush(ctx) // it holds on to lines
		}
		done = append(done, r.ahead[0].entries)
		r.ahead, r.next = slices.Delete(r.ahead, 0, 1), 0
	}
	return done
}

// replayLine replays a line in all simulations.
func (r *Replay) replayLine(ctx context.Context, h *line) {
	m := h.message
	for i, s := range r.sims {
		var p *state
		if m != nil {
			p = &m.states[i]
		}
		s.replay(ctx, &h.Judged, m, p)
	}
	if m != nil && h.Kind == logline.Arrived {
		m.to, m.onlyTo = nil, [1]recipient{}
	}
}

// maxEarly bounds the messages that are waited for because something of them was
// delivered before their arrival was logged.
const maxEarly = 1000

// An index finds the messages of a log.
type index struct {
	owners   func() *domains.Owners
	messages map[messageID]*message
	id       string             // of the last line: lines of one message often follow each other
	message  *message           // that it is about; nil if its arrival is not in the log
	early    map[messageID]bool // that were delivered and have not arrived
	senders  delivery.Sources
	ran      logline.Runs
	lines    int
	last     time.Time
	expired  time.Time
}

func newIndex(s *settings.Settings) index {
	return index{owners: s.OwnerMap.Get, messages: map[messageID]*message{}, early: map[messageID]bool{}, senders: delivery.Sources{Known: map[string]*delivery.Source{}}}
}

const (
	// messageFor is how long a message is kept that is never logged to leave the queue. What
	// becomes of it later is in no window any more.
	messageFor = hold.HoldFor
)

// add takes in what a line says of its message, and returns the message: nil if its arrival
// is not in the log.
func (h *index) add(l *delivery.Judged, sims int) *message {
	e := l.Entry
	h.lines++
	if e.At.After(h.last) {
		h.last = e.At
		h.expire()
	}
	switch e.Kind {
	case logline.Ran:
		h.ran.Add(e)
		return nil
	case logline.Refused, logline.Lost:
		return nil
	}
	if e.ID != h.id {
		h.id, h.message = e.ID, h.messages[idOf(e.ID)]
	}
	m := h.message
	switch {
	case e.Kind == logline.Completed:
		delete(h.messages, idOf(e.ID))
		h.message = nil
	case e.Kind == logline.Arrived && m == nil:
		if e.Login != "" {
			ran, _ := h.ran.Claim(e)
			e.Directory = ran.Directory
		}
		m = &message{at: e.At, line: h.lines, early: h.early[idOf(e.ID)]}
		h.findSender(l, m)
		delete(h.early, idOf(e.ID))
		if m.to, m.states = m.onlyTo[:0], m.onlyState[:]; sims != 1 {
			m.states = make([]state, sims)
		}
		h.message = m
		h.messages[idOf(e.ID)] = m
		for to := range strings.FieldsSeq(e.Recipients) {
			m.add(recipient{written: to, Address: envelope.FoldRouted(to)})
		}
	case e.Kind == logline.Delivered && m == nil:
		if len(h.early) >= maxEarly {
			clear(h.early)
		}
		h.early[idOf(e.ID)] = true
	case m != nil && h.lines-m.line <= maxReadAhead && h.last.Sub(m.at) <= readAhead:
		to := sentTo(l)
		to.transport = l.Transport
		m.add(to)
	}
	return m
}

// findSender finds who has sent a message. A bounce is known by its line, whatever the name
// of Exim's user: the log may be another host's. But none is an account's.
func (h *index) findSender(l *delivery.Judged, m *message) {
	bounce := delivery.IsBounce(l.Entry, "") && !h.owners().IsAccount(l.Login)
	l.From = h.senders.Get(delivery.OriginOf(l.Entry, bounce))
	m.from = l.From
	switch answered := h.messages[idOf(l.Answers)]; {
	case answered == nil:
	case bounce:
		m.answered = answered.from
	default:
		m.replied = answered.from
	}
}

// sentTo returns the recipient that a line is about.
func sentTo(l *delivery.Judged) recipient {
	switch {
	case l.Original != "":
		to, final := envelope.FoldRouted(l.Original), envelope.FoldRouted(l.Recipient)
		if envelope.Fold(l.Original) == final { // it was in quotes
			to = final
		}
		return recipient{written: l.Original, Address: to, redirects: to != final && final.Domain != "" && final.Domain != logline.HoldDomain}
	case l.Counts: // it was judged
		return recipient{written: l.Recipient, Address: l.To, token: l.First}
	}
	return recipient{written: l.Recipient, Address: envelope.FoldRouted(l.Recipient)}
}

// add adds a recipient, unless the message has it.
func (m *message) add(to recipient) {
	if to.written == "" {
		return
	}
	for i := range m.to {
		if m.to[i].written == to.written {
			if m.to[i].transport == "" {
				m.to[i].transport = to.transport
			}
			m.to[i].redirects = m.to[i].redirects || to.redirects
			return
		}
		m.alike = m.alike || m.to[i].Address == to.Address
	}
	m.to = append(m.to, to)
}

// expire forgets messages that are too old.
func (h *index) expire() {
	if h.last.Sub(h.expired) < time.Hour {
		return
	}
	h.expired = h.last
	for id, m := range h.messages {
		if h.last.Sub(m.at) > messageFor {
			delete(h.messages, id)
		}
	}
	h.id, h.message = "", nil
}
