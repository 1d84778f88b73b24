package delivery

import (
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/envelope"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/notes"
	"sluice/sidecar/settings"
)

// messages are those still on their way, as far as the log tells.
type messages struct {
	notes     notes.Map[arrivalNote] // by id
	mu        sync.Mutex
	arrivals  map[string]*Arrived
	last      *Arrived // what method of returned last: lines of one message often follow each other
	sources   Sources
	asked     asked
	early     map[string][]logline.Entry // outcomes that were logged before their arrival
	redirects *redirects
	unnoted   []*Arrived // new or changed since the last Checkpoint
	gone      []string   // ids of noted arrivals whose messages have left
	checked   struct {
		since   time.Time // from when on all arrivals are known; zero until the first Checkpoint
		expired time.Time // when expire last went through arrivals
	}
	batch Batch
}

// Arrived is a message whose arrival was logged, with what tells who is charged. It is
// kept until the message has left the queue, over restarts too.
type Arrived struct {
	id        string
	At        time.Time
	Sender    *Source
	Answered  *Source // of a bounce: the sender of the message that it answers; nil if that is not known
	RepliesTo string  // of an automatic answer to mail from outside: the sender of that; see Source.Stranger
	spellings []spelling
	only      [1]spelling     // backs spellings while there is one
	Distinct  bool            // all of its recipients fold to different addresses; only a simulation knows and sets it
	postfix   *postfixMessage // of a message of Postfix; nil if nothing more is known
	noted     bool
	stale     bool // noted, and changed since
	left      bool
}

// An arrivalNote is an Arrived as it is noted.
type arrivalNote struct {
	At time.Time `json:"at"`
	origin
	Answered  *origin         `json:"answered,omitempty"`
	RepliesTo string          `json:"replies_to,omitempty"`
	Postfix   *postfixMessage `json:"postfix,omitempty"`
}

const (
	positionNote = "log/position"
	sinceNote    = "log/since"

	// maxEarly bounds outcomes that wait for their arrival. Exim logs cutthrough
	// deliveries just before it.
	maxEarly = 1000
	// arrivalFor is how long a message is kept if no line of the log says that it has left
	// the queue. Exim gives up on messages long before.
	arrivalFor = 32 * 24 * time.Hour
)

func newMessages(store notes.Store, events event.Sink) *messages {
	r := &messages{notes: notes.New[arrivalNote](store, "arrival", 1, event.Unread(events, event.NoteUnread)),
		arrivals: map[string]*Arrived{}, early: map[string][]logline.Entry{}, sources: Sources{Known: map[string]*Source{}}, redirects: newRedirects(store, events)}
	r.notes.Load(func(name []string, note arrivalNote) error {
		id := name[0]
		a := &Arrived{id: id, At: note.At, Sender: r.sources.Get(note.origin), RepliesTo: note.RepliesTo, postfix: note.Postfix, noted: true}
		if note.Answered != nil {
			a.Answered = r.sources.Get(*note.Answered)
		}
		r.arrivals[id] = a
		return nil
	})
	store.Notes(sinceNote, func(_ string, value []byte) { r.checked.since.UnmarshalText(value) })
	return r
}

// arrive takes in an arrival. It copies what it keeps, or the whole block of the log would
// stay in memory.
func (r *messages) arrive(s *settings.Settings, l *Judged) {
	from, answered, repliesTo := l.From, (*Source)(nil), ""
	if from == nil { // nobody has prepared it
		from = r.sources.Get(OriginOf(l.Entry, IsBounce(l.Entry, s.EximUser)))
	}
	switch {
	case l.Answers == "":
	case from.origin == (origin{}):
		answered = r.answeredBy(l)
	default:
		if a := r.of(l.Answers); a != nil { // it leaves the queue behind its answer
			r.complete(a)
			repliesTo = a.Sender.Stranger(s)
		}
	}
	if a := r.arrivals[l.ID]; a != nil { // the line is read again, or Postfix uses its queue id again
		a.At, a.Sender, a.postfix = l.At, from, nil
		if answered != nil {
			a.Answered = answered
		}
		if repliesTo != "" {
			a.RepliesTo = repliesTo
		}
		r.changed(a)
		return
	}
	a := &Arrived{id: strings.Clone(l.ID), At: l.At, Sender: from, Answered: answered, RepliesTo: repliesTo}
	r.arrivals[a.id], r.last = a, a
	r.unnoted = append(r.unnoted, a)
}

// answeredBy finds who sent the message that a bounce answers, and thus pays for it; nil if that is not known.
func (r *messages) answeredBy(l *Judged) *Source {
	if a := r.of(l.Answers); a != nil { // it leaves the queue behind its bounce
		r.complete(a)
		return a.Sender
	}
	if by, known := r.asked.get(l.Answers); known { // it was refused
		return r.sources.Get(by)
	}
	if at, known := envelope.IDTime(l.Answers); known && !r.checked.since.IsZero() && at.After(r.checked.since) {
		return r.sources.Get(origin{Sender: neverAccepted, Login: l.Login})
	}
	return nil
}

// neverAccepted stands for the sender of a message that has never arrived, and about which
// nobody asked: sendmail -t found no recipients in it, or a site's own rule refused it. Exim
// sends it back, wherever its sender says, and the log does not tell whose it was. So it is
// charged to Exim's own login, where operators see it.
const neverAccepted = "mailer-daemon"

// of returns a message's arrival; nil if it is not known.
func (r *messages) of(id string) *Arrived {
	if r.last == nil || r.last.left || r.last.id != id {
		r.last = r.arrivals[id]
	}
	return r.last
}

// leave forgets a message that has left the queue.
func (r *messages) leave(id string) {
	r.redirects.leave(id)
	a := r.of(id)
	if a == nil {
		return
	}
	a.left = true
	if a.noted {
		r.gone = append(r.gone, a.id)
	}
	delete(r.arrivals, id)
}

// wait keeps an outcome until its arrival is logged, if that can still happen.
func (r *messages) wait(e *logline.Entry) {
	began, known := envelope.IDTime(e.ID)
	if e.Kind != logline.Delivered || known && e.At.Sub(began) > 10*time.Minute {
		return
	}
	if len(r.early) >= maxEarly {
		clear(r.early)
	}
	c := e.Clone()
	r.early[c.ID] = append(r.early[c.ID], c)
}

// A spelling is how the sender of a message has written a recipient. A message may name
// BoB@far.example and bob@far.example: they fold to one address, but Exim delivers to each,
// and logs <BoB@far.example> behind bob@far.example at every attempt.
type spelling struct {
	first ratelimit.Token // of the first send to the folded address
	hash  uint64          // as Judged.Spelled
}

// maxSpellings bounds those kept of a message. Recipients beyond are charged once for each
// folded address.
const maxSpellings = 2000

// numberOf returns 0 for the first spelling of a recipient's address that the log shows,
// 1 for the second, and so on: a send is charged for each.
//
// It is 0 for what an alias or list has made of another address. It is the same for
// recipients that are written alike, because the log shows them like one line read twice,
// and to charge once is better than too often. After a restart numbers begin at 0 again.
func (a *Arrived) numberOf(o *Outcome) (n int) {
	if o.Spelled == 0 {
		return 0
	}
	for _, s := range a.spellings {
		if s.first != o.First {
			continue
		}
		if s.hash == o.Spelled {
			return n
		}
		n++
	}
	if len(a.spellings) == maxSpellings {
		return 0
	}
	if a.spellings == nil {
		a.spellings = a.only[:0]
	}
	a.spellings = append(a.spellings, spelling{o.First, o.Spelled})
	return n
}

// spellingsOf returns how many spellings of an address the log has shown.
func (a *Arrived) spellingsOf(first ratelimit.Token) (n int) {
	for _, s := range a.spellings {
		if s.first == first {
			n++
		}
	}
	return n
}

// Checkpoint notes how far the log was read, and the messages that are still on their
// way, which are needed to go on from there.
func (d *Recorder) Checkpoint(now time.Time, position []byte) error {
	return d.checkpoint(now, positionNote, position)
}

func (d *Recorder) checkpoint(now time.Time, note string, position []byte) error {
	r := d.messages
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	if err := d.noteSince(now); err != nil {
		return err
	}
	for _, a := range r.unnoted {
		if a.left || a.noted && !a.stale { // most have left already
			continue
		}
		note := arrivalNote{At: a.At, origin: a.Sender.origin, RepliesTo: a.RepliesTo, Postfix: a.postfix}
		if a.Answered != nil {
			note.Answered = &a.Answered.origin
		}
		if err := r.notes.Put(note, a.id); err != nil {
			return err
		}
		a.noted, a.stale = true, false
	}
	clear(r.unnoted)
	r.unnoted = r.unnoted[:0]
	if err := d.notes.Note(note, position); err != nil {
		return err
	}
	for len(r.gone) > 0 { // after the position was noted: lines read again need their arrival
		if err := r.notes.Drop(r.gone[0]); err != nil {
			return err
		}
		r.gone = r.gone[1:]
	}
	return r.redirects.save()
}

// noteSince notes once from when on all arrivals are known.
func (d *Recorder) noteSince(now time.Time) error {
	if !d.messages.checked.since.IsZero() {
		return nil
	}
	text, err := now.UTC().MarshalText()
	if err == nil {
		err = d.notes.Note(sinceNote, text)
	}
	if err == nil {
		d.messages.checked.since = now
	}
	return err
}

// Forget forgets messages that are too old. Checkpoint does that too; a simulation makes
// none.
func (d *Recorder) Forget(now time.Time) {
	r := d.messages
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	r.redirects.forgetGone()
	clear(r.unnoted)
	r.unnoted = r.unnoted[:0]
}

func (r *messages) expire(now time.Time) {
	if now.Sub(r.checked.expired) < time.Hour {
		return
	}
	r.checked.expired = now
	for id, a := range r.arrivals {
		if now.Sub(a.At) > arrivalFor {
			r.leave(id)
		}
	}
	r.redirects.expire(now)
}

// Position returns what Checkpoint was last given; nil at the first start.
func (d *Recorder) Position() []byte { return d.position(positionNote) }

func (d *Recorder) position(note string) (position []byte) {
	d.notes.Notes(note, func(_ string, value []byte) { position = value })
	return position
}
