package main

import "testing"

func TestGCPercent(t *testing.T) {
	for _, tt := range []struct {
		live uint64
		want int
	}{
		{0, 1600}, // 64 MiB, for the runtime reckons with 4 MiB at least
		{4 << 20, 1600},
		{64 << 20, 100},
		{200 << 20, 32},
		{400 << 20, 25},
		{8 << 30, 25},
	} {
		if got := gcPercent(tt.live); got != tt.want {
			t.Errorf("%d MiB alive: GOGC=%d, want %d", tt.live>>20, got, tt.want)
		}
	}
}

func TestMemoryLimit(t *testing.T) {
	for _, tt := range []struct{ live, want uint64 }{{0, 256}, {100, 256}, {418, 549}, {8192, 9878}} {
		if got := memoryLimit(tt.live<<20) >> 20; got != int64(tt.want) {
			t.Errorf("%d MiB alive: GOMEMLIMIT=%d MiB, want %d", tt.live, got, tt.want)
		}
	}
}
