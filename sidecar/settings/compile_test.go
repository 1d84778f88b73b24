package settings

import (
	"fmt"
	"testing"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/limit"
)

// BenchmarkCompile measures what a change of one threshold costs on a host
// whose panel limits 100,000 domains.
func BenchmarkCompile(b *testing.B) {
	var panel []limit.Setting
	for i := range 100_000 {
		panel = append(panel, limit.Setting{Scope: fmt.Sprintf("d%d.example", i), Key: "hourly", Value: int64(100), Origin: limit.Origin{Layer: limit.LayerPanel, Place: "/var/cpanel/users/u:3"}})
	}
	config := config.Default()
	for b.Loop() {
		limit.NewTable(time.Hour, config.Settings(), panel)
	}
}
