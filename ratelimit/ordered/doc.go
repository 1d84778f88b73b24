// Package ordered has a map that keeps its keys in order, so that finding the keys with
// a prefix costs as much as there are of them, not as there are in all. It owns the
// entries of each Map. It asks nobody and tells nobody; callers lock it.
package ordered
