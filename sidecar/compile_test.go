package sidecar

import (
	"fmt"
	"testing"
	"time"
)

// BenchmarkCompile measures what a change of one threshold costs on a host
// whose panel limits 100,000 domains.
func BenchmarkCompile(b *testing.B) {
	var panel []Setting
	for i := range 100_000 {
		panel = append(panel, Setting{Scope: fmt.Sprintf("d%d.example", i), Key: "hourly", Value: int64(100), Origin: Origin{Layer: LayerPanel, Place: "/var/cpanel/users/u:3"}})
	}
	config := DefaultConfig()
	for b.Loop() {
		newTable(time.Hour, config.settings(), panel)
	}
}
