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
	"strconv"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/alert"
	"sluice/sidecar/attribution"
	"sluice/sidecar/config"
	"sluice/sidecar/history"
	"sluice/sidecar/listen"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/queue"
	"sluice/sidecar/senders"
	"sluice/sidecar/typed"
)

// These bound what a client may send and how long it may take.
const (
	maxBody     = 64 << 10 // bytes
	maxImport   = 16 << 20 // bytes, for an import, and of usual hours
	maxHeader   = 16 << 10 // bytes
	readTime    = 5 * time.Second
	writeTime   = 30 * time.Second // a status of a million domains is long
	idleTime    = time.Minute
	drainPeriod = 5 * time.Second
)

// Options are what a Server needs.
type Options struct {
	Backend Backend
	Config  func() []config.Value // the configuration in force
	Version Version
	Queue   func(queue.Selection) (queue.Report, error) // Exim's queue; nil: there is none
	// Quarantine is what of it is in the quarantine; it returns nil where that is not known.
	Quarantine func() *queue.Aside
	Monitor    http.Handler // answers /metrics, /healthz and /readyz; nil: nobody does
	// AlertTest sends a test notice on a channel, or on all for "".
	AlertTest func(ctx context.Context, channel string) (alert.Tested, error)
	Allow     []int // uids that may ask, beside root and the server's own
	Log       *slog.Logger
}

// A Server answers operators.
type Server struct{ opts Options }

// New returns a server.
func New(o Options) *Server { return &Server{o} }

// Listen makes the admin socket, to which only its owner may connect.
func Listen(path string) (net.Listener, error) {
	return listen.Unix(path, func(path string) error { return os.Chmod(path, 0o600) })
}

// Serve answers on a unix socket until the context ends, then waits drainPeriod for
// questions that are being answered. It closes the listener.
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
	return listen.HTTP(ctx, l, &server, drainPeriod)
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	for pattern, answer := range map[string]func(*http.Request) (any, error){
		"GET /status":    s.status,
		"GET /who":       s.who,
		"GET /events":    s.events,
		"GET /incidents": s.incidents,
		"POST /learn":    s.learn,
		"POST /lock":     command("lock", s.opts.Backend.Lock),
		"POST /unlock":   command("unlock", s.unlock),
		"POST /stop":     s.stop,
		"POST /start":    s.start,
		"GET /stops":     s.stops,
		"POST /queue":    s.queue,
		"POST /reset":    command("reset", withoutWarning(s.opts.Backend.Reset)),
		"POST /change":   s.change,
		"GET /history":   s.history,
		"GET /explain":   s.explain,
		"GET /export":    s.export,
		"POST /import":   s.importLines,
		"GET /config":    func(*http.Request) (any, error) { return s.opts.Config(), nil },
		"POST /alert":    s.alertTest,
		"GET /version":   func(*http.Request) (any, error) { return s.opts.Version, nil },
	} {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			v, err := answer(r)
			if err != nil {
				s.refuse(w, statusOf(err), err)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			if err := json.NewEncoder(w).Encode(v); err != nil {
				s.opts.Log.Debug("admin answer not written", "err", err)
			}
		})
	}
	if s.opts.Monitor != nil {
		for _, path := range []string{"/metrics", "/healthz", "/readyz"} {
			mux.Handle("GET "+path, s.opts.Monitor)
		}
	}
	return s.onlyAllowed(mux)
}

// onlyAllowed refuses users that may not ask, and questions for whose answer nobody waits
// any more.
func (s *Server) onlyAllowed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, known := r.Context().Value(peerKey{}).(caller)
		if !known || (p.uid != 0 && int(p.uid) != os.Getuid() && !slices.Contains(s.opts.Allow, int(p.uid))) {
			s.refuse(w, http.StatusForbidden, fmt.Errorf("%s may not ask here, root may", p.name))
			return
		}
		if until, err := time.Parse(time.RFC3339Nano, r.Header.Get(untilHeader)); err == nil && time.Now().After(until) {
			// Its client has reported that nobody answers, so it must not be done now.
			s.refuse(w, http.StatusRequestTimeout, fmt.Errorf("%s comes too late: it was asked until %s", r.URL.Path, until.Format(time.TimeOnly)))
			return
		}
		longest := int64(maxBody)
		if r.URL.Path == "/import" || r.URL.Path == "/learn" {
			longest = maxImport
		}
		r.Body = http.MaxBytesReader(w, r.Body, longest)
		next.ServeHTTP(w, r)
	})
}

func (s *Server) status(r *http.Request) (any, error) {
	scope := r.URL.Query().Get("scope")
	if scope != "" {
		var err error
		if scope, err = operator.ShownScope(scope); err == nil && scope == sidecar.DefaultScope {
			_, err = countedScope(scope)
		}
		if err != nil {
			return nil, fmt.Errorf("status: %w", badRequest{err})
		}
	}
	status, err := s.opts.Backend.Status(r.Context(), time.Now(), scope)
	if err != nil {
		return nil, fmt.Errorf("status of %s: %w", cmp.Or(scope, "all domains"), err)
	}
	if s.opts.Quarantine != nil {
		status.Quarantine = (*operator.Quarantine)(s.opts.Quarantine())
	}
	return withLists(status), nil
}

// alertTest sends a test notice. A channel that hangs has longer than other commands.
func (s *Server) alertTest(r *http.Request) (any, error) {
	var q question
	if err := readBody(r, &q); err != nil {
		return nil, fmt.Errorf("alert test: %w", badRequest{err})
	}
	tested, err := s.opts.AlertTest(r.Context(), q.Channel)
	if errors.Is(err, alert.ErrNoChannel) {
		return nil, fmt.Errorf("alert test %s: %w; sluice config shows alert.to", printable.Of(q.Channel), badRequest{err})
	}
	return tested, err
}

// maxWho bounds the authors that an answer has.
const maxWho = 1000

func (s *Server) who(r *http.Request) (any, error) {
	scope := r.URL.Query().Get("scope")
	n, err := strconv.Atoi(r.URL.Query().Get("top"))
	switch {
	case err != nil || n < 1:
		return nil, fmt.Errorf("who: %w", badRequest{errors.New("top must be a number of authors, 1 at least")})
	case len(scope) > 400:
		return nil, fmt.Errorf("who: %w", badRequest{errors.New("the scope is too long")})
	case scope != "" && (!sidecar.IsAuthor(scope) || !strings.Contains(scope, ":")):
		if scope, err = countedScope(scope); err != nil {
			return nil, fmt.Errorf("who: %w", badRequest{err})
		}
	}
	who, err := s.opts.Backend.WhoSends(time.Now(), scope, min(n, maxWho))
	if err != nil {
		return nil, fmt.Errorf("who sends of %s: %w", printable.Of(cmp.Or(scope, "all domains")), err)
	}
	return who, nil
}

func (s *Server) learn(r *http.Request) (any, error) {
	var all map[string]attribution.Hours
	if err := readBody(r, &all); err != nil {
		return nil, fmt.Errorf("learn: %w", badRequest{err})
	}
	return s.opts.Backend.Learn(time.Now(), all), nil
}

// withLists makes missing lists empty ones: they are [] in JSON and not null.
func withLists(s operator.Status) operator.Status {
	s.Domains = append([]operator.DomainStatus{}, s.Domains...)
	s.Scopes = append([]operator.ScopeStatus{}, s.Scopes...)
	s.Stops = append([]operator.StopStatus{}, s.Stops...)
	for i := range s.Domains {
		d := &s.Domains[i]
		d.Locks, d.Windows = append([]operator.LockStatus{}, d.Locks...), append([]operator.Window{}, d.Windows...)
		d.Authors = append([]senders.Author{}, d.Authors...)
	}
	for i := range s.Scopes {
		s.Scopes[i].Windows = append([]operator.Window{}, s.Scopes[i].Windows...)
	}
	return s
}

// A targetFunc carries out a command for a domain or scope.
type targetFunc func(ctx context.Context, now time.Time, target, who string) (warning string, err error)

// withoutWarning adapts a command that never warns.
func withoutWarning(do func(ctx context.Context, now time.Time, target, who string) error) targetFunc {
	return func(ctx context.Context, now time.Time, target, who string) (string, error) {
		return "", do(ctx, now, target, who)
	}
}

// command answers by carrying out a command. The backend logs who gave it.
func command(verb string, do targetFunc) func(*http.Request) (any, error) {
	return func(r *http.Request) (any, error) {
		target, err := readTarget(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", verb, badRequest{err})
		}
		who := r.Context().Value(peerKey{}).(caller).name
		// What has begun is finished even if the caller hangs up.
		warning, err := do(context.WithoutCancel(r.Context()), time.Now(), target, who)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", verb, target, err)
		}
		return done{warning}, nil
	}
}

// readTarget reads the domain or scope of a command.
func readTarget(r *http.Request) (string, error) {
	var q question
	if err := readBody(r, &q); err != nil {
		return "", err
	}
	if r.URL.Path == "/reset" {
		return countedScope(q.Scope)
	}
	if _, err := countedScope(q.Domain); q.Domain == sidecar.DefaultScope {
		return "", err
	}
	return typed.Domain(q.Domain)
}

// readBody decodes a body, which has one JSON object.
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

// countedScope returns a scope in its canonical form. It fails for default, for which
// nothing is counted.
func countedScope(s string) (string, error) {
	scope, err := typed.Scope(s)
	if scope == sidecar.DefaultScope {
		return "", errors.New("default is a scope of limits and nothing is counted for it; name a domain, account:NAME or a mailbox")
	}
	return scope, err
}

// A badRequest is an error of whoever asks.
type badRequest struct{ error }

// statusOf is the HTTP status for an error.
func statusOf(err error) int {
	_, bad := errors.AsType[badRequest](err)
	switch {
	case bad:
		return http.StatusBadRequest
	case errors.Is(err, typed.ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, history.ErrNoEffect), errors.Is(err, operator.ErrBlockedByPanel):
		return http.StatusConflict
	}
	return http.StatusInternalServerError
}

func (s *Server) refuse(w http.ResponseWriter, code int, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	// If this cannot be written, nobody is left to read it.
	_ = json.NewEncoder(w).Encode(refusal{err.Error()})
}
