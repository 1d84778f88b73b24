package admin

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"time"

	"sluice/sidecar/history"
	"sluice/sidecar/operator"
)

// change sets, unsets or rolls back limits. The backend logs and keeps who did.
func (s *Server) change(r *http.Request) (any, error) {
	var c ChangeRequest
	if err := readBody(r, &c); err != nil {
		return nil, fmt.Errorf("change thresholds: %w", badRequest{err})
	}
	// What has begun is finished even if the caller hangs up.
	result, err := s.opts.Backend.Change(context.WithoutCancel(r.Context()), time.Now(), history.Edit{
		Scope: c.Scope, Set: c.Set, Unset: c.Unset, Rollback: c.Rollback, For: c.For, Why: c.Why, Preview: c.Preview,
		Who: r.Context().Value(peerKey{}).(caller).onBehalfOf(c.Sudo),
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.describe(), err)
	}
	result.Effects = append([]operator.Effect{}, result.Effects...)
	return result, nil
}

// describe names a request in an error.
func (c *ChangeRequest) describe() string {
	switch {
	case c.Rollback != 0:
		return fmt.Sprintf("rollback %d", c.Rollback)
	case len(c.Set) > 0:
		return "set " + c.Scope
	}
	return "unset " + c.Scope
}

// onBehalfOf names who asks, with their own name if they became root for it.
func (p caller) onBehalfOf(sudo string) string {
	if p.uid == 0 && sudo != "" && sudo != p.name {
		return sudo + " (as " + p.name + ")"
	}
	return p.name
}

func (s *Server) history(r *http.Request) (any, error) {
	scope := r.URL.Query().Get("scope")
	all, err := s.opts.Backend.History(time.Now(), scope)
	if err != nil {
		return nil, fmt.Errorf("history of %s: %w", cmp.Or(scope, "all"), err)
	}
	return append([]history.Change{}, all...), nil
}

func (s *Server) explain(r *http.Request) (any, error) {
	scope := r.URL.Query().Get("scope")
	e, err := s.opts.Backend.Explain(time.Now(), scope)
	if err != nil {
		return nil, fmt.Errorf("explain %s: %w", scope, err)
	}
	return e, nil
}

func (s *Server) export(r *http.Request) (any, error) {
	query := r.URL.Query()
	all, err := s.opts.Backend.Export(time.Now(), query.Get("scope"), query.Get("left") == "true")
	if err != nil {
		return nil, fmt.Errorf("export: %w", err)
	}
	return append([]history.Saved{}, all...), nil
}

func (s *Server) importLines(r *http.Request) (any, error) {
	var lines Lines
	if err := readBody(r, &lines); err != nil {
		return nil, fmt.Errorf("import: %w", badRequest{err})
	}
	who := r.Context().Value(peerKey{}).(caller).onBehalfOf(lines.Sudo)
	imported, err := s.opts.Backend.Import(context.WithoutCancel(r.Context()), time.Now(), lines.Lines, who, lines.Preview)
	if err != nil {
		return nil, fmt.Errorf("nothing is changed: %w", err)
	}
	return imported, nil
}
