package admin

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"sluice/sidecar/incident"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
)

// longestScope bounds a scope, or the number of an incident, in bytes.
const longestScope = 400

func (s *Server) events(r *http.Request) (any, error) {
	q := r.URL.Query()
	within, err := time.ParseDuration(q.Get("within"))
	switch {
	case err != nil || within <= 0:
		return nil, fmt.Errorf("events: %w", badRequest{errors.New("since when is a time like 90m, 24h or 7d")})
	case len(q.Get("scope")) > longestScope:
		return nil, fmt.Errorf("events: %w", badRequest{errors.New("the scope is too long")})
	}
	now := time.Now()
	past, err := s.opts.Backend.Happened(now, now.Add(-within), q.Get("scope"))
	if err != nil {
		return nil, fmt.Errorf("events: %w", badRequest{err})
	}
	return past, nil
}

func (s *Server) incidents(r *http.Request) (any, error) {
	scope := r.URL.Query().Get("scope")
	if len(scope) > longestScope {
		return nil, fmt.Errorf("incident: %w", badRequest{errors.New("the number or name is too long")})
	}
	all, err := s.opts.Backend.Incidents(scope)
	if err != nil {
		return nil, fmt.Errorf("incident %s: %w", printable.Of(cmp.Or(scope, "of all")), err)
	}
	return all, nil
}

// Happened returns what has happened within a time to a scope, or to all for "".
func (c *Client) Happened(ctx context.Context, scope string, within time.Duration) (p operator.Past, err error) {
	err = c.ask(ctx, http.MethodGet, fmt.Sprintf("/events?scope=%s&within=%s", url.QueryEscape(scope), within), nil, &p)
	return p, err
}

// Incidents returns the incidents of a number or domain, or all for "", the last first.
func (c *Client) Incidents(ctx context.Context, scope string) (all []incident.Incident, err error) {
	err = c.ask(ctx, http.MethodGet, "/incidents?scope="+url.QueryEscape(scope), nil, &all)
	return all, err
}
