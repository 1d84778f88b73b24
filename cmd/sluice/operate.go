package main

import (
	"errors"
	"fmt"
	"path/filepath"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/printable"
	"sluice/sidecar/stop"
	"sluice/sidecar/typed"
)

type lockCmd struct {
	Domain string `arg:"" predictor:"scope" help:"The domain."`
	jsonFlag
}

// Help is the long help.
func (lockCmd) Help() string {
	return `Exim refuses the domain with 450 and holds what is queued, also while sluice is
stopped, until somebody runs unlock or removes the lock file.

Example:
  sluice lock example.com` + jsonHelp(done{}, "warning is of what may be a\ntypo, or is not done on all nodes yet.")
}

func (c lockCmd) Run(t *terminal) error {
	domain, err := lockable(c.Domain, "stop")
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	question := func(a *admin.Client) (done, error) {
		warning, err := a.Lock(t.ctx, domain)
		return done{"locked", domain, warning}, err
	}
	err = show(t, c.JSON, "lock "+domain, question, func(d done) {
		printf(t.stdout, "%s is locked until it is unlocked: sluice unlock %s\n", domain, domain)
		t.warn(d.Warning)
	})
	return t.byHand(err, "Until it runs Exim looks for files alone, and sluice finds them when it starts: touch", domain, lockfile.Hourly)
}

// byHand adds to an error that nobody answers what an operator's hand can do in the lock directory.
func (t *terminal) byHand(err error, command, domain string, kinds ...lockfile.Kind) error {
	if !errors.Is(err, admin.ErrUnreachable) {
		return err
	}
	c, bad := t.loadConfig()
	if bad != nil {
		return err
	}
	for _, kind := range kinds {
		command = printable.Command(command, filepath.Join(c.Locks.Dir, string(kind)+"_"+domain))
	}
	return fmt.Errorf("%w\n%s", err, command)
}

// lockable is a domain in its canonical form. It fails for other scopes: Exim looks for
// lock files of domains only. instead is the command that does the same for an author.
func lockable(scope, instead string) (string, error) {
	if scope == sidecar.DefaultScope {
		return "", errors.New("default is a scope of limits and no domain; `sluice set default mode=...` is for all")
	}
	if !sidecar.IsDomain(scope) {
		hint := ""
		if _, err := typed.Scope(scope); err == nil {
			hint = fmt.Sprintf("; `sluice reset %s` lets it start at zero", scope)
		}
		if author, err := stop.Canonical(scope); err == nil && sidecar.IsMailbox(author) {
			hint = fmt.Sprintf("; to %s one mailbox: `sluice %[1]s %s`%s", instead, author, hint)
		} else if err == nil {
			hint = fmt.Sprintf("; to %s it: `sluice %[1]s %s`%s", instead, author, hint)
		}
		return "", fmt.Errorf("%s is no domain, and only domains have locks%s", scope, hint)
	}
	return typed.Domain(scope)
}

type unlockCmd struct {
	Domain string `arg:"" predictor:"scope" help:"The domain."`
	jsonFlag
}

// Help is the long help.
func (unlockCmd) Help() string {
	return `Removes the lock files of the domain, also those made by hand, and lets the domain
and what its aliases redirect start at zero. What was held goes out at once; what
Exim held while sluice was stopped, with its next queue run. What the panel has stopped
stays so, and the exit code is 1. Who of the domain is stopped stays stopped.

Example:
  sluice unlock example.com` + jsonHelp(done{}, "warning names who stays stopped.")
}

func (c unlockCmd) Run(t *terminal) error {
	domain, err := lockable(c.Domain, "start")
	if err != nil {
		return fmt.Errorf("unlock: %w", err)
	}
	question := func(a *admin.Client) (done, error) {
		warning, err := a.Unlock(t.ctx, domain)
		return done{"unlocked", domain, warning}, err
	}
	err = show(t, c.JSON, "unlock "+domain, question, func(d done) {
		printf(t.stdout, "%s is unlocked and starts at zero\n", domain)
		t.warn(d.Warning)
	})
	return t.byHand(err, "Until it runs Exim looks for files alone, and sluice finds out when it starts that they are gone: rm -f", domain, lockfile.Hourly, lockfile.DeferFail)
}

type resetCmd struct {
	Scope string `arg:"" predictor:"scope" help:"example.com, account:bob, news@example.com or another that status shows."`
	jsonFlag
}

// Help is the long help.
func (resetCmd) Help() string {
	return `Sends, refusals and outcomes of the scope start at zero. For a domain, sluice's own
lock files go with them.

Examples:
  sluice reset example.com
  sluice reset account:bob
  sluice reset news@example.com` + jsonHelp(done{}, "")
}

func (c resetCmd) Run(t *terminal) error {
	scope, err := typed.Scope(c.Scope)
	if err != nil {
		return fmt.Errorf("reset: %w", err)
	}
	if scope == sidecar.DefaultScope {
		return fmt.Errorf("reset default: nothing is counted under default, it only holds limits; " +
			"name a domain, account:NAME or a mailbox")
	}
	question := func(a *admin.Client) (done, error) { return done{"reset", scope, ""}, a.Reset(t.ctx, scope) }
	return show(t, c.JSON, "reset "+scope, question, func(done) { printf(t.stdout, "%s starts at zero\n", scope) })
}

// done is the result of a command for --json.
type done struct {
	Done    string `json:"done"` // locked, unlocked, reset, stopped, started
	Scope   string `json:"scope"`
	Warning string `json:"warning"` // what may not be as it was meant: a typo, nodes that do not know yet; else empty
}

// warn warns that what was done may not be what was meant.
func (t *terminal) warn(text string) {
	if text != "" {
		fmt.Fprintf(t.stderr, "sluice: warning: %s\n", printable.Lines(text))
	}
}
