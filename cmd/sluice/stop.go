package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/lockfile"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
	"sluice/sidecar/stop"
	"sluice/sidecar/typed"
)

type stopCmd struct {
	Scope  string `arg:"" predictor:"scope" help:"news@example.com, account:bob, login:bob or another author; example.com is locked."`
	For    string `placeholder:"TIME" help:"After it, the author may send again: 90m, 24h, 7d."`
	Why    string `placeholder:"TEXT" help:"Kept in the history, and in the log."`
	Reject bool   `help:"Refuse with 550 for good, not with 450."`
	jsonFlag
}

// Help is the long help.
func (stopCmd) Help() string {
	return `Nothing of this author goes from the next question on, on every node and in every
connection; the others of its domain go on. Clients get 450, what sendmail takes and
what is queued is held, and nothing is bounced until Exim gives up on what it holds.
Who may be stopped:
  news@example.com                 who logs in with this id
  account:bob                      all that pays from the account, or belongs to it
  login:bob                        a login's programs, and its AUTH without a domain
  script:/home/bob/public_html     what runs sendmail in this directory
  forward:info@example.com         what this address redirects from elsewhere
  client:192.0.2.1                 a host that may relay; for IPv6 its /64
  service:www-data, loopback       all of a web server's, or of containers: that is everybody
Mailboxes and logins stay stopped while sluice does not run, by a file in the directory
"stopped" of the lock directory; this command makes it where nobody answers. To touch such
a file is to stop, to remove it to start.

Examples:
  sluice stop hacked@example.com --why "stolen password, ticket 4711"
  sluice stop login:bob --for 24h` + jsonHelp(admin.Stopped{}, "warning is of what the stop does not do.")
}

func (c stopCmd) Run(t *terminal) error {
	if sidecar.IsDomain(c.Scope) && c.Scope != sidecar.DefaultScope {
		return c.lock(t)
	}
	scope, err := stop.Canonical(c.Scope)
	if err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	lasts, err := parseTime("--for", c.For)
	if err != nil {
		return fmt.Errorf("stop %s: %w", scope, err)
	}
	q := admin.StopRequest{Scope: scope, For: lasts, Why: c.Why, Reject: c.Reject, Sudo: os.Getenv("SUDO_USER")}
	question := func(a *admin.Client) (admin.Stopped, error) { return a.Stop(t.ctx, q) }
	st, err := ask(t, "stop "+scope, question)
	switch {
	case errors.Is(err, admin.ErrUnreachable):
		return c.byFile(t, scope, err)
	case err != nil:
		return err
	case c.JSON:
		return printJSON(t.stdout, st)
	}
	printf(t.stdout, "%s is stopped%s; to start it: %s\n", st.Scope, until(st.Until), stop.StartCommand(st.Scope))
	t.warn(st.Warning)
	return nil
}

// lock locks a domain, which is what stops all of it.
func (c stopCmd) lock(t *terminal) error {
	if _, err := typed.Domain(c.Scope); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	if c.For != "" || c.Why != "" || c.Reject {
		return fmt.Errorf("stop %s: a domain is locked, until it is unlocked, and has no --for, --why and --reject: sluice lock %s", c.Scope, c.Scope)
	}
	return lockCmd{c.Scope, c.jsonFlag}.Run(t)
}

// byFile stops an author by its file, which Exim looks for while nobody answers, and which
// serve takes for an operator's stop when it runs again.
func (c stopCmd) byFile(t *terminal, scope string, unreached error) error {
	if !lockfile.StopFile(scope) {
		return fmt.Errorf("%w\n%s can be stopped only while sluice runs: no file can have its name", unreached, scope)
	}
	if c.For != "" || c.Reject {
		return fmt.Errorf("%w\nA stop by its file lasts until it is removed, and refuses with 450: leave out --for and --reject", unreached)
	}
	path, err := t.host().StopFile(scope)
	if err == nil {
		err = remedy.MakeStopFile(path, c.Why)
	}
	if err != nil {
		return fmt.Errorf("stop %s by its file, for sluice does not run: %w", scope, err)
	}
	warning := fmt.Sprintf("sluice does not run on this host: only Exim's lock files speak, here by %s; other nodes are told when sluice runs again", path)
	if c.JSON {
		return printJSON(t.stdout, admin.Stopped{StopStatus: operator.StopStatus{Stop: stop.Stop{Scope: scope, Cause: stop.Operator}, State: "in force"}, Warning: warning})
	}
	printf(t.stdout, "%s is stopped; to start it: %s\n", scope, stop.StartCommand(scope))
	t.warn(warning)
	return nil
}

type startCmd struct {
	Scope   string `arg:"" predictor:"scope" help:"As it was stopped."`
	Release bool   `help:"Also deliver what the stop has held and is older than an hour."`
	jsonFlag
}

// Help is the long help.
func (startCmd) Help() string {
	return `The author may send again, on all nodes. What its stop has held goes out at once, as far
as the limits let it, but for messages over an hour old: they wait for --release, for what a
thief has left is better looked at first. A stop that expires leaves them too.

Examples:
  sluice start hacked@example.com
  sluice start hacked@example.com --release` + jsonHelp(done{}, "warning tells how much stays held.")
}

func (c startCmd) Run(t *terminal) error {
	if sidecar.IsDomain(c.Scope) && c.Scope != sidecar.DefaultScope {
		domain, err := typed.Domain(c.Scope)
		if err != nil {
			return fmt.Errorf("start: %w", err)
		}
		return fmt.Errorf("start %s: a domain is locked, not stopped: sluice unlock %[1]s", domain)
	}
	scope, err := stop.Canonical(c.Scope)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	question := func(a *admin.Client) (done, error) {
		warning, err := a.Start(t.ctx, admin.StopRequest{Scope: scope, Release: c.Release, Sudo: os.Getenv("SUDO_USER")})
		return done{"started", scope, warning}, err
	}
	d, err := ask(t, "start "+scope, question)
	if errors.Is(err, admin.ErrUnreachable) && lockfile.StopFile(scope) {
		d, err = done{"started", scope, "sluice does not run: only its file is removed; what was held goes with a queue run of Exim"}, t.removeStopFile(scope)
	}
	switch {
	case err != nil:
		return err
	case c.JSON:
		return printJSON(t.stdout, d)
	}
	printf(t.stdout, "%s may send again\n", scope)
	t.warn(d.Warning)
	return nil
}

// removeStopFile starts an author while sluice does not run.
func (t *terminal) removeStopFile(scope string) error {
	path, err := t.host().StopFile(scope)
	if err == nil {
		err = os.Remove(path)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return no{fmt.Errorf("start %s: sluice does not run, and there is no %s: it is not stopped here", scope, path)}
	}
	if err != nil {
		return fmt.Errorf("start %s by its file, for sluice does not run: %w", scope, err)
	}
	return nil
}

// printStops prints who is stopped.
func printStops(w io.Writer, stops []operator.StopStatus) {
	for _, st := range stops {
		held := ""
		if st.Held > 0 {
			held = fmt.Sprintf("; %s held", printable.Count(int64(st.Held), "recipient", "recipients"))
		}
		printf(w, "STOPPED: %s, %s%s; %s\n", st.Scope, st.Origin(), held, stop.StartCommand(st.Scope))
	}
}
