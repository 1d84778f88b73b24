package notes

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

// memory keeps notes for as long as the test runs.
type memory map[string][]byte

func (m memory) Note(key string, value []byte) error {
	m[key] = bytes.Clone(value)
	return nil
}

func (m memory) Forget(key string) error {
	delete(m, key)
	return nil
}

func (m memory) Notes(prefix string, f func(key string, value []byte)) {
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(key, prefix) {
			f(key, m[key])
		}
	}
}

type value struct {
	N int `json:"n"`
}

// Values are there after a restart, under any name, until they are dropped. Other notes
// stay as they are, and each that cannot be read is reported once.
func TestMap(t *testing.T) {
	store := memory{"other/x/y": []byte("x"), "v/three/of/them": []byte("{}"), "v/a/%zz": []byte("{}"), "v/a/json": []byte("no")}
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
