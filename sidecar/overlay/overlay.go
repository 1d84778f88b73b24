package overlay

import (
	"iter"
	"maps"
)

// A Map has values by name. It does not change: With returns another one, which shares with
// it nearly all, so that a change costs the same beside ten other values and beside ten
// thousand.
type Map[V any] struct {
	base map[string]*V
	over map[string]*V // what is other than in base; nil: it has no such value
}

// New returns a Map of these values, which must not change from now on.
func New[V any](values map[string]*V) Map[V] { return Map[V]{base: values} }

// Get returns a value; nil if there is none of that name.
func (m Map[V]) Get(name string) *V {
	if len(m.over) > 0 {
		if v, is := m.over[name]; is {
			return v
		}
	}
	return m.base[name]
}

// With returns a Map in which some values are others, or with nil are gone.
func (m Map[V]) With(others map[string]*V) Map[V] {
	over := make(map[string]*V, len(m.over)+len(others))
	maps.Copy(over, m.over)
	maps.Copy(over, others)
	if len(over)*len(over) < len(m.base) {
		return Map[V]{m.base, over}
	}
	return Map[V]{base: maps.Collect(Map[V]{m.base, over}.All())}
}

// All yields all values, in no order.
func (m Map[V]) All() iter.Seq2[string, *V] {
	return func(yield func(string, *V) bool) {
		for name, v := range m.over {
			if v != nil && !yield(name, v) {
				return
			}
		}
		for name, v := range m.base {
			if _, other := m.over[name]; !other && !yield(name, v) {
				return
			}
		}
	}
}
