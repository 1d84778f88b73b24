package admin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/operator"
)

// Bounds on what a client may send and on how long it may take.
const (
	maxBody     = 64 << 10 // bytes
	maxImport   = 16 << 20 // bytes, of what is imported
	maxHeader   = 16 << 10 // bytes
	readTime    = 5 * time.Second
	writeTime   = 30 * time.Second // a status of a million domains is long
	idleTime    = time.Minute
	drainPeriod = 5 * time.Second
)

// Options are what a Server needs.
type Options struct {
	Policy  Policy
	Config  func() []config.Value // the configuration in force
	Version Version
	Allow   []int // uids that may ask, beside root and the server's own
	Log     *slog.Logger
}

// A Server answers operators.
type Server struct{ opts Options }

// New returns a server.
func New(o Options) *Server { return &Server{o} }

// Serve answers on a unix socket until the context ends, then gives questions
// in flight a few seconds. It closes the listener.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	server := http.Server{
		Handler:           s.handler(),
		ConnContext:       withPeer,
		ReadHeaderTimeout: readTime,
		ReadTimeout:       readTime,
		WriteTimeout:      writeTime,
		IdleTimeout:       idleTime,
		MaxHeaderBytes:    maxHeader,
		ErrorLog:          slog.NewLogLogger(s.opts.Log.Handler(), slog.LevelWarn),
	}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(l) }()
	select {
	case err := <-stopped:
		server.Close()
		return fmt.Errorf("serve admin socket %s: %w", l.Addr(), err)
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), drainPeriod)
	defer cancel()
	err := server.Shutdown(drain)
	if errors.Is(err, context.DeadlineExceeded) {
		err = server.Close()
	}
	<-stopped
	return err
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", s.status)
	mux.HandleFunc("POST /lock", s.change("lock", s.opts.Policy.Lock))
	mux.HandleFunc("POST /unlock", s.change("unlock", silent(s.opts.Policy.Unlock)))
	mux.HandleFunc("POST /reset", s.change("reset", silent(s.opts.Policy.Reset)))
	mux.HandleFunc("POST /change", s.order)
	mux.HandleFunc("GET /history", s.history)
	mux.HandleFunc("GET /explain", s.explain)
	mux.HandleFunc("GET /export", s.export)
	mux.HandleFunc("POST /import", s.importLines)
	mux.HandleFunc("GET /config", func(w http.ResponseWriter, _ *http.Request) { s.write(w, s.opts.Config()) })
	mux.HandleFunc("GET /version", func(w http.ResponseWriter, _ *http.Request) { s.write(w, s.opts.Version) })
	return s.onlyAllowed(mux)
}

func (s *Server) onlyAllowed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, known := r.Context().Value(peerKey{}).(caller)
		if !known || (p.uid != 0 && int(p.uid) != os.Getuid() && !slices.Contains(s.opts.Allow, int(p.uid))) {
			s.refuse(w, http.StatusForbidden, fmt.Errorf("%s may not ask here, root may", p.name))
			return
		}
		if until, err := time.Parse(time.RFC3339Nano, r.Header.Get(untilHeader)); err == nil && time.Now().After(until) {
			// Whoever was told that nobody answers must not find it done later.
			s.refuse(w, http.StatusRequestTimeout, fmt.Errorf("%s comes too late: it was asked until %s", r.URL.Path, until.Format(time.TimeOnly)))
			return
		}
		longest := int64(maxBody)
		if r.URL.Path == "/import" {
			longest = maxImport
		}
		r.Body = http.MaxBytesReader(w, r.Body, longest)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	scope := r.URL.Query().Get("scope")
	if scope != "" {
		var err error
		if scope, err = countedScope(scope); err != nil {
			s.refuse(w, http.StatusBadRequest, fmt.Errorf("status: %w", err))
			return
		}
	}
	status, err := s.opts.Policy.Status(r.Context(), time.Now(), scope)
	if err != nil {
		s.fail(w, fmt.Errorf("status of %s: %w", cmp.Or(scope, "all domains"), err))
		return
	}
	s.write(w, withLists(status))
}

// withLists has [] where there is nothing: programs want lists to be lists.
func withLists(s operator.Status) operator.Status {
	s.Domains = append([]operator.DomainStatus{}, s.Domains...)
	s.Scopes = append([]operator.ScopeStatus{}, s.Scopes...)
	for i := range s.Domains {
		d := &s.Domains[i]
		d.Locks, d.Windows = append([]operator.LockStatus{}, d.Locks...), append([]operator.Window{}, d.Windows...)
	}
	for i := range s.Scopes {
		s.Scopes[i].Windows = append([]operator.Window{}, s.Scopes[i].Windows...)
	}
	return s
}

// A command of the policy on a domain or scope.
type command func(ctx context.Context, now time.Time, target, who string) (warning string, err error)

// silent is a command that warns of nothing.
func silent(do func(ctx context.Context, now time.Time, target, who string) error) command {
	return func(ctx context.Context, now time.Time, target, who string) (string, error) {
		return "", do(ctx, now, target, who)
	}
}

// change carries out a command. The policy logs who gave it.
func (s *Server) change(verb string, do command) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		target, err := readTarget(r)
		if err != nil {
			s.refuse(w, http.StatusBadRequest, fmt.Errorf("%s: %w", verb, err))
			return
		}
		who := r.Context().Value(peerKey{}).(caller).name
		// Begun is done: a caller who hangs up does not leave half of it.
		ctx := context.WithoutCancel(r.Context())
		warning, err := do(ctx, time.Now(), target, who)
		if err != nil {
			s.fail(w, fmt.Errorf("%s %s: %w", verb, target, err))
			return
		}
		s.write(w, done{warning})
	}
}

// readTarget reads the one domain or scope of a command.
func readTarget(r *http.Request) (string, error) {
	var q question
	if err := readBody(r, &q); err != nil {
		return "", err
	}
	if r.URL.Path == "/reset" {
		return countedScope(q.Scope)
	}
	if _, err := countedScope(q.Domain); q.Domain == "default" {
		return "", err
	}
	return limit.CanonicalDomain(q.Domain)
}

// readBody reads the one question that a body has.
func readBody(r *http.Request, q any) error {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(q); err != nil {
		return fmt.Errorf("read the question: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("more than one question")
	}
	return nil
}

// countedScope is a scope in its canonical form, if it is one that is counted.
func countedScope(s string) (string, error) {
	scope, err := limit.CanonicalScope(s)
	if scope == "default" {
		return "", errors.New("default is a scope of limits and nothing is counted for it; name a domain, account:NAME or a mailbox")
	}
	return scope, err
}

func (s *Server) write(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	if err := json.NewEncoder(w).Encode(v); err != nil {
		s.opts.Log.Debug("admin answer not written", "err", err)
	}
}

// fail words an error of the policy.
func (s *Server) fail(w http.ResponseWriter, err error) {
	code := http.StatusInternalServerError
	switch {
	case errors.Is(err, limit.ErrNotFound):
		code = http.StatusNotFound
	case errors.Is(err, history.ErrNoEffect), errors.Is(err, operator.ErrStopped):
		code = http.StatusConflict
	}
	s.refuse(w, code, err)
}

func (s *Server) refuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// What cannot be written has nobody left to read it.
	_ = json.NewEncoder(w).Encode(refusal{err.Error()})
}
