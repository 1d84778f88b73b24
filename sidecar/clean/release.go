package clean

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
	"sluice/sidecar/senders"
	"sluice/sidecar/typed"
)

// A releaseStep lets a domain send again that was refused for what the author has sent. The mail
// was sent, so that what it has used up of a limit stays used, but with reset.
type releaseStep struct {
	host  *remedy.Host
	reset bool
}

// Name implements Step.
func (s releaseStep) Name() string { return Release }

// Plan implements Step.
func (s releaseStep) Plan(ctx context.Context, c Case) (p Plan, err error) {
	if c.Domain == "" {
		return Plan{Nothing: "it is not known for whom it has sent"}, nil
	}
	d, err := usage(ctx, s.host, c.Domain)
	switch {
	case errors.Is(err, admin.ErrUnreachable):
		return Plan{Nothing: "sluice does not run: its locks are as they are"}, nil
	case errors.Is(err, typed.ErrNotFound):
		return Plan{Nothing: c.Domain + " is not refused"}, nil
	case err != nil:
		return p, err
	case s.reset:
		return Plan{Final: true, Lines: []Line{{Text: c.Domain + " starts at zero, with every lock removed", Command: printable.Command("sluice unlock", c.Domain)}}}, nil
	case d.trip:
		p.Lines = []Line{{Text: fmt.Sprintf("what was deferred or failed of %s counts against it alone, and no more against %s", c.Author.Key, c.Domain)}}
	}
	for _, l := range d.byHand {
		p.Nothing = strings.TrimPrefix(fmt.Sprintf("%s; an operator's lock stays (%s): %s", p.Nothing, l, printable.Command("sluice unlock", c.Domain)), "; ")
	}
	if !d.frees.IsZero() {
		p.Nothing = strings.TrimPrefix(fmt.Sprintf("%s; what it may send in %s is used up until %s", p.Nothing, printable.Span(time.Hour), printable.DateTime(d.frees)), "; ")
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
func usage(ctx context.Context, h *remedy.Host, domain string) (u used, err error) {
	status, err := remedy.Ask(h, "status "+domain, func(a *admin.Client) (operator.Status, error) { return a.Status(ctx, domain) })
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

// Do implements Step.
func (s releaseStep) Do(ctx context.Context, c Case, _ Plan) (done Done, err error) {
	a := action.Action{Verb: remedy.VerbRelease, Whom: c.Domain, Incident: c.Incident, Part: c.Number}
	do := func(int) (any, error) { return s.leaveOut(ctx, c) }
	if done.Text = c.Domain + " may send again"; s.reset {
		a.Verb, do = remedy.VerbReset, func(int) (any, error) { return nil, s.unlock(ctx, c.Domain) }
	}
	n, err := s.host.Act(a, remedy.Stopped{Scope: c.Author.Key}, do)
	if n > 0 {
		done.Actions = []int{n}
	}
	if err != nil || s.reset {
		return done, err
	}
	for end := time.Now().Add(releaseWait); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
		if u, err := usage(ctx, s.host, c.Domain); err == nil && !u.trip {
			return done, nil
		}
	}
	done.Text = c.Domain + " stays refused for now"
	done.Left = []string{"too much is deferred or fails of the others' mail, too: " + printable.Command("sluice who", c.Domain)}
	return done, nil
}

// leaveOut holds what went wrong against the author alone.
func (s releaseStep) leaveOut(ctx context.Context, c Case) (made remedy.Stopped, err error) {
	made = remedy.Stopped{Scope: c.Author.Key}
	request := admin.StopRequest{Scope: c.Author.Key, Of: c.Domain, Sudo: os.Getenv("SUDO_USER")}
	st, err := remedy.Ask(s.host, "release "+c.Domain, func(a *admin.Client) (admin.Stopped, error) { return a.Stop(ctx, request) })
	made.Mark = st.Mark
	return made, err
}

// unlock removes all locks of a domain, and has it start at zero.
func (s releaseStep) unlock(ctx context.Context, domain string) error {
	return s.host.Ask("release "+domain, func(a *admin.Client) error {
		_, err := a.Unlock(ctx, domain)
		return err
	})
}

// Elsewhere says which other nodes the author has sent by, or may have: each cleans its own queue,
// logins and files.
func Elsewhere(ctx context.Context, h *remedy.Host, c Case, which string) (left []string) {
	say := func(nodes []string, why string) {
		for _, node := range nodes {
			if command := On(node, "sluice clean", which); command != "" {
				left = append(left, fmt.Sprintf("the queue, logins and files of %s, %s: %s", node, why, command))
			}
		}
	}
	sent, silent := OtherNodes(ctx, h, c.Domain)
	say(sent, "which has sent too")
	say(silent, "which may have sent too, for nothing is heard of it")
	return left
}

// OtherNodes are those that have sent for a domain, beside this one, and those of which nothing is
// heard; none where that is not known.
func OtherNodes(ctx context.Context, h *remedy.Host, domain string) (sent, silent []string) {
	if domain == "" {
		return nil, nil
	}
	who, err := remedy.Ask(h, "who "+domain, func(a *admin.Client) (senders.Who, error) { return a.WhoSends(ctx, domain, 1) })
	if err != nil {
		return nil, nil // what cannot be known is not left
	}
	add := func(all []string, node string) []string {
		if node == who.Node || !isDomain(node) || slices.Contains(all, node) || slices.Contains(sent, node) {
			return all
		}
		return append(all, node)
	}
	for _, r := range who.Domains {
		for _, node := range r.Nodes {
			sent = add(sent, node)
		}
	}
	for _, node := range who.Missing {
		silent = add(silent, node)
	}
	return sent, silent
}

// On is a command with a name, as it is typed for another node; empty if it must not be printed. It
// is read by two shells: the one in which it is typed, and the one of ssh, which gets what the first
// has left of the quotes.
func On(node, command, name string) string {
	typed := printable.Command(command, name)
	if typed == "" || !isDomain(node) {
		return ""
	}
	return printable.Command("ssh", node, typed)
}
