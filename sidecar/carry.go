package sidecar

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/sidecar/event"
)

// carriedKey is the key of the board under which the node stands that may bring
// what was set while it counted by itself. Two would mix their trails.
const carriedKey = "carried"

// carry brings the trail that this node has from when it counted by itself to the
// board, once: if nothing was set there before. Else it stays here, has no effect,
// and status says so. What fails is tried again.
func (p *Policy) carry(ctx context.Context, now time.Time) {
	if p.carried {
		return
	}
	own := &noteBoard{notes: p.notes}
	mine, there, theirs := map[string][]byte{}, map[string]bool{}, 0
	var keys []string
	own.Entries(trailKeys, func(key string, value []byte) {
		keys = append(keys, key)
		mine[key] = bytes.Clone(value)
	})
	if len(keys) == 0 {
		p.carried = true
		return
	}
	node := p.settings.Load().Node
	bearer, err := p.board.Post(ctx, carriedKey, []byte(node)) // which takes over what stands there first
	if err != nil {
		return
	}
	p.board.Entries(trailKeys, func(key string, value []byte) {
		if bytes.Equal(mine[key], value) {
			there[key] = true
		} else {
			theirs++
		}
	})
	if all := len(there) == len(keys); all && (string(bearer) != node || theirs > 0) { // it has left, and comes again
		p.forget(own, keys)
		p.carried = true
		return
	}
	if string(bearer) != node || theirs > 0 {
		p.carried = true
		p.stranded.Store(true)
		p.events.Emit(event.Event{Kind: event.Stranded, Attrs: event.Attrs("values", p.strandedValues(now))})
		return
	}
	for _, key := range keys {
		if there[key] { // since an earlier try: one call in a thousand may fail
			continue
		}
		if _, err := p.board.Post(ctx, key, mine[key]); err != nil {
			return
		}
	}
	p.forget(own, keys)
	p.carried = true
	p.events.Emit(event.Event{Kind: event.Carried, Attrs: event.Attrs("changes", len(keys))})
	p.reload(now)
}

func (p *Policy) forget(own *noteBoard, keys []string) {
	for _, key := range keys {
		p.logNote(own.Remove(context.Background(), key))
	}
}

// bringBack takes over the trail of the nodes with which this one has shared until
// its last start: what is in force stays so. What it still had of its own was not in
// force, see carry, and goes.
func (p *Policy) bringBack(left LeftBoard) {
	theirs := map[string][]byte{}
	left.Entries(trailKeys, func(key string, value []byte) { theirs[key] = bytes.Clone(value) })
	if len(theirs) == 0 {
		return
	}
	own := &noteBoard{notes: p.notes}
	var stranded []string
	own.Entries(trailKeys, func(key string, value []byte) {
		if !bytes.Equal(theirs[key], value) {
			stranded = append(stranded, key)
		}
	})
	p.forget(own, stranded)
	for key, value := range theirs {
		if _, err := own.Post(context.Background(), key, value); err != nil {
			p.logNote(err)
			return // the next start has it all still
		}
	}
	for key := range theirs {
		p.logNote(left.Forget(key))
	}
	p.events.Emit(event.Event{Kind: event.BroughtBack, Attrs: event.Attrs("changes", len(theirs))})
}

// strandedValues are those that were set while this node counted by itself, and
// are not in force, until somebody sets or unsets the same key for all nodes.
func (p *Policy) strandedValues(now time.Time) []string {
	all := []string{}
	if !p.stranded.Load() {
		return all
	}
	shared := readTrail(p.board, p.events)
	for _, s := range readTrail(&noteBoard{notes: p.notes}, p.events).judge(now).settings {
		touched := slices.ContainsFunc(shared, func(c Change) bool {
			return c.Scope == s.Scope && slices.ContainsFunc(c.Keys, func(k KeyChange) bool { return k.Key == s.Key })
		})
		if !touched {
			all = append(all, fmt.Sprintf("%s %s=%s", s.Scope, s.Key, ShowValue(s.Key, s.Value)))
		}
	}
	slices.Sort(all)
	return all
}
