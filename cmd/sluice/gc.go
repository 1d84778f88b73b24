package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How much garbage gathers before it is collected. Go's default lets the heap
// double. A small node, of a few megabytes, would then collect tens of times a
// second, which costs a twentieth of its decisions; a large one would double
// its memory, most of which are counts that stay.
const (
	garbageLeast   = 64 << 20 // bytes, however little is alive
	garbagePercent = 30       // of what is alive, where that is more
	goMinimum      = 4 << 20  // the runtime takes the heap for as large at least
)

// gcPercent is the GOGC for so many bytes alive.
func gcPercent(live uint64) int {
	return int(max(garbagePercent, garbageLeast*100/max(live, goMinimum)))
}

// tuneGC sets GOGC by what the last collection found alive, once a second
// until ctx is done. Where the environment has a GOGC, that stays.
func tuneGC(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent := gcPercent(0)
	defer debug.SetGCPercent(debug.SetGCPercent(percent))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		metrics.Read(live)
		if p := gcPercent(live[0].Value.Uint64()); p != percent {
			percent = p
			debug.SetGCPercent(p) // stops the world for an instant, so only where it changes
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
