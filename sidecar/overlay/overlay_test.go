package overlay

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

type value struct{ change int }

// A Map is like one that is copied at each change, and those of before stay as they were.
func TestMap(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type pair struct {
		is   Map[value]
		want map[string]*value
	}
	all := []pair{{Map[value]{base: map[string]*value{}}, map[string]*value{}}}
	for n := range 1000 {
		last := all[len(all)-1]
		want, others := maps.Clone(last.want), map[string]*value{}
		for range 1 + random.IntN(3) {
			name := fmt.Sprint(random.IntN(400))
			if others[name] = nil; random.IntN(3) > 0 {
				others[name] = &value{n}
			}
			if want[name] = others[name]; others[name] == nil {
				delete(want, name)
			}
		}
		all = append(all, pair{last.is.With(others), want})
	}
	shared := 0
	for i, p := range all {
		if got := maps.Collect(p.is.All()); !maps.Equal(got, p.want) {
			t.Fatalf("after %d changes: %d values, want %d", i, len(got), len(p.want))
		}
		for n := range 400 {
			if name := fmt.Sprint(n); p.is.Get(name) != p.want[name] {
				t.Fatalf("after %d changes: another %s", i, name)
			}
		}
		if len(p.is.over)*len(p.is.over) > len(p.is.base) {
			t.Fatalf("after %d changes: %d over %d are looked through", i, len(p.is.over), len(p.is.base))
		}
		if len(p.is.over) > 0 {
			shared++
		}
	}
	if shared < len(all)/2 {
		t.Errorf("only %d of %d share anything with those before", shared, len(all))
	}
}
