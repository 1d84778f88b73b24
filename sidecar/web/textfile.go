package web

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"sluice/sidecar/event"
)

// Textfile is the name of the file for node_exporter in metrics.textfile.
const Textfile = "sluice.prom"

// WriteEvery is how often it is written.
const WriteEvery = 15 * time.Second

// Write writes the metrics for node_exporter to a directory every 15 seconds, until the context
// ends; then it removes the file, whose values would be taken for those of now. The file is
// replaced by rename.
func (m *Metrics) Write(ctx context.Context, dir string, events event.Sink) error {
	file, failed := filepath.Join(dir, Textfile), false
	tick := time.NewTicker(WriteEvery)
	defer tick.Stop()
	for {
		err := prometheus.WriteToTextfile(file, m.registry)
		switch {
		case err != nil && !failed:
			events.Emit(event.Event{Kind: event.MetricsFailed, Err: fmt.Errorf("write metrics to %s: %w", file, err)})
		case err == nil && failed:
			events.Emit(event.Event{Kind: event.MetricsMended, Attrs: event.Attrs("file", file)})
		}
		failed = err != nil
		select {
		case <-tick.C:
		case <-ctx.Done():
			os.Remove(file) // if it is not there, all is well
			return nil
		}
	}
}
