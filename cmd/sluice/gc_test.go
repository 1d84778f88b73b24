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
		{400 << 20, 30},
		{8 << 30, 30},
	} {
		if got := gcPercent(tt.live); got != tt.want {
			t.Errorf("%d MiB alive: GOGC=%d, want %d", tt.live>>20, got, tt.want)
		}
	}
}
