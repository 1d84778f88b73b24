package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/listen"
	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/operator"
	"sluice/sidecar/settings"
	"sluice/sidecar/web"
)

// newMetrics returns metrics of a node, which may be opened later.
func newMetrics(n *node) *web.Metrics {
	return web.New(web.Options{
		Measures: func(now time.Time) operator.Measures { return n.engine.Measures(now) },
		Settings: func() *settings.Settings { return n.engine.Settings.Load() },
		Notices: func() (all []web.Notices) {
			for _, c := range n.alerts.Counts() {
				all = append(all, web.Notices(c))
			}
			return all
		},
		Attributed: func(now time.Time, subject string) int64 { return n.engine.Who.Attributed(now, subject) },
		Queue:      n.queueStates,
		Version:    programVersion(), Top: int(n.config.Metrics.Top), Now: time.Now(),
	})
}

// metricsTokens are those of Prometheus.
func metricsTokens(c *config.Config) ([]string, error) {
	return listen.Tokens("listen.metrics_token_file", c.Listen.MetricsTokenFile)
}

// listenMetrics serves Prometheus, where the configuration says so. sockets are those that systemd
// has opened.
func (n *node) listenMetrics(sockets map[string]net.Listener, log *slog.Logger) (err error) {
	at, tokens := n.config.Listen.Metrics, []string(nil)
	l := sockets[at.Address()]
	switch {
	case at == "":
		return nil
	case at.Network() == "tcp":
		if tokens, err = metricsTokens(n.config); err == nil {
			err = onlyRootListens("listen.metrics", at.Address())
		}
		if err == nil && l == nil {
			l, err = net.Listen("tcp", at.Address())
			if err != nil {
				err = fmt.Errorf("listen for Prometheus: %w; under systemd it opens the port: systemctl enable sluice-metrics.socket; systemctl restart sluice", err)
			}
		}
	case l == nil:
		l, err = listenMetricsUnix(at.Address())
	}
	if err != nil {
		return err
	}
	f := front{socket: l, serve: func(ctx context.Context, l net.Listener) error { return n.metrics.Serve(ctx, l, log, tokens...) }}
	if at.Network() == "unix" {
		f.file = socketFile{at.Address(), func() (net.Listener, error) { return listenMetricsUnix(at.Address()) }}
	}
	n.fronts = append(n.fronts, f)
	return nil
}

// listenMetricsUnix makes a socket for its owner and its group. That is root's, unless its
// directory gives it another one (mode 2750).
func listenMetricsUnix(path string) (net.Listener, error) {
	if err := makeSocketDir(path); err != nil {
		return nil, err
	}
	return listen.Unix(path, func(path string) error { return os.Chmod(path, 0o660) })
}

// A countedLog counts the lines of a log.
type countedLog struct {
	mainlog.Consumer
	metrics *web.Metrics
	label   string
}

// Prepare implements mainlog.Consumer.
func (c countedLog) Prepare(entries []logline.Entry) func(ctx context.Context, now time.Time) {
	c.metrics.Read(c.label, entries)
	return c.Consumer.Prepare(entries)
}
