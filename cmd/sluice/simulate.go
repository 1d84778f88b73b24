package main

import (
	"cmp"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/alecthomas/kong"

	"sluice/sidecar"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/panel"
)

type simulateCmd struct {
	Logs    []string  `arg:"" name:"log" help:"Main logs of Exim, also rotated ones and .gz, in any order."`
	Set     overrides `placeholder:"SCOPE KEY=VALUE..." help:"On top of the configuration, as sluice set takes it; may be repeated."`
	Compare string    `placeholder:"FILE" help:"Simulate with this configuration file too, and show both."`
	Suggest *int      `placeholder:"N" help:"Also find the hourly limit that would have touched at most N domains."`
	jsonFlag
}

// Help is the long help.
func (simulateCmd) Help() string {
	return `Decides on every message of the logs as sluice would have done with this configuration,
at the times of the log: whom it would have refused, when first, for how long, and whose
mail it was. Nothing of the host changes; the running sluice is not asked.

What it can know, and what not:
  - A message is decided on at its arrival, with the recipients that the log names within
    five minutes (or in its arrival line, with Exim's log_selector = +received_recipients);
    held mail, and what an alias or list has made, at each attempt to deliver it.
  - What is refused counts no further: whether its client would have tried again, nobody
    knows. What the sluice of the time refused and this one would not is one send; where
    that was a whole message, the log names none of its recipients, and it is one send too.
  - Limits with mode = "watch" refuse nothing here either; what passed them is counted as
    watched. To see what they would refuse: --set default mode=enforce (and so for every
    scope that has a mode of its own).
  - The log does not have locks made by hand, nor what was changed in between by sluice set
    or in the panel: its limits are those of today.
  - Scripts are known where Exim logs them (log_selector = +arguments, and better +pid too).
  - Local domains and owners are those of the files today.

Examples:
  sluice simulate /var/log/exim4/mainlog
  sluice simulate /var/log/exim4/mainlog* --set default hourly=200 deferfail_percent=20
  sluice simulate /var/log/exim4/mainlog* --set default hourly=200 --compare /etc/sluice/sluice.toml
  sluice simulate /var/log/exim_mainlog-202611*.gz --suggest 5 --json` + jsonHelp(simulated{}, "")
}

// overrides are what --set was given.
type overrides []sidecar.Setting

// Decode reads SCOPE KEY=VALUE..., up to what is no KEY=VALUE.
func (o *overrides) Decode(ctx *kong.DecodeContext) error {
	var scope string
	if err := ctx.Scan.PopValueInto("SCOPE", &scope); err != nil {
		return err
	}
	var assignments []string
	for next := ctx.Scan.Peek(); !next.IsEOL() && next.IsValue() && strings.Contains(next.String(), "="); next = ctx.Scan.Peek() {
		assignments = append(assignments, ctx.Scan.Pop().String())
	}
	_, settings, err := sidecar.ParseSettings(scope, assignments)
	*o = append(*o, settings...)
	return err
}

// A simulated is what the command has found out.
type simulated struct {
	Simulation sidecar.SimulationReport  `json:"simulation"`
	Compared   *sidecar.SimulationReport `json:"compared,omitempty"`
	Suggested  *suggestion               `json:"suggested,omitempty"`
}

type suggestion struct {
	Domains int   `json:"domains"` // at most
	Hourly  int64 `json:"hourly"`
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
	config, err := t.loadConfig()
	if err != nil {
		return found, err
	}
	node, err := nodeName(config)
	if err != nil {
		return found, err
	}
	options := sidecar.SimulationOptions{Config: config, Node: node, EximUser: findExim(t.ctx, config.Exim.Binary).user, Set: c.Set}
	if config.Panel.Follow {
		options.Panel = panel.New(panelRoot(config)).Read(time.Now())
	}
	main := sidecar.NewSimulation(options)
	if err := main.Unread(); err != nil {
		return found, err
	}
	all := []*sidecar.Simulation{main}
	var compared, unlimited *sidecar.Simulation
	if c.Compare != "" {
		other := options
		alike := *t
		alike.configFile = c.Compare
		if other.Config, err = alike.loadConfig(); err != nil {
			return found, err
		}
		other.Set = nil
		compared = sidecar.NewSimulation(other)
		all = append(all, compared)
	}
	if c.Suggest != nil {
		options.Set = append(slices.Clone(options.Set), sidecar.Setting{Scope: "default", Key: "hourly", Value: int64(0)})
		unlimited = sidecar.NewSimulation(options)
		all = append(all, unlimited)
	}
	if err := c.replay(t, sidecar.NewReplay(all...)); err != nil {
		return found, err
	}
	found.Simulation = main.Report()
	if compared != nil {
		found.Compared = new(compared.Report())
	}
	if unlimited != nil {
		found.Suggested = &suggestion{*c.Suggest, unlimited.Suggest(*c.Suggest)}
	}
	return found, nil
}

func (c simulateCmd) replay(t *terminal, replay *sidecar.Replay) error {
	logs, err := mainlog.OpenHistory(c.Logs, time.Local)
	if err != nil {
		return err
	}
	defer logs.Close()
	bar := newProgressBar(t.stderr, logs.Size, time.Now())
	defer bar.clear()
	err = logs.Read(t.ctx, replay, func() { bar.show(logs.Progress(), time.Now()) })
	replay.End(t.ctx)
	return err
}

func (c simulateCmd) print(w io.Writer, found simulated) {
	s := found.Simulation
	if s.From.IsZero() {
		fmt.Fprintln(w, "There is no mail in the logs.")
		return
	}
	fmt.Fprintf(w, "%s to %s: %s sent %d; of that %d were deferred or failed.\n", clock(s.From), clock(s.To), count(s.Senders, "domain", "domains"), s.Sent, s.Bad)
	fmt.Fprintf(w, "%s would have been refused, of %s.\n", count(s.Refused, "send", "sends"), count(refusedDomains(s), "domain", "domains"))
	if s.Watched > 0 {
		fmt.Fprintf(w, "%s passed only because a limit is watched, and does not refuse.\n", count(s.Watched, "send", "sends"))
	}
	printDomains(w, s)
	if found.Compared != nil {
		c.printCompared(w, s, *found.Compared)
	}
	if found.Suggested != nil {
		fmt.Fprintf(w, "\nhourly = %d is the least limit that would have touched at most %s (those with a limit of their own aside).\n",
			found.Suggested.Hourly, count(int64(found.Suggested.Domains), "domain", "domains"))
	}
}

// refusedDomains is how many domains would have been refused something.
func refusedDomains(s sidecar.SimulationReport) (n int64) {
	for _, d := range s.Domains {
		n += min(d.Refused, 1)
	}
	return n
}

func printDomains(w io.Writer, s sidecar.SimulationReport) {
	if len(s.Domains) == 0 {
		return
	}
	fmt.Fprintln(w)
	rows := [][]string{{"DOMAIN", "REFUSED", "WATCHED", "FIRST", "FOR", "SENT", "BAD", "MOSTLY"}}
	for _, d := range s.Domains {
		first, lasted := "-", "-"
		if d.Refused > 0 {
			first, lasted = clock(d.First), span(time.Duration(d.Seconds*float64(time.Second)))
		}
		if d.Tripped {
			lasted += " defer/fail"
		}
		rows = append(rows, []string{d.Domain, fmt.Sprint(d.Refused), fmt.Sprint(d.Watched), first, lasted, fmt.Sprint(d.Sent), fmt.Sprint(d.Bad),
			fmt.Sprintf("%s (%d)", d.Mostly, d.MostlyOf)})
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

// printCompared shows what each of two configurations would have refused.
func (c simulateCmd) printCompared(w io.Writer, here, there sidecar.SimulationReport) {
	refused := map[string][2]int64{}
	for i, report := range []sidecar.SimulationReport{here, there} {
		for _, d := range report.Domains {
			both := refused[d.Domain]
			both[i] = d.Refused
			refused[d.Domain] = both
		}
	}
	fmt.Fprintf(w, "\nWith %s %s would have been refused, of %s.\n", c.Compare, count(there.Refused, "send", "sends"), count(refusedDomains(there), "domain", "domains"))
	differ := slices.DeleteFunc(slices.Sorted(maps.Keys(refused)), func(d string) bool { return refused[d][0] == refused[d][1] })
	if len(differ) == 0 {
		return
	}
	slices.SortStableFunc(differ, func(a, b string) int { return cmp.Compare(refused[b][0], refused[a][0]) })
	rows := [][]string{{"DOMAIN", "REFUSED", "THERE"}}
	for _, d := range differ {
		rows = append(rows, []string{d, fmt.Sprint(refused[d][0]), fmt.Sprint(refused[d][1])})
	}
	fmt.Fprintln(w)
	printTable(w, "lrr", rows)
}

// A progressBar shows how far a log was read, on a terminal only.
type progressBar struct {
	w       io.Writer // nil: not a terminal
	size    int64
	started time.Time
	shown   time.Time
}

func newProgressBar(w io.Writer, size int64, now time.Time) *progressBar {
	file, ok := w.(*os.File)
	if !ok {
		return &progressBar{}
	}
	if info, err := file.Stat(); err != nil || info.Mode()&os.ModeCharDevice == 0 {
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
		left = span(time.Duration(float64(took)*float64(b.size-read)/float64(read))) + " left"
	}
	done := int(barWidth * read / b.size)
	fmt.Fprintf(b.w, "\r[%-*s] %3d%% %s\x1b[K", barWidth, strings.Repeat("#", done), 100*read/b.size, left)
}

// clear takes the bar away.
func (b *progressBar) clear() {
	if b.w != nil && !b.shown.IsZero() {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
