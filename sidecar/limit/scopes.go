package limit

import (
	"iter"
	"maps"
)

// scopes has the scopes of a table by name. It does not change: with returns another one,
// which shares with it nearly all, so that a change costs the same beside ten other scopes
// and beside ten thousand.
type scopes struct {
	base map[string]*scoped
	over map[string]*scoped // what is other than in base; nil: it has no such scope
}

// get returns a scope; nil if there is none of that name.
func (s scopes) get(name string) *scoped {
	if len(s.over) > 0 {
		if scope, is := s.over[name]; is {
			return scope
		}
	}
	return s.base[name]
}

// with returns scopes in which some are others, or with nil are gone.
func (s scopes) with(others map[string]*scoped) scopes {
	over := make(map[string]*scoped, len(s.over)+len(others))
	maps.Copy(over, s.over)
	maps.Copy(over, others)
	if len(over)*len(over) < len(s.base) {
		return scopes{s.base, over}
	}
	return scopes{base: maps.Collect(scopes{s.base, over}.all())}
}

// all yields all scopes, in no order.
func (s scopes) all() iter.Seq2[string, *scoped] {
	return func(yield func(string, *scoped) bool) {
		for name, scope := range s.over {
			if scope != nil && !yield(name, scope) {
				return
			}
		}
		for name, scope := range s.base {
			if _, other := s.over[name]; !other && !yield(name, scope) {
				return
			}
		}
	}
}
