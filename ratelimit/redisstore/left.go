package redisstore

import (
	"encoding/json"
	"strings"
)

// A Left is what a node that counts by itself knows of the board that it once shared.
type Left struct{ Ledger Ledger }

// Entries calls f for each value that was posted under a key with a prefix.
func (l Left) Entries(prefix string, f func(key string, value []byte)) {
	l.Ledger.Notes(noteBoard+prefix, func(key string, value []byte) {
		var e entry
		if json.Unmarshal(value, &e) == nil && len(e.Value) > 0 {
			f(strings.TrimPrefix(key, noteBoard), e.Value)
		}
	})
}
