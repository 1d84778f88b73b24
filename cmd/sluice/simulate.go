package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"golang.org/x/sys/unix"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/envelope"
	"sluice/sidecar/field"
	"sluice/sidecar/history"
	"sluice/sidecar/limit"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/printable"
	"sluice/sidecar/simulate"
	"sluice/sidecar/typed"
)

type simulateCmd struct {
	Logs    []string  `arg:"" name:"log" help:"Main logs of Exim, also rotated ones and .gz, in any order."`
	Set     overrides `placeholder:"SCOPE KEY=VALUE..." help:"On top of the configuration, as sluice set takes it; may be repeated."`
	Live    bool      `help:"Also with what sluice set has in force now, as the running sluice tells."`
	Compare string    `placeholder:"FILE" help:"Simulate with this configuration file too, without --set, and show both."`
	Suggest *int      `placeholder:"N" help:"Also find the least hourly limit that would have refused something of at most N domains."`
	Spikes  bool      `help:"Also find who would have been told of as a spike; it takes logs of more than 35 days."`
	foreignFlag
	jsonFlag
}

// Help is the long help.
func (simulateCmd) Help() string {
	return `Decides on every message of the logs as sluice would have done, at the times of the log:
whom it would have refused, when first, for how long, and whose mail it was. Nothing of
the host changes.

Which settings are simulated, the later over the earlier:
  - those of the configuration file: --config, or the one that sluice serve reads;
  - where there is a panel, the limits in its files as they are now;
  - with --live, what sluice set has in force now. The running sluice is asked only then;
  - --set, as often as it is given.
Not simulated are the holds and suspensions of a panel, and locks made by hand: they are
not in the log, no more than what was changed while it was written. Local domains and
owners are those of the files now.

Logs of another host (--foreign) are not read by what is true of this one: its name, local
domains, owners, panel and Exim's user. Where you know them, write them into a file for
--config: what that file sets itself is believed. What the log says was delivered on that
host is local.

What can be known from a log, and what not:
  - A message is decided on at its arrival, with the recipients that the log names within
    five minutes (or in its arrival line, with Exim's log_selector = +received_recipients);
    held mail, and what an alias or list has made, at each attempt to deliver it.
  - What is refused counts no further: whether its client would have tried again, nobody
    knows. What the sluice of the time refused and this one would not is one send; where
    that was a whole message, the log names none of its recipients, and it is one send too.
  - Limits with mode = "watch" refuse nothing here either; what passed them is counted as
    watched. To see what they would refuse: --set default mode=enforce (and so for every
    scope that has a mode of its own).
  - Scripts are known where Exim logs them (log_selector = +arguments, and better +pid too).

The table has the domains that would have been refused something, and those watched.
REFUSED counts each send once, FIRST is when, FOR is how long the domain was at a limit
or over its defer/fail percentage, SENT what was let through, BAD how much of that was
deferred or failed, MOSTLY the mailbox, script or client that has tried most sends.
Bounces that Exim made count towards limits and are always let through: they are in no
number of the table, while sluice who --log has them.
With --spikes, SENDS is what the author had tried in an hour when operators would have been
told, and BUSIEST its busiest hour of the 35 days before: [spike] of the configuration says
how much more is a spike, and the key spike of a scope whether it is told.
The exit code is 0 whether or not anything would have been refused.

Examples:
  sluice simulate /var/log/exim4/mainlog
  sluice simulate /var/log/exim4/mainlog* --set default hourly=200 deferfail_percent=20
  sluice simulate /var/log/exim4/mainlog* --set default hourly=200 --compare /etc/sluice/sluice.toml
  sluice simulate /var/log/exim_mainlog-202611*.gz --live --suggest 5 --json` + jsonHelp(simulated{}, "")
}

// overrides are the settings that --set was given.
type overrides []limit.Setting

// Decode parses SCOPE KEY=VALUE..., up to the first argument that is no KEY=VALUE.
func (o *overrides) Decode(ctx *kong.DecodeContext) error {
	var scope string
	if err := ctx.Scan.PopValueInto("SCOPE", &scope); err != nil {
		return err
	}
	var assignments []string
	for next := ctx.Scan.Peek(); !next.IsEOL() && next.IsValue() && strings.Contains(next.String(), "="); next = ctx.Scan.Peek() {
		assignments = append(assignments, ctx.Scan.Pop().String())
	}
	_, settings, err := typed.Settings(scope, assignments)
	*o = append(*o, settings...)
	return err
}

// A simulated is the result of the command.
type simulated struct {
	Simulation simulate.Report      `json:"simulation"`
	Compared   *simulate.Report     `json:"compared,omitempty"`
	Suggested  *simulate.Suggestion `json:"suggested,omitempty"`
	Foreign    bool                 `json:"foreign"`
}

func (c simulateCmd) Run(t *terminal) error {
	if c.Suggest != nil && *c.Suggest < 0 {
		return fmt.Errorf("simulate: --suggest is %d, it must be a number of domains", *c.Suggest)
	}
	found, err := c.simulate(t)
	if err != nil {
		return fmt.Errorf("simulate: %w", err)
	}
	if c.JSON {
		return printJSON(t.stdout, found)
	}
	c.print(t.stdout, found)
	return nil
}

// simulate reads the logs once, for all simulations.
func (c simulateCmd) simulate(t *terminal) (found simulated, err error) {
	options, foreign, err := c.options(t)
	if err != nil {
		return found, err
	}
	found.Foreign = foreign
	simulation := simulate.New(options)
	if err := simulation.Unread(); err != nil {
		return found, err
	}
	all := []*simulate.Simulation{simulation}
	var compared, unlimited *simulate.Simulation
	if c.Compare != "" {
		other, err := c.compared(t, options, foreign)
		if err != nil {
			return found, err
		}
		compared = simulate.New(other)
		all = append(all, compared)
	}
	if c.Suggest != nil {
		options.Set = append(slices.Clone(options.Set), limit.Setting{Scope: sidecar.DefaultScope, Key: "hourly", Value: int64(0)})
		unlimited = simulate.New(options)
		all = append(all, unlimited)
	}
	if err := replayLogs(t, c.Logs, simulate.NewReplay(all...)); err != nil {
		return found, err
	}
	warnUnseen(t, simulation)
	found.Simulation = simulation.Report()
	if compared != nil {
		found.Compared = new(compared.Report())
	}
	if unlimited != nil {
		found.Suggested = new(unlimited.Suggest(*c.Suggest))
	}
	return found, nil
}

// options returns the settings to simulate, and whether the logs are of another host.
func (c simulateCmd) options(t *terminal) (o simulate.Options, foreign bool, err error) {
	if o, foreign, err = c.settingsFor(t, c.Logs); err != nil {
		return o, foreign, err
	}
	if o.Set, err = c.live(t); err != nil {
		return o, false, err
	}
	o.Set, o.Spikes = append(o.Set, c.Set...), c.Spikes
	return o, foreign, c.checkScopes(o)
}

// checkScopes fails for a scope of --set that probably is a typo: a domain without a dot
// that is known nowhere.
func (c simulateCmd) checkScopes(o simulate.Options) error {
	known := []string{sidecar.DefaultScope, sidecar.System, sidecar.Loopback, o.Node}
	for _, s := range slices.Concat(o.Config.Settings(), o.Panel.Settings) {
		known = append(known, s.Scope)
	}
	for _, s := range c.Set {
		if sidecar.IsDomain(s.Scope) && !strings.Contains(s.Scope, ".") && !slices.Contains(known, s.Scope) {
			return fmt.Errorf("--set %s: that is no domain that is known here, and has no dot; %s", s.Scope, field.Suggest(s.Scope, known[:3]))
		}
	}
	return nil
}

// warnUnseen warns of what was set for scopes of which the logs have nothing: perhaps they
// are typos.
func warnUnseen(t *terminal, s *simulate.Simulation) {
	seen := s.Domains()
	for _, scope := range s.Unseen() {
		name, meant := scope, ""
		if domain := cmp.Or(envelope.DomainOf(scope), scope); sidecar.IsDomain(domain) && !slices.Contains(seen, domain) {
			name, meant = domain, field.Nearest(domain, seen)
		}
		if meant != "" {
			meant = fmt.Sprintf("; did you mean %s?", meant)
		}
		t.warn(fmt.Sprintf("--set %s: nothing in the logs is charged to %s%s", scope, name, meant))
	}
}

// compared returns the options with the other configuration, and without --set.
func (c simulateCmd) compared(t *terminal, o simulate.Options, foreign bool) (simulate.Options, error) {
	alike := *t
	alike.configFile = c.Compare
	config, err := alike.effectiveConfig()
	if err != nil {
		return o, err
	}
	if foreign {
		config.ForOtherHost(true)
	}
	o.Config, o.Set = config, o.Set[:len(o.Set)-len(c.Set)]
	return o, nil
}

// live returns, with --live, what sluice set has in force now.
func (c simulateCmd) live(t *terminal) (set []limit.Setting, err error) {
	if !c.Live {
		return nil, nil
	}
	changes, err := ask(t, "--live: find what is set", func(a *admin.Client) ([]history.Change, error) { return a.History(t.ctx, "") })
	return history.SettingsOf(changes, time.Now()), err
}

// simulateGarbage is the GOGC of a simulation. It runs only briefly, and more memory makes
// it faster, until it has to wait for the system to provide that.
const simulateGarbage = 200

// readLogs has a reader read logs, and shows how far it is.
func readLogs(t *terminal, logs *mainlog.History, reader mainlog.Reader) error {
	bar := newProgressBar(t.log, logs.Size, time.Now())
	defer bar.clear()
	if os.Getenv("GOGC") == "" {
		defer debug.SetGCPercent(debug.SetGCPercent(simulateGarbage))
	}
	return logs.Read(t.ctx, reader, func() { bar.show(logs.Progress(), time.Now()) })
}

func (c simulateCmd) print(w io.Writer, found simulated) {
	s := found.Simulation
	if s.From.IsZero() {
		fmt.Fprintln(w, "There is no mail in the logs.")
		return
	}
	printf(w, "%s to %s: %s sent %d; of that %d were deferred or failed.\n", printable.DateTime(s.From), printable.DateTime(s.To), printable.Count(s.Senders, "domain", "domains"), s.Sent, s.Bad)
	printf(w, "%s would have been refused, of %s.\n", printable.Count(s.Refused, "send", "sends"), printable.Count(refusedDomains(s), "domain", "domains"))
	if !s.UsualFrom.IsZero() {
		printf(w, "From %s on it is known what senders usually send: who sends more leaves room for the others of its domain.\n", printable.DateTime(s.UsualFrom))
	}
	if found.Foreign {
		fmt.Fprintln(w, "The logs are taken for another host's: nothing of this one is believed of it (--no-foreign: they are of this one).")
	}
	if s.Watched > 0 {
		printf(w, "%s passed only because a limit is watched, and does not refuse.\n", printable.Count(s.Watched, "send", "sends"))
	}
	printDomains(w, s)
	if c.Spikes {
		printSpikes(w, s)
	}
	if found.Compared != nil {
		c.printCompared(w, s, *found.Compared)
	}
	if found.Suggested != nil {
		printSuggestion(w, *found.Suggested)
	}
}

func printSuggestion(w io.Writer, s simulate.Suggestion) {
	const anyway = "for defers and failures, or by a limit of its own or of a day"
	if s.Hourly == nil {
		printf(w, "\nThere is no hourly limit by which %s would have been refused anything: whatever it is, %s would have been, each %s.\n",
			atMost(s.Domains), printable.Count(int64(s.Anyway), "domain", "domains"), anyway)
		return
	}
	printf(w, "\nhourly = %d is the least limit by which %s would have been refused anything.\n", *s.Hourly, atMost(s.Domains))
	if s.Anyway > 0 {
		printf(w, "Among these are %d to which that happens whatever the limit is, each %s.\n", s.Anyway, anyway)
	}
}

// atMost is a number of domains as the subject of a sentence.
func atMost(domains int) string {
	if domains == 0 {
		return "no domain"
	}
	return "at most " + printable.Count(int64(domains), "domain", "domains")
}

// refusedDomains is how many domains would have been refused something.
func refusedDomains(s simulate.Report) (n int64) {
	for _, d := range s.Domains {
		n += min(d.Refused, 1)
	}
	return n
}

func printDomains(w io.Writer, s simulate.Report) {
	if len(s.Domains) == 0 {
		return
	}
	fmt.Fprintln(w)
	rows := [][]printable.Text{cells("DOMAIN", "REFUSED", "WATCHED", "FIRST", "FOR", "SENT", "BAD", "MOSTLY")}
	for _, d := range s.Domains {
		first, lasted := "-", "-"
		if d.Refused > 0 {
			first, lasted = printable.DateTime(d.First), printable.Brief(time.Duration(d.Seconds*float64(time.Second)))
		}
		if d.Tripped {
			lasted += " defer/fail"
		}
		rows = append(rows, cells(d.Domain, d.Refused, d.Watched, first, lasted, d.Sent, d.Bad,
			fmt.Sprintf("%s (%d)", d.Mostly, d.MostlyOf)))
	}
	if s.Watched == 0 {
		for i := range rows {
			rows[i] = slices.Delete(rows[i], 2, 3)
		}
		printTable(w, "lrlrrrl", rows)
		return
	}
	printTable(w, "lrrlrrrl", rows)
}

// printSpikes prints of whom operators would have been told, and how often that is.
func printSpikes(w io.Writer, s simulate.Report) {
	const learning = 35 * limit.Day
	took := s.To.Sub(s.From) - learning
	if took <= 0 {
		fmt.Fprintln(w, "\nNobody has a spike before its domain is known for 35 days, and the logs have less.")
		return
	}
	daily := float64(len(s.Spikes)) / (took.Hours() / 24) / float64(s.Senders) * 1000
	fmt.Fprintf(w, "\n%s from %s on: of 1,000 such domains %.1f a day.\n", printable.Count(int64(len(s.Spikes)), "spike", "spikes"), printable.DateTime(s.From.Add(learning)), daily)
	if len(s.Spikes) == 0 {
		return
	}
	rows := [][]printable.Text{cells("WHEN", "DOMAIN", "AUTHOR", "SENDS", "BUSIEST")}
	for _, sp := range s.Spikes {
		rows = append(rows, cells(printable.DateTime(sp.At), sp.Domain, sp.Author, sp.Sends, sp.Busiest))
	}
	fmt.Fprintln(w)
	printTable(w, "lllrr", rows)
}

// printCompared prints what each of two configurations would have refused.
func (c simulateCmd) printCompared(w io.Writer, here, there simulate.Report) {
	refused := map[string][2]int64{}
	for i, report := range []simulate.Report{here, there} {
		for _, d := range report.Domains {
			both := refused[d.Domain]
			both[i] = d.Refused
			refused[d.Domain] = both
		}
	}
	printf(w, "\nWith %s %s would have been refused, of %s.\n", c.Compare, printable.Count(there.Refused, "send", "sends"), printable.Count(refusedDomains(there), "domain", "domains"))
	differ := slices.DeleteFunc(slices.Sorted(maps.Keys(refused)), func(d string) bool { return refused[d][0] == refused[d][1] })
	if len(differ) == 0 {
		return
	}
	slices.SortStableFunc(differ, func(a, b string) int { return cmp.Compare(refused[b][0], refused[a][0]) })
	rows := [][]printable.Text{cells("DOMAIN", "REFUSED", "THERE")}
	for _, d := range differ {
		rows = append(rows, cells(d, refused[d][0], refused[d][1]))
	}
	fmt.Fprintln(w)
	printTable(w, "lrr", rows)
}

// A progressBar shows how far a log was read, on a terminal only.
type progressBar struct {
	w       io.Writer // nil if it is not a terminal
	size    int64
	started time.Time
	shown   time.Time
}

func newProgressBar(w io.Writer, size int64, now time.Time) *progressBar {
	file, ok := w.(*os.File)
	if !ok {
		return &progressBar{}
	}
	if _, err := unix.IoctlGetTermios(int(file.Fd()), unix.TCGETS); err != nil {
		return &progressBar{}
	}
	return &progressBar{w: w, size: size, started: now}
}

const barWidth = 40

func (b *progressBar) show(read int64, now time.Time) {
	if b.w == nil || now.Sub(b.shown) < 200*time.Millisecond || b.size == 0 {
		return
	}
	b.shown = now
	read = min(read, b.size)
	left := ""
	if took := now.Sub(b.started); took > 2*time.Second && read > 0 {
		left = printable.Brief(time.Duration(float64(took)*float64(b.size-read)/float64(read))) + " left"
	}
	done := int(barWidth * read / b.size)
	fmt.Fprintf(b.w, "\r[%-*s] %3d%% %s\x1b[K", barWidth, strings.Repeat("#", done), 100*read/b.size, left)
}

// clear removes the bar.
func (b *progressBar) clear() {
	if b.w != nil && !b.shown.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
