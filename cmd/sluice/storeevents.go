package main

import (
	"time"

	"sluice/sidecar/event"
)

// storeEvents turns what journal and redisstore report into events, which these packages
// do not know.
type storeEvents struct{ event.Sink }

func (s storeEvents) JournalCut(file string, at, bytes int64) {
	s.Emit(event.Event{Kind: event.JournalCut, Attrs: event.Attrs("file", file, "at", at, "bytes", bytes)})
}

func (s storeEvents) JournalDamaged(file string, at, bytes int64, reason error) {
	s.Emit(event.Event{Kind: event.JournalDamaged, Attrs: event.Attrs("file", file, "at", at, "bytes", bytes, "reason", reason)})
}

func (s storeEvents) JournalFailed(err error) {
	s.Emit(event.Event{Kind: event.JournalFailed, Err: err})
}

func (s storeEvents) JournalMended() { s.Emit(event.Event{Kind: event.JournalMended}) }

func (s storeEvents) RedisLost(server, mode string, reason error) {
	s.Emit(event.Event{Kind: event.RedisAway, Attrs: event.Attrs("server", server, "outage", mode), Err: reason})
}

func (s storeEvents) RedisBack(server string, after time.Duration) {
	s.Emit(event.Event{Kind: event.RedisBack, Attrs: event.Attrs("server", server, "after", after.Round(time.Millisecond))})
}

func (s storeEvents) RedisReplaced(server string) {
	s.Emit(event.Event{Kind: event.RedisReplaced, Attrs: event.Attrs("server", server)})
}

func (s storeEvents) RedisReplayed(server string, sends, nodes, of int) {
	s.Emit(event.Event{Kind: event.RedisReplayed, Attrs: event.Attrs("server", server, "sends", sends, "nodes_that_told", nodes, "store.nodes", of)})
}

func (s storeEvents) RedisEvicts(server, policy string) {
	s.Emit(event.Event{Kind: event.RedisEvicts, Attrs: event.Attrs("server", server, "maxmemory-policy", policy)})
}

func (s storeEvents) RedisValueUnread(key string, reason error) {
	s.Emit(event.Event{Kind: event.NoteUnread, Attrs: event.Attrs("note", key), Err: reason})
}

func (s storeEvents) RedisKeyUnusable(server string, reason error) {
	s.Emit(event.Event{Kind: event.RedisKeyUnusable, Attrs: event.Attrs("server", server), Err: reason})
}

func (s storeEvents) RedisNamesake(name string) {
	s.Emit(event.Event{Kind: event.RedisNamesake, Attrs: event.Attrs("node", name)})
}

func (s storeEvents) RedisNamesakeGone(name string) {
	s.Emit(event.Event{Kind: event.RedisNamesakeGone, Attrs: event.Attrs("node", name)})
}

func (s storeEvents) RedisCrowded(nodes, of int) {
	s.Emit(event.Event{Kind: event.RedisCrowded, Attrs: event.Attrs("nodes", nodes, "store.nodes", of)})
}
