package ordered

import (
	"iter"
	"math/bits"
	"math/rand/v2"
	"strings"
)

// levels is enough for 4^12 keys: one node in four of a level is in the next one too.
const levels = 12

// A Map maps strings to values. It is a skip list: every node is in the list of level
// 0, fewer in each of the next levels, and a search begins in the shortest list. The
// zero Map is empty.
type Map[V any] struct {
	head [levels]*node[V]
	n    int
}

type node[V any] struct {
	key   string
	value V
	next  []*node[V] // the next node in the list of each level that it is in
}

// before returns, for each level, the next pointers of the last node before a key.
// Those of level 0 lead to the key, if it is there, or to the one behind it.
func (m *Map[V]) before(key string) (last [levels][]*node[V]) {
	at := m.head[:]
	for level := levels - 1; level >= 0; level-- {
		for at[level] != nil && at[level].key < key {
			at = at[level].next
		}
		last[level] = at
	}
	return last
}

// Len is how many keys there are.
func (m *Map[V]) Len() int { return m.n }

// Get returns the value of a key, and whether there is one.
func (m *Map[V]) Get(key string) (value V, ok bool) {
	if n := m.before(key)[0][0]; n != nil && n.key == key {
		return n.value, true
	}
	return value, false
}

// Set sets the value of a key.
func (m *Map[V]) Set(key string, value V) {
	last := m.before(key)
	if n := last[0][0]; n != nil && n.key == key {
		n.value = value
		return
	}
	height := 1 + bits.TrailingZeros64(rand.Uint64()|1<<(2*(levels-1)))/2
	n := &node[V]{key, value, make([]*node[V], height)}
	for level := range n.next {
		n.next[level], last[level][level] = last[level][level], n
	}
	m.n++
}

// Delete removes a key, if it is there.
func (m *Map[V]) Delete(key string) {
	last := m.before(key)
	n := last[0][0]
	if n == nil || n.key != key {
		return
	}
	for level := range n.next {
		last[level][level] = n.next[level]
	}
	m.n--
}

// Prefix iterates over the keys with a prefix, in order. The map must not be changed
// meanwhile.
func (m *Map[V]) Prefix(prefix string) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for n := m.before(prefix)[0][0]; n != nil && strings.HasPrefix(n.key, prefix); n = n.next[0] {
			if !yield(n.key, n.value) {
				return
			}
		}
	}
}
