package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"sluice/sidecar/operator"
	"sluice/sidecar/stop"
)

// stop stops somebody. The backend logs and keeps who did.
func (s *Server) stop(r *http.Request) (any, error) {
	var q StopRequest
	if err := readBody(r, &q); err != nil {
		return nil, fmt.Errorf("stop: %w", badRequest{err})
	}
	request := stop.Request{Scope: q.Scope, For: q.For, Reject: q.Reject, Why: q.Why, Who: r.Context().Value(peerKey{}).(caller).onBehalfOf(q.Sudo)}
	// What has begun is finished even if the caller hangs up.
	ctx, now := context.WithoutCancel(r.Context()), time.Now()
	if q.Of != "" {
		st, err := s.opts.Backend.LeaveOut(ctx, now, q.Scope, q.Of, request.Who)
		if err != nil {
			return nil, fmt.Errorf("stop %s in place of %s: %w", q.Scope, q.Of, err)
		}
		return Stopped{st, ""}, nil
	}
	st, warning, err := s.opts.Backend.Stop(ctx, now, request)
	if err != nil {
		return nil, fmt.Errorf("stop %s: %w", q.Scope, err)
	}
	return Stopped{st, warning}, nil
}

// start ends the stops of somebody.
func (s *Server) start(r *http.Request) (any, error) {
	var q StopRequest
	if err := readBody(r, &q); err != nil {
		return nil, fmt.Errorf("start: %w", badRequest{err})
	}
	who := r.Context().Value(peerKey{}).(caller).onBehalfOf(q.Sudo)
	ctx, now := context.WithoutCancel(r.Context()), time.Now()
	warning, err := "", error(nil)
	if q.Mark != "" {
		warning, err = s.opts.Backend.EndStop(ctx, now, q.Scope, q.Mark, who)
	} else {
		warning, err = s.opts.Backend.Start(ctx, now, q.Scope, who, q.Release)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", q.Scope, err)
	}
	return done{warning}, nil
}

func (s *Server) stops(r *http.Request) (any, error) {
	scope := r.URL.Query().Get("scope")
	all, err := s.opts.Backend.Stops(time.Now(), scope)
	if err != nil {
		return nil, fmt.Errorf("stops of %s: %w", cmp.Or(scope, "all"), err)
	}
	return append([]operator.StopStatus{}, all...), nil
}

// unlock unlocks a domain, and warns of who of it stays stopped.
func (s *Server) unlock(ctx context.Context, now time.Time, domain, who string) (warning string, err error) {
	if err := s.opts.Backend.Unlock(ctx, now, domain, who); err != nil {
		return "", err
	}
	return s.opts.Backend.StayStopped(now, domain), nil
}

// Stop stops an author or an account.
func (c *Client) Stop(ctx context.Context, q StopRequest) (st Stopped, err error) {
	err = c.ask(ctx, http.MethodPost, "/stop", q, &st)
	return st, err
}

// Start ends the stops of an author or an account, and warns of what stays held.
func (c *Client) Start(ctx context.Context, q StopRequest) (warning string, err error) {
	var d done
	err = c.ask(ctx, http.MethodPost, "/start", q, &d)
	return d.Warning, err
}

// Stops returns the stops of one author or account, or of all for "".
func (c *Client) Stops(ctx context.Context, scope string) (all []operator.StopStatus, err error) {
	err = c.ask(ctx, http.MethodGet, "/stops?scope="+url.QueryEscape(scope), nil, &all)
	return all, err
}
