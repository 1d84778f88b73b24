package lock

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"sluice/ratelimit"
)

func TestUsageListKeepsTheFullest(t *testing.T) {
	for _, n := range []int{0, 1, 9, 10, 11, 19, 20, 21, 1000} {
		l := usageList{most: 10}
		for _, used := range rand.Perm(n) {
			l.add(ratelimit.Use{Subject: fmt.Sprint("d", used), Used: int64(used), Limit: ratelimit.Limit{Max: 7}})
		}
		got := l.sorted()
		if len(got) != min(n, 10) || len(l.uses) > 20 {
			t.Fatalf("%d of %d, %d kept", len(got), n, len(l.uses))
		}
		for i, u := range got {
			if u.Used != int64(n-1-i) {
				t.Errorf("of %d, number %d is %d", n, i, u.Used)
			}
		}
	}
}
