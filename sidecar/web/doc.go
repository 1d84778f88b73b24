// Package web is the front for monitoring: metrics for Prometheus, and whether the node lives
// and is ready. It owns the counters that only metrics show, and what the last look at all
// subjects has found. It asks operator for the rest when somebody scrapes. It tells whoever
// asks on the admin socket or on listen.metrics, and writes a file for node_exporter.
package web
