package history

import (
	"fmt"
	"slices"
	"testing"

	"sluice/sidecar/event"
	"sluice/sidecar/notes"
)

// quiet is a board that has nothing.
type quiet struct{ notes.Board }

func (quiet) Watch(string, func(string, []byte)) {}

// Which scopes were changed since a version is known however many changes there were, and
// fills no memory: one element a scope, and the last ones.
func TestWhichScopesWereTouched(t *testing.T) {
	b := Open(quiet{}, event.NewStream())
	change := func(number int64, scope string) {
		b.receive(Key(number), fmt.Appendf(nil, `{"number":%d,"scope":%q}`, number, scope))
	}
	change(1, "b.example")
	change(2, "a.example")
	_, before := b.Touched(0)
	for n := range int64(5 * keepRecent) {
		change(n+3, "b.example")
	}
	for since, want := range map[int][]string{0: {"a.example", "b.example"}, before: {"b.example"}, before + 2: {"b.example"}, before + 5*keepRecent - 1: {"b.example"},
		before + 4*keepRecent: {"b.example"}, before + 3*keepRecent: {"b.example"}, before + 5*keepRecent: nil} {
		if got, version := b.Touched(since); !slices.Equal(got, want) || version != before+5*keepRecent {
			t.Errorf("since %d: %v, version %d; want %v", since, got, version, want)
		}
	}
	b.receive(Key(2), nil)
	if got, _ := b.Touched(before + 5*keepRecent); !slices.Equal(got, []string{"a.example"}) {
		t.Errorf("after a removal: %v", got)
	}
	if got, _ := b.Touched(before + 5*keepRecent - 1); !slices.Equal(got, []string{"a.example", "b.example"}) {
		t.Errorf("after a removal, since the change before: %v", got)
	}
	if len(b.touched) != 2 || len(b.recent) > 2*keepRecent {
		t.Errorf("%d elements for two scopes, and %d for the last changes", len(b.touched), len(b.recent))
	}
}
