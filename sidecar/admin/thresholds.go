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

// order has the policy carry out an order. The policy logs and keeps who gave it.
func (s *Server) order(w http.ResponseWriter, r *http.Request) {
	var o Order
	if err := readBody(r, &o); err != nil {
		s.refuse(w, http.StatusBadRequest, fmt.Errorf("change thresholds: %w", err))
		return
	}
	// Begun is done: a caller who hangs up does not leave half of it.
	result, err := s.opts.Policy.Change(context.WithoutCancel(r.Context()), time.Now(), history.Edit{
		Scope: o.Scope, Set: o.Set, Unset: o.Unset, Rollback: o.Rollback, For: o.For, Why: o.Why, Preview: o.Preview,
		Who: r.Context().Value(peerKey{}).(caller).as(o.Sudo),
	})
	if err != nil {
		s.fail(w, fmt.Errorf("%s: %w", o.what(), err))
		return
	}
	result.Effects = append([]operator.Effect{}, result.Effects...)
	s.write(w, result)
}

// what names an order in an error.
func (o *Order) what() string {
	switch {
	case o.Rollback != 0:
		return fmt.Sprintf("rollback %d", o.Rollback)
	case len(o.Set) > 0:
		return "set " + o.Scope
	}
	return "unset " + o.Scope
}

// as is who gave an order, by their own name if they became root for it.
func (p caller) as(sudo string) string {
	if p.uid == 0 && sudo != "" && sudo != p.name {
		return sudo + " (as " + p.name + ")"
	}
	return p.name
}

func (s *Server) history(w http.ResponseWriter, r *http.Request) {
	scope := r.URL.Query().Get("scope")
	all, err := s.opts.Policy.History(time.Now(), scope)
	if err != nil {
		s.fail(w, fmt.Errorf("history of %s: %w", cmp.Or(scope, "all"), err))
		return
	}
	s.write(w, append([]history.Change{}, all...))
}

func (s *Server) explain(w http.ResponseWriter, r *http.Request) {
	scope := r.URL.Query().Get("scope")
	e, err := s.opts.Policy.Explain(time.Now(), scope)
	if err != nil {
		s.fail(w, fmt.Errorf("explain %s: %w", scope, err))
		return
	}
	s.write(w, e)
}

func (s *Server) export(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	all, err := s.opts.Policy.Export(time.Now(), query.Get("scope"), query.Get("left") == "true")
	if err != nil {
		s.fail(w, fmt.Errorf("export: %w", err))
		return
	}
	s.write(w, append([]history.Saved{}, all...))
}

func (s *Server) importLines(w http.ResponseWriter, r *http.Request) {
	var lines Lines
	if err := readBody(r, &lines); err != nil {
		s.refuse(w, http.StatusBadRequest, fmt.Errorf("import: %w", err))
		return
	}
	who := r.Context().Value(peerKey{}).(caller).as(lines.Sudo)
	done, err := s.opts.Policy.Import(context.WithoutCancel(r.Context()), time.Now(), lines.Lines, who, lines.Preview)
	if err != nil {
		s.fail(w, fmt.Errorf("nothing is changed: %w", err))
		return
	}
	s.write(w, done)
}
