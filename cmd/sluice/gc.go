package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// These are how much garbage accumulates before it is collected. Go's default lets the heap
// double. A small node, of a few megabytes, would then collect tens of times a second,
// which costs a twentieth of its decisions; a large one would double its memory, most of
// which are counts that stay.
const (
	garbageLeast   = 64 << 20 // bytes, however little is alive
	garbagePercent = 25       // of what is alive, where that is more
	goMinimum      = 4 << 20  // the runtime takes the heap for as large at least
)

// gcPercent is the GOGC for that many bytes of live heap.
func gcPercent(live uint64) int {
	return int(max(garbagePercent, garbageLeast*100/max(live, goMinimum)))
}

// memoryLimit is the GOMEMLIMIT for that many bytes of live heap. It has the runtime
// return to the system what it holds beyond the heap that gcPercent allows; without it the
// runtime keeps a tenth more.
func memoryLimit(live uint64) int64 {
	return int64(max(4*garbageLeast, live+live/5+48<<20))
}

// tuneGC sets GOGC and GOMEMLIMIT by the live heap of the last collection, once a second
// until ctx is done. It does nothing where the environment has a GOGC.
func tuneGC(ctx context.Context) error {
	if os.Getenv("GOGC") != "" {
		return nil
	}
	live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
	percent, limit := gcPercent(0), memoryLimit(0)
	defer debug.SetGCPercent(debug.SetGCPercent(percent))
	defer debug.SetMemoryLimit(debug.SetMemoryLimit(limit))
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		metrics.Read(live)
		alive := live[0].Value.Uint64()
		// Each call stops the world for an instant, so only where something changes.
		if l := memoryLimit(alive); l > limit || l < limit-limit/16 {
			limit = l
			debug.SetMemoryLimit(l)
		}
		if p := gcPercent(alive); p != percent {
			percent = p
			debug.SetGCPercent(p)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
