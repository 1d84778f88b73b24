package doctor

import (
	"os"
	"path/filepath"
	"time"

	"sluice/sidecar/printable"
	"sluice/sidecar/web"
)

// checkMetrics looks whether the file for node_exporter is written.
func (d *doctor) checkMetrics() {
	if d.config.Metrics.Textfile == "" || d.running.err != nil {
		return
	}
	file := filepath.Join(d.config.Metrics.Textfile, web.Textfile)
	info, err := os.Stat(file)
	switch {
	case err != nil:
		d.note("metrics", "Make the directory of metrics.textfile. Under systemd another one than Debian's needs a drop-in for sluice.service with ReadWritePaths= (docs/metrics.md).",
			"node_exporter gets none: %v", err)
	case time.Since(info.ModTime()) > 4*web.WriteEvery:
		d.note("metrics", "journalctl -u sluice SLUICE_EVENT=metrics-failed", "%s was written last at %s", file, printable.DateTime(info.ModTime()))
	default:
		d.ok("metrics", "%s is written, for node_exporter", file)
	}
}
