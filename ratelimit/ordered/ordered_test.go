package ordered

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// The map does as one of the language's, and keeps the order.
func TestMapAgainstAPlainOne(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var m Map[int]
		want := map[string]int{}
		key := rapid.StringMatching(`[ab/]{0,3}`)
		for n := range rapid.IntRange(0, 200).Draw(rt, "steps") {
			k := key.Draw(rt, "key")
			if rapid.IntRange(0, 2).Draw(rt, "delete") == 0 {
				m.Delete(k)
				delete(want, k)
			} else {
				m.Set(k, n)
				want[k] = n
			}
			value, ok := m.Get(k)
			if known, there := want[k]; value != known || ok != there || m.Len() != len(want) {
				rt.Fatalf("%q is %d, %v of %d keys, want %d, %v of %d", k, value, ok, m.Len(), known, there, len(want))
			}
		}
		prefix := key.Draw(rt, "prefix")
		var got, keys []string
		for k, value := range m.Prefix(prefix) {
			got = append(got, fmt.Sprint(k, value))
		}
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if strings.HasPrefix(k, prefix) {
				keys = append(keys, fmt.Sprint(k, want[k]))
			}
		}
		if !slices.Equal(got, keys) {
			rt.Fatalf("of %q there are %q, want %q", prefix, got, keys)
		}
	})
}

// A search passes few of many keys, and a range that is left early goes no further.
func TestASearchPassesFewKeys(t *testing.T) {
	const keys = 100_000
	var m Map[int]
	for n := range keys {
		m.Set(fmt.Sprintf("a/%06d", n), n)
	}
	passed, searches := 0, 1000
	for n := range searches {
		key, at := fmt.Sprintf("a/%06d", n*keys/searches), m.head[:]
		for level := levels - 1; level >= 0; level-- { // as before does
			for at[level] != nil && at[level].key < key {
				at = at[level].next
				passed++
			}
		}
	}
	if mean := passed / searches; mean > 60 { // 4 of each 4 levels' worth, 8 levels: 24 and a little
		t.Errorf("a search passes %d keys of %d", mean, keys)
	}
	ranged := 0
	for range m.Prefix("a/0") {
		if ranged++; ranged == 3 {
			break
		}
	}
	if ranged != 3 {
		t.Errorf("ranged over %d keys", ranged)
	}
}
