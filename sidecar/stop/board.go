package stop

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
)

// The keys of the board: keys and a mark for a stop, with endKey behind it for its end, and
// with releaseKey for the release of what it held. No value is ever changed, so that it does
// not matter in which order, and how often, nodes learn of them.
const (
	keys       = "stop/"
	endKey     = "/end"
	releaseKey = "/release"
)

// newMark makes the mark of a stop.
func newMark(at time.Time) string { return fmt.Sprintf("%013d-%s", at.UnixMilli(), rand.Text()[:12]) }

// post has a value hold here at once, and on all other nodes, or keeps it until the board
// can be reached.
func (s *Stops) post(ctx context.Context, key string, v any) {
	value, err := json.Marshal(v)
	if err == nil {
		s.receive(key, value)
		if _, err = s.Board.Post(ctx, key, value); err == nil {
			return
		}
		s.Events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
		err = s.outbox.Put(value, key)
	}
	event.EmitError(s.Events, event.StoreFailed, err)
}

// postAgain posts what the board has not taken before.
func (s *Stops) postAgain(ctx context.Context) {
	waiting := map[string][]byte{}
	s.outbox.Load(func(key []string, value []byte) error {
		waiting[key[0]] = value
		return nil
	})
	for key, value := range waiting {
		if _, err := s.Board.Post(ctx, key, value); err != nil {
			s.Events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
			return
		}
		event.EmitError(s.Events, event.StoreFailed, s.outbox.Drop(key))
	}
}

// receive takes one value of the board; nil: it was removed.
func (s *Stops) receive(key string, value []byte) {
	news, err := s.receiveValue(strings.TrimPrefix(key, keys), value)
	if err != nil { // no other value depends on it
		s.Events.Emit(event.Event{Kind: event.NoteUnread, Attrs: event.Attrs("note", key), Err: err})
	}
	if news.Kind != "" {
		s.Events.Emit(news)
	}
}

// receiveValue is receive, and returns what operators should know of it.
func (s *Stops) receiveValue(name string, value []byte) (news event.Event, err error) {
	mark, what, _ := strings.Cut(name, "/")
	if what != "" {
		what = "/" + what
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	defer func() {
		if s.begun {
			s.publish()
		}
	}()
	switch {
	case value == nil && what == "":
		delete(s.all, mark)
		delete(s.ends, mark)
	case value == nil:
	case what == "":
		return s.receiveStop(mark, value)
	case what == endKey || what == releaseKey:
		return s.receiveEnd(mark, what, value)
	default:
		err = errors.New("it has a name that no stop has")
	}
	return news, err
}

// receiveStop takes a stop. s.mu is held.
func (s *Stops) receiveStop(mark string, value []byte) (news event.Event, err error) {
	st := &Stop{}
	if err = json.Unmarshal(value, st); err == nil && !st.belongsTo(mark) {
		err = errors.New("it is no stop of this mark")
	}
	if err != nil || s.all[mark] != nil {
		return news, err
	}
	st.end = s.ends[mark]
	s.all[mark] = st
	if s.begun && st.Ended.IsZero() {
		news = st.event(event.Stopped, "who", st.Who, "until", st.Until, "reject", st.Reject, "node", st.Node, "why", st.Why, "of", st.Of)
	}
	return news, nil
}

// receiveEnd takes the end of a stop, or the release of what it held. s.mu is held.
func (s *Stops) receiveEnd(mark, what string, value []byte) (news event.Event, err error) {
	var e end
	if err = json.Unmarshal(value, &e); err == nil && (what == endKey) == e.Ended.IsZero() {
		err = errors.New("it is no end of a stop")
	}
	if err != nil {
		return news, err
	}
	before, merged := s.all[mark], s.ends[mark].with(e)
	if s.begun && before != nil && merged != s.ends[mark] {
		news = before.event(event.Started, "who", e.EndedBy, "release", what == releaseKey, "of", before.Of, "node", e.EndedOn)
	}
	s.ends[mark] = merged
	if before != nil {
		after := *before
		after.end = merged
		s.all[mark] = &after
	}
	return news, nil
}

// belongsTo reports whether a value under a mark is a stop as this version makes them. One that
// could not be heeded must not look as if it were in force.
func (s *Stop) belongsTo(mark string) bool {
	return s.Mark == mark && s.Scope != "" && s.end == end{} && (s.Cause == Operator && s.Of == "" || s.Cause == Deferfail && s.Of != "")
}

// with adds what another entry says of the end of a stop. The first of two ends counts.
func (e end) with(o end) end {
	if !o.Ended.IsZero() && (e.Ended.IsZero() || o.Ended.Before(e.Ended)) {
		e.Ended, e.EndedBy, e.EndedOn = o.Ended, o.EndedBy, o.EndedOn
	}
	if !o.Released.IsZero() && (e.Released.IsZero() || o.Released.Before(e.Released)) {
		e.Released = o.Released
	}
	return e
}

// event is an event about a stop. It leaves out what is not known.
func (s *Stop) event(kind event.Kind, attrs ...any) event.Event {
	e := event.Event{Kind: kind, Domain: DomainOf(s.Scope), Attrs: event.Attrs("scope", s.Scope)}
	for _, a := range event.Attrs(attrs...) {
		if v := a.Value.Any(); v != "" && v != (time.Time{}) && v != false {
			e.Attrs = append(e.Attrs, a)
		}
	}
	return e
}

// publish makes the view anew. s.mu is held.
func (s *Stops) publish() {
	v := view{}
	for _, mark := range slices.Backward(slices.Sorted(maps.Keys(s.all))) {
		st := s.all[mark]
		v[st.Scope] = append(v[st.Scope], st)
	}
	s.view.Store(&v)
}

// Follow posts what the board has not taken before, and brings the files in line.
func (s *Stops) Follow(ctx context.Context, now time.Time) {
	s.postAgain(ctx)
	s.syncFiles(ctx, now)
}

// Tick is Follow, and forgets what is long over.
func (s *Stops) Tick(ctx context.Context, now time.Time) {
	s.Follow(ctx, now)
	over := s.List(now, "", true)
	over = slices.DeleteFunc(over, func(st Stop) bool { return st.active(now) })
	for i, st := range over {
		if i < mostOver && now.Sub(st.ended()) < kept {
			continue
		}
		// The stop goes first: without its end it would be in force again.
		for _, key := range []string{"", endKey, releaseKey} {
			if err := s.Board.Remove(ctx, keys+st.Mark+key); err != nil {
				s.Events.Emit(event.Event{Kind: event.BoardFailed, Err: err})
				return
			}
		}
	}
}
