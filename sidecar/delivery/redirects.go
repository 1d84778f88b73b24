package delivery

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/notes"
)

// redirects are the deferred recipients that aliases and lists have made, with the time of
// the first attempt. Such a recipient may come into being hours after its message has
// arrived: a list gets another member meanwhile. So the age of the message does not tell
// whether its send was charged and is forgotten, or was never made; redirects do. They are
// kept until the message has left the queue, over restarts too.
type redirects struct {
	notes  notes.Map[redirectNote] // by message id and token
	events event.Sink
	mu     sync.RWMutex                             // not held while notes are written, for which messages.mu is
	first  map[string]map[ratelimit.Token]time.Time // by message id
	gone   [][]string                               // names of notes to be dropped: their messages have left
}

// A redirectNote is a redirect as it is noted.
type redirectNote struct {
	First time.Time `json:"first"`
}

func newRedirects(store notes.Store, events event.Sink) *redirects {
	r := &redirects{notes: notes.New[redirectNote](store, "redirect", 2, event.Unread(events, event.NoteUnread)), events: events,
		first: map[string]map[ratelimit.Token]time.Time{}}
	r.notes.Load(func(name []string, n redirectNote) error {
		token, err := strconv.ParseUint(name[1], 16, 64)
		if err == nil {
			r.put(name[0], ratelimit.Token(token), n.First)
		}
		return err
	})
	return r
}

func (r *redirects) put(id string, token ratelimit.Token, first time.Time) {
	tokens := r.first[id]
	if tokens == nil {
		tokens = map[ratelimit.Token]time.Time{}
		r.first[strings.Clone(id)] = tokens
	}
	tokens[token] = first
}

// observe takes in a line about a redirected recipient, and returns when it was first
// tried.
func (r *redirects) observe(l *Judged) (first time.Time) {
	r.mu.Lock()
	first, deferred := r.first[l.ID][l.First]
	isNew := !deferred && l.Kind == logline.Deferred
	if isNew {
		r.put(l.ID, l.First, l.At)
	}
	r.mu.Unlock()
	if deferred {
		return first
	}
	if isNew {
		if err := r.notes.Put(redirectNote{l.At}, l.ID, noteName(l.First)); err != nil {
			r.events.Emit(event.Event{Kind: event.StoreFailed, Err: err})
		}
	}
	return l.At
}

func noteName(token ratelimit.Token) string { return fmt.Sprintf("%016x", uint64(token)) }

// leave forgets the recipients of a message that has left the queue.
func (r *redirects) leave(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for token := range r.first[id] {
		r.gone = append(r.gone, []string{strings.Clone(id), noteName(token)})
	}
	delete(r.first, id)
}

// expire forgets messages of which no line has said that they have left the queue.
func (r *redirects) expire(now time.Time) {
	r.mu.RLock()
	var old []string
	for id, tokens := range r.first {
		for _, first := range tokens {
			if now.Sub(first) > arrivalFor {
				old = append(old, id)
			}
			break
		}
	}
	r.mu.RUnlock()
	for _, id := range old {
		r.leave(id)
	}
}

// save drops the notes of messages that have left. Call it after the position in the log
// was noted: lines that are read again need them.
func (r *redirects) save() error {
	r.mu.Lock()
	gone := r.gone
	r.gone = nil
	r.mu.Unlock()
	for i, name := range gone {
		if err := r.notes.Drop(name...); err != nil {
			r.mu.Lock()
			r.gone = append(r.gone, gone[i:]...)
			r.mu.Unlock()
			return err
		}
	}
	return nil
}

// forgetGone forgets what save would drop: a simulation has no notes.
func (r *redirects) forgetGone() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gone = nil
}

// Tried reports whether Exim has tried a recipient that an alias or list has made, so that
// its send was charged, however long ago. It waits for no note that is written.
func (d *Recorder) Tried(id string, token ratelimit.Token) bool {
	r := d.messages.redirects
	r.mu.RLock()
	defer r.mu.RUnlock()
	_, deferred := r.first[id][token]
	return deferred
}

// FirstTried takes in a line about a redirected recipient, and returns when it was first
// tried. Only a simulation, which records no lines, needs it.
func (d *Recorder) FirstTried(l *Judged) time.Time { return d.messages.redirects.observe(l) }

// Left forgets the redirected recipients of a message that has left the queue, like the
// line of the log that says so.
func (d *Recorder) Left(id string) { d.messages.redirects.leave(id) }
