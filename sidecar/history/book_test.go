package history

import (
	"fmt"
	"slices"
	"testing"

	"sluice/sidecar"
	"sluice/sidecar/event"
)

// quiet is a board that has nothing.
type quiet struct{ sidecar.Board }

func (quiet) Watch(string, func(string, []byte)) {}

// Which scopes were changed since a version is known however many changes there were, and
// fills no memory: one element a scope.
func TestWhichScopesWereTouched(t *testing.T) {
	b := Open(quiet{}, event.NewStream())
	change := func(number int64, scope string) {
		b.receive(Key(number), fmt.Appendf(nil, `{"number":%d,"scope":%q}`, number, scope))
	}
	change(1, "b.example")
	change(2, "a.example")
	_, before := b.Touched(0)
	for n := range int64(1000) {
		change(n+3, "b.example")
	}
	for since, want := range map[int][]string{0: {"a.example", "b.example"}, before: {"b.example"}, before + 1000: nil} {
		if got, version := b.Touched(since); !slices.Equal(got, want) || version != before+1000 {
			t.Errorf("since %d: %v, version %d; want %v", since, got, version, want)
		}
	}
	b.receive(Key(2), nil)
	if got, _ := b.Touched(before + 1000); !slices.Equal(got, []string{"a.example"}) {
		t.Errorf("after a removal: %v", got)
	}
	if len(b.touched) != 2 {
		t.Errorf("%d elements for two scopes", len(b.touched))
	}
}
