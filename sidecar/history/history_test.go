package history

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"sluice/sidecar/limit"
)

// randomLog draws changes of two scopes and two keys, as operators make them.
func randomLog(rt *rapid.T, now time.Time) (t Log) {
	for n := range rapid.Int64Range(1, 25).Draw(rt, "changes") {
		c := Change{Number: n + 1, At: now, Scope: rapid.SampledFrom([]string{"a.example", "default"}).Draw(rt, "scope")}
		for _, key := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"hourly", "daily"}), 1, 2, rapid.ID).Draw(rt, "keys") {
			k := KeyChange{Key: key}
			if rapid.IntRange(0, 3).Draw(rt, "unset") > 0 {
				k.To = n
			}
			c.Keys = append(c.Keys, k)
		}
		switch rapid.IntRange(0, 5).Draw(rt, "kind") {
		case 0, 1:
			c.Until = now.Add(time.Duration(rapid.IntRange(-2, 3).Draw(rt, "until")) * time.Hour)
		case 2:
			if number := rapid.Int64Range(1, n+1).Draw(rt, "undoes"); number <= n {
				if undone, err := t.find(number, now); err == nil {
					c = Change{Number: n + 1, At: now, Scope: undone.Scope, Undoes: number}
				}
			}
		}
		if n > 0 && rapid.IntRange(0, 3).Draw(rt, "together") == 0 { // with the one before
			c.first = cmp.Or(t[n-1].first, n)
			t[n-1].first = c.first
		}
		t = append(t, c)
	}
	return t
}

func inForceOf(t Log, now time.Time) string {
	all := t.Effective(now).Settings
	slices.SortFunc(all, func(a, b limit.Setting) int { return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.Key, b.Key)) })
	text := ""
	for _, s := range all {
		text += fmt.Sprintf("%s %s=%v by %d\n", s.Scope, s.Key, s.Value, s.Change)
	}
	return text
}

// In force is, of each key, the last change that sets or unsets it and is neither expired
// nor rolled back.
func TestWhatALogPutsInForce(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		changes := randomLog(rt, now)
		undone := map[int64]bool{}
		for i := len(changes) - 1; i >= 0; i-- {
			if c := changes[i]; c.Undoes > 0 && !undone[c.Number] {
				undone[c.Undoes] = true
			}
		}
		want := ""
		for _, scope := range []string{"a.example", "default"} {
			for _, key := range []string{"daily", "hourly"} {
				line := ""
				for _, c := range changes {
					over := !c.Until.IsZero() && !c.Until.After(now)
					for _, k := range c.Keys {
						if c.Scope != scope || k.Key != key || over || undone[c.Number] || c.Undoes > 0 {
							continue
						}
						line = ""
						if k.To != nil {
							line = fmt.Sprintf("%s %s=%v by %d\n", scope, key, k.To, c.Number)
						}
					}
				}
				want += line
			}
		}
		if got := inForceOf(changes, now); got != want {
			rt.Fatalf("in force\n%swant\n%s", got, want)
		}
	})
}

// Old changes are removed one after the other, and that changes nothing in force, now or
// later.
func TestTheLogStaysShort(t *testing.T) {
	gone := 0
	rapid.Check(t, func(rt *rapid.T) {
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		changes := randomLog(rt, now)
		for _, number := range changes.compact(now, 3) {
			gone++
			left := slices.DeleteFunc(slices.Clone(changes), func(c Change) bool { return cmp.Or(c.first, c.Number) == number })
			for hours := range 5 {
				at := now.Add(time.Duration(hours) * time.Hour)
				if was, is := inForceOf(changes, at), inForceOf(left, at); was != is {
					rt.Fatalf("without change %d, at %v\n%sis in force, not\n%s", number, at, is, was)
				}
			}
			changes = left
		}
	})
	if gone == 0 {
		t.Error("no change ever went")
	}
}
