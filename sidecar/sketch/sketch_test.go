package sketch

import (
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"testing"
)

func TestNetwork(t *testing.T) {
	for client, want := range map[string]string{"": "this host", "127.0.0.1": "this host", "::ffff:192.0.2.77": "192.0.2.0/24",
		"2001:db8:aa:bb::1": "2001:db8:aa::/48", "::1": "this host", "no address": "this host"} {
		if got := NetworkName(Network(client)); got != want {
			t.Errorf("%q is of %s, want %s", client, got, want)
		}
	}
}

// Of 2,048 bits up to a thousand different values are told within a twentieth, however often
// each comes, and in however many sets.
func TestDistinct(t *testing.T) {
	seed := maphash.MakeSeed()
	for _, n := range []int{0, 1, 10, 100, 1000} {
		var a, b [32]uint64
		for i := range 3 * n {
			SetBit([][]uint64{a[:], b[:]}[i%2], maphash.String(seed, fmt.Sprint(i%max(n, 1))))
		}
		if got := Distinct(a[:], b[:]); got < int64(n-n/20-2) || got > int64(n+n/20+2) {
			t.Errorf("%d of %d", got, n)
		}
	}
}

func TestText(t *testing.T) {
	var x Text
	for i := range 300 {
		x.Add([]string{"Your invoice", fmt.Sprint("other ", i), "Your invoice", ""}[i%4], 1)
	}
	if string(x.Is) != "Your invoice" || x.Seen < 75 {
		t.Errorf("%q, seen %d", x.Is, x.Seen)
	}
}

// Whatever is more than one in as many as are told apart is there, and not counted too low.
func TestTop(t *testing.T) {
	const most, all = 8, 10_000
	r, x, exact := rand.New(rand.NewPCG(1, 2)), Top{}, map[uint64]uint32{}
	for range all {
		key := uint64(r.IntN(5))
		if r.IntN(3) > 0 {
			key = 5 + uint64(r.IntN(1000))
		}
		x.Add(key, fmt.Sprint(key), 1, most)
		exact[key]++
	}
	is := map[uint64]uint32{}
	for _, row := range x.Rows {
		if is[row.Key] = row.N; row.N < exact[row.Key] || string(row.Name) != fmt.Sprint(row.Key) {
			t.Errorf("%d counted %d of %d, named %q", row.Key, row.N, exact[row.Key], row.Name)
		}
	}
	for key, n := range exact {
		if n > all/most && is[key] == 0 {
			t.Errorf("%d is missing, with %d of %d", key, n, all)
		}
	}
	if len(x.Rows) != most || !x.More {
		t.Errorf("%d rows, more %v", len(x.Rows), x.More)
	}
}
