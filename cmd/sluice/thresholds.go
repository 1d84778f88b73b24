package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/live"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
	"sluice/sidecar/stop"
	"sluice/sidecar/typed"
)

type setCmd struct {
	Scope   string   `arg:"" predictor:"scope" optional:"" help:"default, example.com, account:bob or news@example.com."`
	Set     []string `arg:"" optional:"" name:"key=value" help:"What to set; the keys are above."`
	For     string   `placeholder:"TIME" help:"After it, what was in force before is again: 90m, 24h, 7d."`
	Why     string   `placeholder:"TEXT" help:"Kept in the history."`
	Preview bool     `help:"Only show who would be refused or released at once."`
	Import  string   `placeholder:"FILE" help:"Set what history --export has printed; - is standard input."`
	jsonFlag
}

// Help is the long help.
func (setCmd) Help() string {
	return `Takes effect on the next question, on every node; what was counted stays. The keys are
those under [limits] in the configuration file. A new daily limit counts what was sent in
the last hour and from now on; what was sent before is not known.
  hourly, daily                      recipients, or unlimited; for the scope itself, and
                                     those of default for each domain
  deferfail_percent, deferfail_min   what locks a domain; 0 percent never does
  deferfail_ignore                   causes, like greylist,dns
  defer_cutoff                       percent of the limit from which 450 becomes 550
  mode                               enforce, or watch: count what would be refused, and let it pass
  over_limit                         cutoff, defer, reject or discard
  culprit, others_share              stop: who sends more than its usual hour leaves room for
                                     the others of its domain, at most that percentage of
                                     the hourly limit; or name, or off
  spike                              watch: tell of who sends three times as much in an hour
                                     as in any of 35 days; or off
  expected                           sends in an hour of an author that are no spike; also for
                                     script:DIRECTORY and login:NAME; see sluice expect
  exempt                             true: nobody is charged
Beside domains there are scopes for what pays in a domain's place: system (root), loopback,
service:LOGIN, relay:ADDRESS, forward:DOMAIN and web:ACCOUNT.
--import sets what a file has, all of it or nothing, each line as a change of its own:
  {"scope": "example.com", "set": ["hourly=2000"], "until": "2026-12-24T18:00:00Z", "why": "sale"}

Examples:
  sluice set example.com hourly=2000 --for 24h --why "spring sale, ticket 4711"
  sluice set default hourly=300 --preview
  sluice set news@example.com hourly=50 over_limit=reject
  sluice set --import values.jsonl --preview` +
		jsonHelp(operator.Result{}, "from and to are null where nothing is set; effects are whom it refuses or releases at once.") +
		jsonHelp(operator.Import{}, "That of --import:")
}

func (c setCmd) Run(t *terminal) error {
	switch {
	case c.Import != "":
		return c.importFile(t)
	case len(c.Set) == 0: // a request with nothing to set would unset everything
		return errors.New("set: name a scope and what to set for it, like example.com hourly=300, or --import FILE")
	}
	lasts, err := parseTime("--for", c.For)
	if err != nil {
		return fmt.Errorf("set %s: %w", c.Scope, err)
	}
	return t.change("set "+c.Scope, admin.ChangeRequest{Scope: c.Scope, Set: c.Set, For: lasts, Why: c.Why, Preview: c.Preview}, c.JSON)
}

// parseTime parses the duration that a flag was given as time.ParseDuration does, and days.
func parseTime(flag, text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if number, ok := strings.CutSuffix(text, "d"); ok {
		days, bad := strconv.ParseUint(number, 10, 16)
		d, err = time.Duration(days)*24*time.Hour, bad
	}
	if err != nil || d < time.Second || d > live.LongestChange {
		return 0, fmt.Errorf("%s is %q, it must be a time from 1s to %dd, like 90m, 24h or 7d", flag, text, live.LongestChange/(24*time.Hour))
	}
	return d, nil
}

type unsetCmd struct {
	Scope   string   `arg:"" predictor:"scope" help:"As it was set."`
	Keys    []string `arg:"" optional:"" help:"Only these keys."`
	Why     string   `placeholder:"TEXT" help:"Kept in the history."`
	Preview bool     `help:"Only show who would be refused or released at once."`
	jsonFlag
}

// Help is the long help.
func (unsetCmd) Help() string {
	return `Leaves the limits to the configuration file and the panel again.

Examples:
  sluice unset example.com
  sluice unset example.com hourly` + jsonHelp(operator.Result{}, "")
}

func (c unsetCmd) Run(t *terminal) error {
	return t.change("unset "+c.Scope, admin.ChangeRequest{Scope: c.Scope, Unset: c.Keys, Why: c.Why, Preview: c.Preview}, c.JSON)
}

type rollbackCmd struct {
	Number  int64  `arg:"" help:"Of the change, as history shows it."`
	Why     string `placeholder:"TEXT" help:"Kept in the history."`
	Preview bool   `help:"Only show who would be refused or released at once."`
	jsonFlag
}

// Help is the long help.
func (rollbackCmd) Help() string {
	return `What was in force before the change is again. A rollback is a change too, and can be
rolled back.

Example:
  sluice rollback 12` + jsonHelp(operator.Result{}, "")
}

func (c rollbackCmd) Run(t *terminal) error {
	if c.Number < 1 {
		return errors.New("rollback: changes are numbered from 1; see sluice history")
	}
	return t.change(fmt.Sprintf("rollback %d", c.Number), admin.ChangeRequest{Rollback: c.Number, Why: c.Why, Preview: c.Preview}, c.JSON)
}

// change asks for a change and prints what it did.
func (t *terminal) change(what string, r admin.ChangeRequest, asJSON bool) error {
	r.Sudo = os.Getenv("SUDO_USER")
	question := func(a *admin.Client) (operator.Result, error) { return a.Change(t.ctx, r) }
	return show(t, asJSON, what, question, func(result operator.Result) {
		t.printChange(result.Change, r.Preview)
		printEffects(t.stdout, result.Effects, r.Preview)
		t.warn(result.Warning)
	})
}

// printChange prints what was changed, or with preview would be.
func (t *terminal) printChange(c history.Change, preview bool) {
	rest := fmt.Sprintf("to take it back: sluice rollback %d", c.Number)
	if preview {
		rest = "nothing is changed yet"
	}
	printf(t.stdout, "%s: %s%s; %s\n", c.Scope, c.Describe(), until(c.Until), rest)
}

func until(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return ", until " + printable.DateTime(at)
}

func printEffects(w io.Writer, effects []operator.Effect, preview bool) {
	would := "is"
	if preview {
		would = "would be"
	}
	for _, e := range effects {
		what := "released"
		if e.Refused {
			what = "refused"
		}
		printf(w, "  %s %s %s at once: %s\n", e.Scope, would, what, e.Text)
	}
	if len(effects) == 0 {
		printf(w, "  nobody %s refused or released at once\n", would)
	}
}

type historyCmd struct {
	Scope  string `arg:"" predictor:"scope" optional:"" help:"Only default, example.com, account:bob or news@example.com."`
	Export bool   `help:"Print what is set now so that set --import can read it."`
	Left   bool   `help:"With --export: what was set before store.url was another one, and stayed behind."`
	jsonFlag
}

// Help is the long help.
func (historyCmd) Help() string {
	return `The last change comes first. At least the last thousand are kept, and all that are
in force. Stops, which have no number, are kept for 35 days after their end. Who made one or
ended it is a login, "a hand (its file)" where its file was made or removed, or sluice itself.
--export prints those that have an effect, now or when something that was set for a time
has ended, one line of JSON each.

Examples:
  sluice history
  sluice history --export > values.jsonl
  sluice history example.com --json` +
		jsonHelp(changes{}, "state is in force, expired, replaced or rolled back; of a stop in force, expired or ended.")
}

// changes are what history prints with --json.
type changes struct {
	Changes []history.Change      `json:"changes"`
	Stops   []operator.StopStatus `json:"stops"`
}

// stopRow is a stop as history shows it.
func stopRow(st operator.StopStatus) []printable.Text {
	what, state := "stopped", st.State
	switch {
	case st.Cause == stop.Deferfail:
		what = "stopped for defers and failures of " + st.Of
	case st.Reject:
		what = "stopped, with 550"
	}
	if state == "ended" {
		state = "started " + st.Ending()
	}
	return cells("-", printable.DateTime(st.Since), st.Who, st.Node, st.Scope, what, clockOr(st.Until), state, st.Why)
}

func (c historyCmd) Run(t *terminal) error {
	switch {
	case c.Export:
		return c.export(t)
	case c.Left:
		return errors.New("history: --left goes with --export")
	}
	question := func(a *admin.Client) (all changes, err error) {
		all.Changes = []history.Change{}
		if all.Stops, err = a.Stops(t.ctx, c.Scope); err == nil && !onlyAuthor(c.Scope) {
			all.Changes, err = a.History(t.ctx, c.Scope)
		}
		return all, err
	}
	return show(t, c.JSON, "history", question, func(all changes) { c.print(t.stdout, all) })
}

// onlyAuthor reports whether a scope is that of an author for which nothing can be set.
func onlyAuthor(scope string) bool {
	_, none := typed.Settable(scope)
	_, err := stop.Canonical(scope)
	return scope != "" && none != nil && err == nil
}

func (c historyCmd) print(w io.Writer, all changes) {
	if len(all.Changes)+len(all.Stops) == 0 {
		of := ""
		if c.Scope != "" {
			of = " of " + c.Scope
		}
		printf(w, "nobody has changed anything%s by sluice set\n", of)
		return
	}
	rows := [][]printable.Text{cells("NO", "WHEN", "WHO", "NODE", "SCOPE", "WHAT", "UNTIL", "STATE", "WHY")}
	stops := all.Stops
	stopsSince := func(at time.Time) {
		for len(stops) > 0 && stops[0].Since.After(at) {
			rows = append(rows, stopRow(stops[0]))
			stops = stops[1:]
		}
	}
	for _, c := range all.Changes {
		stopsSince(c.At)
		rows = append(rows, cells(c.Number, printable.DateTime(c.At), c.Who, c.Node, c.Scope, c.Describe(), clockOr(c.Until), c.State, c.Why))
	}
	stopsSince(time.Time{})
	printTable(w, "rllllllll", rows)
}

type explainCmd struct {
	Scope string `arg:"" predictor:"scope" help:"example.com, news@example.com, account:bob or default."`
	jsonFlag
}

// Help is the long help.
func (explainCmd) Help() string {
	return `A send needs room in every limit shown. Of the other keys the most specific scope
decides: mailbox, domain, account, default. Within a scope sluice set wins over the panel,
that over the configuration file, and that over what is built in.
COUNTED SINCE is from when on the counts are complete. A domain's hour is counted from its
first send; mailboxes, accounts and days only from when a limit first named them, a day
with the hour before that.

Examples:
  sluice explain example.com
  sluice explain news@example.com --json` +
		jsonHelp(operator.Explanation{}, "of is whom the value is for, set_in the scope that has it.")
}

func (c explainCmd) Run(t *terminal) error {
	question := func(a *admin.Client) (operator.Explanation, error) { return a.Explain(t.ctx, c.Scope) }
	return show(t, c.JSON, "explain "+c.Scope, question, func(e operator.Explanation) {
		printExplanation(t.stdout, e)
		t.warn(e.Warning)
	})
}

func printExplanation(w io.Writer, e operator.Explanation) {
	owner := ""
	if e.Account != "" && e.Scope != "account:"+e.Account {
		owner = ", of account " + e.Account
	}
	printf(w, "%s on %s%s\n", e.Scope, e.Node, owner)
	d := detail{w}
	d.mode(e.Mode)
	d.stopped(e.Stopped)
	printStops(w, e.Stops)
	if s := e.Share; s != nil {
		who := e.Scope
		if !sidecar.IsMailbox(who) {
			who = "an author that is new today"
		}
		printf(w, "  of %d sends an hour, %s leaves %d to what the others usually still send, beyond its next %d\n", s.Of, who, s.Others, s.Free)
	}
	if len(e.Values) == 0 {
		return // an author that has no limits of its own
	}
	rows := [][]printable.Text{cells("KEY", "OF", "VALUE", "COUNTED SINCE", "SET FOR", "LAYER", "BY")}
	for _, v := range e.Values {
		rows = append(rows, cells(v.Key, v.Of, history.ShowValue(v.Key, v.Value), clockOr(v.Counted),
			v.Set, v.Layer, setBy(v.Origin)))
	}
	printTable(w, "lllllll", rows)
}

// clockOr is a time, "-" if it is unknown.
func clockOr(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	return printable.DateTime(at)
}

// setBy words who set a value, and where.
func setBy(o limit.Origin) string {
	if o.Layer != limit.LayerLive {
		return cmp.Or(o.Place, "-")
	}
	text := fmt.Sprintf("%s at %s, change %d%s", o.Who, printable.DateTime(o.At), o.Change, until(o.Until))
	if o.Why != "" {
		text += ": " + o.Why
	}
	return text
}
