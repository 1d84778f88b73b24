package web

import (
	"context"
	"crypto/subtle"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"

	"sluice/sidecar/listen"
)

// These bound what a client of listen.metrics may take: on TCP any local user can connect.
const (
	maxConns   = 64
	maxScrapes = 4 // at once
	maxHeader  = 16 << 10
	readTime   = 5 * time.Second
	writeTime  = 30 * time.Second
	drainTime  = time.Second
)

// Handler answers /metrics, /healthz and /readyz. With tokens, who asks for more than whether it
// lives must have one of them.
func (m *Metrics) Handler(tokens ...string) http.Handler {
	mux := http.NewServeMux()
	metrics := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: maxScrapes, EnableOpenMetrics: true})
	mux.Handle("GET /metrics", onlyWith(tokens, metrics))
	mux.Handle("GET /readyz", onlyWith(tokens, http.HandlerFunc(m.serveReady)))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok\n") })
	return mux
}

func (m *Metrics) serveReady(w http.ResponseWriter, _ *http.Request) {
	now := time.Now()
	of := m.options.Measures(now)
	text, ready := readiness(m.parts(now, &of))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	if !ready {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	io.WriteString(w, text)
}

// onlyWith lets those pass who have one of the tokens; everybody where there is none.
func onlyWith(tokens []string, next http.Handler) http.Handler {
	if len(tokens) == 0 {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
		found := 0
		for _, t := range tokens { // all of them, in a time that reveals nothing
			found |= subtle.ConstantTimeCompare([]byte(given), []byte(t))
		}
		if found != 1 {
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "token missing or wrong: send one of listen.metrics_token_file, as Authorization: Bearer TOKEN", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// Serve answers on a listener until the context ends; see Handler. It closes the listener.
func (m *Metrics) Serve(ctx context.Context, l net.Listener, log *slog.Logger, tokens ...string) error {
	return listen.HTTP(ctx, netutil.LimitListener(l, maxConns), &http.Server{
		Handler: m.Handler(tokens...), ReadHeaderTimeout: readTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: time.Minute,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}, drainTime)
}
