package notes

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"sluice/sidecar/hosttest"
)

type value struct {
	N int `json:"n"`
}

// Values are there after a restart, under any name, until they are dropped. Other notes
// stay as they are, and each that cannot be read is reported once.
func TestMap(t *testing.T) {
	store := hosttest.Notes{"other/x/y": []byte("x"), "v/three/of/them": []byte("{}"), "v/a/%zz": []byte("{}"), "v/a/json": []byte("no")}
	var unread []string
	open := func() Map[value] {
		return New[value](store, "v", 2, func(key string, _ error) { unread = append(unread, key) })
	}
	names := [][]string{{"b/c", "%d"}, {"a", ""}, {"ü", "x"}, {"gone", "gone"}}
	for i, name := range names {
		if err := open().Put(value{i}, name...); err != nil {
			t.Fatal(err)
		}
	}
	if err := open().Drop("gone", "gone"); err != nil {
		t.Fatal(err)
	}
	var got []string
	open().Load(func(name []string, v value) error {
		if v.N == 2 {
			return errors.New("not wanted")
		}
		got = append(got, fmt.Sprint(name, v.N))
		return nil
	})
	if want := []string{"[a ] 1", "[b/c %d] 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if want := []string{"v/%C3%BC/x", "v/a/%zz", "v/a/json", "v/three/of/them"}; !slices.Equal(unread, want) {
		t.Errorf("unread %q, want %q", unread, want)
	}
}
