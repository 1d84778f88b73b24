package redisstore

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// What one subject was asked for, and what Redis decided.
type asked struct {
	reset bool
	sends int64
	max   int64
}

type came struct {
	ok   bool
	at   int64 // Redis's time of the decision, or the epoch of a reset, milliseconds
	used int64
}

// counted is a subject with a window of a second as one caller after the other
// would see it: when each send was accepted, and when it was last reset.
type counted struct {
	last  int64
	sends []int64
}

const window = time.Second

// count is the sends that count at a time: until the end of their bucket has
// left the window, by the definition of a window.
func (c counted) count(at int64) (n int64) {
	bucket := (window.Microseconds() + 59) / 60
	for _, when := range c.sends {
		if (when*1000/bucket+1)*bucket > at*1000-window.Microseconds() {
			n++
		}
	}
	return n
}

var oneByOne = porcupine.Model{
	Init: func() any { return counted{} },
	Step: func(state, input, output any) (bool, any) {
		c, in, out := state.(counted), input.(asked), output.(came)
		switch {
		case out.at < c.last:
			return false, c // its clock never goes back
		case in.reset:
			return true, counted{last: out.at + 1}
		}
		used := c.count(out.at)
		fits := used+in.sends <= in.max
		if !fits {
			return !out.ok && out.used == used, counted{out.at, c.sends}
		}
		next := counted{last: out.at, sends: slices.Clone(c.sends)}
		for range in.sends {
			next.sends = append(next.sends, out.at)
		}
		return out.ok && out.used == used+in.sends, next
	},
	Equal: func(a, b any) bool {
		x, y := a.(counted), b.(counted)
		return x.last == y.last && slices.Equal(x.sends, y.sends)
	},
}

// Takes, each with a limit of its own, and resets over three nodes at once are
// as if they had come one after the other.
func TestTakesAndResetsAreLinearizable(t *testing.T) {
	r := redistest.Start(t)
	var mu sync.Mutex
	var history []porcupine.Operation
	start := time.Now()
	nodes := three(t, r.URL(), Options{Timeout: hosttest.Deadline(5 * time.Second)})
	for _, n := range nodes {
		n.options.answered = func(take ratelimit.Take, began time.Time, a answer) {
			mu.Lock()
			defer mu.Unlock()
			history = append(history, porcupine.Operation{Call: int64(began.Sub(start)), Return: int64(time.Since(start)),
				Input:  asked{sends: int64(len(take.Tokens)), max: take.Subjects[0].Limits[0].Max},
				Output: came{a.OK, a.At.UnixMilli(), a.Uses[0].Used}})
		}
	}
	var running sync.WaitGroup
	for k := range 12 {
		running.Go(func() {
			n := nodes[k%3]
			for i := range soak(2000, 60) {
				if k == 0 && i%40 == 39 {
					began := time.Now()
					epoch, err := n.Reset(context.Background(), n.time(), "a.example", -1)
					if err != nil {
						t.Error(err)
					}
					mu.Lock()
					history = append(history, porcupine.Operation{Call: int64(began.Sub(start)), Return: int64(time.Since(start)),
						Input: asked{reset: true}, Output: came{at: epoch}})
					mu.Unlock()
				}
				domain := ratelimit.Subject{Name: "a.example", Limits: []ratelimit.Limit{{Window: window, Max: int64(20 + (k+i)%30)}}}
				if _, err := n.take(take(1+1_000_000*k+10*i, 1+i%3, domain)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	accepted := 0
	for i := range history {
		history[i].ClientId = i
		if history[i].Output.(came).ok {
			accepted++
		}
	}
	if got := porcupine.CheckOperationsTimeout(oneByOne, history, time.Minute); got != porcupine.Ok {
		t.Fatalf("%d operations: %v", len(history), got)
	}
	t.Logf("%d operations, %d accepted", len(history), accepted)
}
