package attribution

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/sketch"
)

// streams are orders in which authors send: one is drawn for each send.
var streams = map[string]func(r *rand.Rand, i int) int{
	"few":       func(r *rand.Rand, _ int) int { return r.IntN(128) },
	"even":      func(r *rand.Rand, _ int) int { return r.IntN(2000) },
	"zipf":      func(r *rand.Rand, _ int) int { return int(rand.NewZipf(r, 1.2, 1, 5000).Uint64()) },
	"in turn":   func(_ *rand.Rand, i int) int { return i % 129 },
	"rotating":  func(_ *rand.Rand, i int) int { return i / 3 },
	"one in 50": func(r *rand.Rand, i int) int { return min(1, i%50) * (1 + r.IntN(3000)) },
	"at times": func(r *rand.Rand, i int) int {
		if i/1000%2 == 0 {
			return r.IntN(5)
		}
		return 5 + r.IntN(4000)
	},
}

// Whoever sends, in whatever order: no author is counted too low, none too high by more than
// its error, each with more than a 128th of all is there, and with 128 authors all is exact.
func TestBound(t *testing.T) {
	for name, draw := range streams {
		t.Run(name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			b := newBench(t, hour)
			const sends = 14_000
			type real struct{ tried, sent int64 }
			window := [7]map[string]real{}
			for i := range sends {
				number := i / (sends / 9) // of 9 panes the first two leave the window
				if i%(sends/9) == 0 && i > 0 {
					b.now = b.now.Add(10 * time.Minute)
				}
				if number%7 != (i-1)/(sends/9)%7 || i == 0 {
					window[number%7] = map[string]real{}
				}
				key, n := fmt.Sprintf("u%d@x.example", draw(r, i)), uint32(1+r.IntN(3))
				sent := n * uint32(r.IntN(2))
				is := window[number%7][key]
				window[number%7][key] = real{is.tried + int64(n), is.sent + int64(sent)}
				b.locked(func() {
					m := Message{Subject: "x.example", Author: sidecar.Author{Key: key}}
					s, _ := b.subject(b.now, m.Subject)
					b.count(s, b.now, b.now, &m, n, sent)
				})
			}
			var all int64
			exact, few := map[string]real{}, true
			for _, pane := range window {
				few = few && len(pane) <= sketch.MaxEntries
				for key, n := range pane {
					exact[key] = real{exact[key].tried + n.tried, exact[key].sent + n.sent}
					all += n.tried
				}
			}
			b.counts["x.example"] = Counts{Sent: all}
			got, _ := b.Of(b.now, "x.example")
			named := map[string]bool{}
			for _, a := range got.Authors {
				named[a.Key] = true
				is := exact[a.Key]
				if a.Tried < is.tried || a.Tried-a.Error > is.tried || a.Sent < is.sent || a.Sent-a.Error > is.sent || few && a.Error != 0 {
					t.Errorf("%s: tried %d sent %d, by at most %d too high; really %+v", a.Key, a.Tried, a.Sent, a.Error, is)
				}
			}
			for key, is := range exact {
				if is.tried > all/sketch.MaxEntries && !named[key] {
					t.Errorf("%s has tried %d of %d, and is missing", key, is.tried, all)
				}
			}
			if got.Tried != all {
				t.Errorf("%d tried, want %d", got.Tried, all)
			}
		})
	}
}

// The same holds for what is left of the panes after a restart.
func TestBoundAfterARestart(t *testing.T) {
	b := newBench(t, hour)
	exact := map[string]int64{}
	for i := range 3000 {
		key := fmt.Sprintf("u%d@x.example", i*i%97)
		b.send(key, 1)
		exact[key]++
		if i == 2000 {
			b.restart()
		}
	}
	r, _ := b.Of(b.now, "x.example")
	for _, a := range r.Authors {
		if a.Tried < exact[a.Key] || a.Tried-a.Error > exact[a.Key] {
			t.Errorf("%s: %d, by at most %d too high, really %d", a.Key, a.Tried, a.Error, exact[a.Key])
		}
	}
}

func BenchmarkCount(b *testing.B) {
	for _, authors := range []int{1, 3, 100, 10_000} {
		b.Run(fmt.Sprint(authors), func(b *testing.B) {
			w := newBench(b, hour)
			all := make([]*Message, authors)
			for i := range all {
				all[i] = message(fmt.Sprintf("u%d@x.example", i), 1)
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				i++
				w.Charged(w.now, all[i%authors], 1)
			}
		})
	}
}
