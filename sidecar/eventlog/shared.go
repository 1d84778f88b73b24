package eventlog

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// Nodes that share their counts publish what has happened to domains on each of them, so that any
// of them can answer. What is published expires by itself: a node that was away for less than that
// still gets it when it is back.
const (
	boardKeys    = "event/"
	publishEvery = 5 * time.Second
	againEvery   = time.Minute // that a record has happened again
	sharedFor    = 24 * time.Hour
	maxBatch     = 40      // records in one value
	maxBytes     = 8 << 10 // of names and texts in one value, about: they may be long
	maxBatches   = 250     // values of a node: the oldest is replaced
)

// known are the kinds of events that every node emits by itself.
var known = []event.Kind{event.Stopped, event.Started, event.LockedElsewhere, event.UnlockedElsewhere, event.ResetElsewhere, event.TrippedElsewhere}

// sharing is the part of a Log that exchanges records with other nodes.
type sharing struct {
	board       notes.Board // nil: this node shares with nobody
	node        string
	unpublished []*entry
	published   time.Time // when records were last published
	batch       int64     // number of the last value that was published
}

// Share lets this node, named node, exchange records with those that share the board. Call it before
// the first event.
func (l *Log) Share(board notes.Board, node string, now time.Time) {
	l.shared.board, l.shared.node, l.shared.batch = board, node, now.UnixMilli()
	board.Watch(boardKeys, l.receive)
}

// concernsAll reports whether a record is to be published.
func (r *Record) concernsAll() bool {
	return r.Node == "" && !slices.Contains(known, r.Event) && (r.Domain != "" || r.Event == event.Changed || r.Event == event.Command)
}

// publish puts what is new on the board. l.mu is not held meanwhile: the board calls receive.
func (l *Log) publish(now time.Time) {
	s := &l.shared
	if s.board == nil || now.Sub(s.published) < publishEvery {
		return
	}
	l.mu.Lock()
	s.published = now
	var batch []Record
	size := 0
	s.unpublished = slices.DeleteFunc(s.unpublished, func(e *entry) bool {
		switch {
		case e.number < 0: // dropped
		case len(batch) == maxBatch || size > maxBytes || now.Sub(e.told) < againEvery:
			return false
		default:
			batch = append(batch, e.Record)
			size += len(e.Domain) + len(e.Scope) + len(e.By) + len(e.Text)
			e.told = now
		}
		e.untold = false
		return true
	})
	l.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	value, err := json.Marshal(batch)
	if err != nil {
		event.EmitError(l.events, event.StoreFailed, fmt.Errorf("tell other nodes of events: %w", err))
		return
	}
	s.batch++
	s.board.Tell(fmt.Sprintf("%s%s/%d", boardKeys, s.node, s.batch%maxBatches), value, sharedFor)
}

// receive gets one value of the board; nil: it was removed.
func (l *Log) receive(key string, value []byte) {
	name := strings.TrimPrefix(key, boardKeys)
	node := name[:max(0, strings.LastIndexByte(name, '/'))]
	if value == nil || strings.EqualFold(node, l.shared.node) {
		return
	}
	var batch []Record
	err := json.Unmarshal(value, &batch)
	if err == nil && (node == "" || len(node) > maxName || len(batch) > maxBatch) {
		err = errors.New("it is no list of events")
	}
	for _, r := range batch {
		if err == nil {
			r.Node = node
			err = r.check()
		}
		if err == nil {
			l.addShared(r)
		}
	}
	if err != nil {
		l.events.Emit(event.Event{Kind: event.NoteUnread, Attrs: event.Attrs("note", key), Err: err})
	}
}

// addShared adds a record of another node, or updates how often it has happened.
func (l *Log) addShared(r Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	of := l.byDomain[r.Domain]
	i := slices.IndexFunc(of, func(e *entry) bool { return e.At.Equal(r.At) && keyOf(e.Record) == keyOf(r) })
	if i < 0 {
		l.add(r)
		return
	}
	if e := of[i]; r.Count > e.Count {
		e.Count, e.Last, e.Text = r.Count, r.Last, r.Text
		l.changed(e)
	}
}
