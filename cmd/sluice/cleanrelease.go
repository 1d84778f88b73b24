package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/clean"
	"sluice/sidecar/limit"
	"sluice/sidecar/operator"
	"sluice/sidecar/senders"
)

// What a release does.
const (
	verbRelease action.Verb = "release" // defers and failures of the author count no more against its domain
	verbReset   action.Verb = "reset"   // the domain starts at zero
)

// A releaseStep lets a domain send again that was refused for what the author has sent. The mail
// was sent, so that what it has used up of a limit stays used, but with reset.
type releaseStep struct {
	t     *terminal
	reset bool
}

// Name implements clean.Step.
func (s releaseStep) Name() string { return clean.Release }

// Plan implements clean.Step.
func (s releaseStep) Plan(_ context.Context, c clean.Case) (p clean.Plan, err error) {
	if c.Domain == "" {
		return clean.Plan{Nothing: "it is not known for whom it has sent"}, nil
	}
	d, err := s.t.usage(c.Domain)
	switch {
	case errors.Is(err, admin.ErrUnreachable):
		return clean.Plan{Nothing: "sluice does not run: its locks are as they are"}, nil
	case errors.Is(err, limit.ErrNotFound):
		return clean.Plan{Nothing: c.Domain + " is not refused"}, nil
	case err != nil:
		return p, err
	case s.reset:
		return clean.Plan{Final: true, Lines: []clean.Line{{Text: c.Domain + " starts at zero, with every lock removed", Command: sidecar.Command("sluice unlock", c.Domain)}}}, nil
	case d.trip:
		p.Lines = []clean.Line{{Text: fmt.Sprintf("what was deferred or failed of %s counts against it alone, and no more against %s", c.Author.Key, c.Domain)}}
	}
	for _, l := range d.byHand {
		p.Nothing = strings.TrimPrefix(fmt.Sprintf("%s; an operator's lock stays (%s): %s", p.Nothing, l, sidecar.Command("sluice unlock", c.Domain)), "; ")
	}
	if !d.frees.IsZero() {
		p.Nothing = strings.TrimPrefix(fmt.Sprintf("%s; what it may send in %s is used up until %s", p.Nothing, sidecar.Span(time.Hour), sidecar.DateTime(d.frees)), "; ")
	}
	p.Nothing = cmp.Or(p.Nothing, c.Domain+" is not refused")
	return p, nil
}

// A used is how a domain stands.
type used struct {
	trip   bool
	byHand []string
	frees  time.Time
}

// usage finds out how a domain stands.
func (t *terminal) usage(domain string) (u used, err error) {
	status, err := ask(t, "status "+domain, func(a *admin.Client) (operator.Status, error) { return a.Status(t.ctx, domain) })
	if err != nil {
		return u, err
	}
	for _, d := range status.Domains {
		u.trip = u.trip || d.Trip != nil
		if d.FreesAt != nil {
			u.frees = *d.FreesAt
		}
		for _, l := range d.Locks {
			if l.Owner == "operator" {
				u.byHand = append(u.byHand, string(l.Kind))
			}
		}
	}
	for _, d := range status.Scopes {
		u.trip = u.trip || d.Trip != nil
	}
	return u, nil
}

// releaseWait is how long a release waits for the end of a trip, which comes within moments.
const releaseWait = 5 * time.Second

// Do implements clean.Step.
func (s releaseStep) Do(ctx context.Context, c clean.Case, _ clean.Plan) (done clean.Done, err error) {
	a := action.Action{Verb: verbRelease, Whom: c.Domain, Incident: c.Incident, Part: c.Number}
	do := func(int) (any, error) { return s.leaveOut(c) }
	if done.Text = c.Domain + " may send again"; s.reset {
		a.Verb, do = verbReset, func(int) (any, error) { return nil, s.unlock(c.Domain) }
	}
	n, err := s.t.act(a, stopped{Scope: c.Author.Key}, do)
	if n > 0 {
		done.Actions = []int{n}
	}
	if err != nil || s.reset {
		return done, err
	}
	for end := time.Now().Add(releaseWait); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if u, err := s.t.usage(c.Domain); err == nil && !u.trip {
			return done, nil
		}
	}
	done.Text = c.Domain + " stays refused for now"
	done.Left = []string{"too much is deferred or fails of the others' mail, too: " + sidecar.Command("sluice who", c.Domain)}
	return done, nil
}

// leaveOut holds what went wrong against the author alone.
func (s releaseStep) leaveOut(c clean.Case) (made stopped, err error) {
	made = stopped{Scope: c.Author.Key}
	order := admin.StopRequest{Scope: c.Author.Key, Of: c.Domain, Sudo: os.Getenv("SUDO_USER")}
	st, err := ask(s.t, "release "+c.Domain, func(a *admin.Client) (admin.Stopped, error) { return a.Stop(s.t.ctx, order) })
	made.Mark = st.Mark
	return made, err
}

// unlock removes all locks of a domain, and has it start at zero.
func (s releaseStep) unlock(domain string) error {
	return s.t.askAdmin("release "+domain, func(a *admin.Client) error {
		_, err := a.Unlock(s.t.ctx, domain)
		return err
	})
}

// elsewhere says which other nodes the author has sent by: each cleans its own queue, logins and
// files.
func (t *terminal) elsewhere(c clean.Case, which string) (left []string) {
	if c.Domain == "" {
		return nil
	}
	who, err := ask(t, "who "+c.Domain, func(a *admin.Client) (senders.Who, error) { return a.WhoSends(t.ctx, c.Domain, 1) })
	if err != nil {
		return nil // what cannot be known is not left
	}
	for _, r := range who.Domains {
		for _, node := range r.Nodes {
			if command := cleanOn(node, which); node != who.Node && command != "" {
				left = append(left, fmt.Sprintf("the queue, logins and files of %s, which has sent too: %s", node, command))
			}
		}
	}
	return left
}

// cleanOn is the command that cleans up on another node; empty if it must not be printed. It is
// read by two shells: the one in which it is typed, and the one of ssh, which gets what the first
// has left of the quotes.
func cleanOn(node, which string) string {
	clean := sidecar.Command("sluice clean", which)
	if clean == "" || !isDomain(node) {
		return ""
	}
	return sidecar.Command("ssh", node, clean)
}
