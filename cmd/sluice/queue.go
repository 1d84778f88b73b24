package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/exim"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/queue"
	"sluice/sidecar/settings"
	"sluice/sidecar/simulate"
	"sluice/sidecar/web"
)

type queueCmd struct {
	Scope     string `arg:"" optional:"" help:"Only mail of this payer or sender, as the table or sluice who shows it."`
	Sender    string `placeholder:"TEXT" help:"Only with this in the envelope sender, which anybody can choose; ~TEXT is a regular expression."`
	Recipient string `placeholder:"TEXT" help:"Only with this in a recipient that is left; ~TEXT is a regular expression."`
	ID        string `name:"id" placeholder:"ID" help:"Only this message."`
	Queue     string `placeholder:"NAME" help:"Only what is in this named queue of Exim."`
	Frozen    bool   `help:"Only frozen messages."`
	Held      bool   `help:"Only messages that sluice holds."`
	Bounces   bool   `help:"Only messages with a null sender: bounces and automatic answers."`
	Older     string `placeholder:"TIME" help:"Only what came before this time: 90m, 24h, 7d."`
	Younger   string `placeholder:"TIME" help:"Only what came within this time."`
	List      bool   `help:"List the messages, the oldest first."`
	Top       int    `default:"20" placeholder:"N" help:"Show at most N payers, or messages (default: 20)."`
	jsonFlag
}

// Help is the long help.
func (queueCmd) Help() string {
	return `Counts what waits in Exim's queue by who pays for it: messages, the recipients that
are left, and of the messages those that sluice holds, that are frozen, and that have a null
sender. TOP-SENDER has sent most of them. - is mail from elsewhere, and bounces that nobody
here is known to have caused.

The running sluice keeps an index of the queue, which is at most some minutes old. Without it
the queue is read now, which takes about 4 seconds for 100,000 messages; then it is not known
what is held, nor by which alias mail from elsewhere is sent on. Nothing is changed.
The exit code is 1 where a selection is empty.

Examples:
  sluice queue
  sluice queue example.com --list
  sluice queue --frozen --bounces
  sluice queue --recipient @far.example --older 4h --list --top 100
  sluice queue hacked@example.com --json | jq .messages` +
		jsonHelp(queue.Report{}, "took is how many seconds the sweep took at the time swept. An empty payer is mail from elsewhere.")
}

func (c queueCmd) Run(t *terminal) error {
	selection, err := c.selection()
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	report, err := ask(t, "queue", func(a *admin.Client) (queue.Report, error) { return a.Queue(t.ctx, selection) })
	if errors.Is(err, admin.ErrUnreachable) {
		report, err = readQueue(t, selection)
	}
	switch {
	case err != nil:
		return err
	case c.JSON:
		err = printJSON(t.stdout, report)
	default:
		c.print(t.stdout, report)
	}
	if none := (queue.Selection{Top: selection.Top, List: selection.List}); err == nil && report.Messages == 0 && selection != none {
		return no{errors.New("queue: no message is like that")}
	}
	return err
}

func (c queueCmd) selection() (s queue.Selection, err error) {
	s = queue.Selection{Sender: c.Sender, Recipient: c.Recipient, ID: c.ID, Queue: c.Queue, Frozen: c.Frozen, Held: c.Held, Bounces: c.Bounces, Top: c.Top}
	if c.Top < 1 {
		return s, fmt.Errorf("--top is %d, it must be 1 at least", c.Top)
	}
	if c.List {
		s.List = c.Top
	}
	if c.Scope != "" {
		if s.Scope, err = simulate.CanonicalScope(c.Scope); err != nil {
			return s, err
		}
	}
	if s.Older, err = parseTime("--older", c.Older); err == nil {
		s.Younger, err = parseTime("--younger", c.Younger)
	}
	return s, err
}

// readQueue reads Exim's queue without a running sluice.
func readQueue(t *terminal, selection queue.Selection) (r queue.Report, err error) {
	no := false
	o, _, err := foreignFlag{Foreign: &no}.settingsFor(t, nil)
	if err != nil {
		return r, fmt.Errorf("queue: %w", err)
	}
	directory := exim.Find(t.ctx, o.Config.Exim.Binary).Spool(t.ctx)
	if directory == "" {
		return r, fmt.Errorf("queue: %s does not say where Exim's queue is (spool_directory); "+
			"if this node's queue is Postfix's: postqueue -p", o.Config.Exim.Binary)
	}
	s, err := settings.New(settings.Sources{Config: o.Config, Panel: o.Panel}, settings.Host{Node: o.Node, EximUser: o.EximUser, Own: o.Own}, nil)
	if err != nil {
		return r, fmt.Errorf("queue: %w", err)
	}
	index := newQueue(directory, func() *settings.Settings { return s }, nil, nil)
	index.Sweep(t.ctx, time.Now(), true)
	if r, err = index.Report(o.Node, time.Now(), selection); err != nil {
		return r, fmt.Errorf("queue: %w", err)
	}
	if r.Trouble != "" {
		return r, fmt.Errorf("queue: %s", r.Trouble)
	}
	fmt.Fprintln(t.stderr, "sluice serve is not running: read from the spool, and what is held is not known.")
	return r, t.ctx.Err()
}

// newQueue returns an empty index of the queue in a spool_directory.
func newQueue(directory string, inForce func() *settings.Settings, held func() map[string]int, watch *queue.Watch) *queue.Index {
	return queue.New(queue.Options{Directory: directory, Max: int(inForce().Config.Queue.Max), Held: held, Watch: watch,
		Identify: func(r *sidecar.Request) (sidecar.Payer, sidecar.Author) { return inForce().Identify(r) },
		Local:    func(domain string) bool { return inForce().Locals.Get().Has(domain) }})
}

// openQueue begins to follow Exim's queue, if there is one.
func (n *node) openQueue(ctx context.Context, mta exim.Exim) {
	if directory := mta.Spool(ctx); directory != "" {
		n.queue = newQueue(directory, n.engine.Settings.Load, n.engine.Holds.Messages,
			queue.NewWatch(n.events, n.ledger, n.config.Queue.Warn))
	}
}

// showQueue answers operators who ask about the queue; nil if there is none.
func (n *node) showQueue() func(queue.Selection) (queue.Report, error) {
	if n.queue == nil {
		return nil
	}
	return func(s queue.Selection) (queue.Report, error) {
		n.queue.Refresh(context.Background(), time.Now())
		return n.queue.Report(n.name, time.Now(), s)
	}
}

// queueStates are what waits in Exim's queue, for metrics; nil if that is not known.
func (n *node) queueStates() map[string]web.Waiting {
	if n.queue == nil {
		return nil
	}
	all := map[string]web.Waiting{}
	for state, w := range n.queue.States() {
		all[string(state)] = web.Waiting(w)
	}
	return all
}

// aliasFiles are where panels and Exim have aliases.
var aliasFiles = []string{"/etc/valiases/DOMAIN", "/etc/virtual/DOMAIN/aliases", "/etc/aliases"}

// newLoops finds loops by the log of Exim.
func (n *node) newLoops() *queue.Loops {
	var files []string
	for _, file := range aliasFiles {
		files = append(files, panelRoot(n.config)+file)
	}
	return queue.NewLoops(n.events, func(domain string) bool { return n.engine.Settings.Load().Locals.Get().Has(domain) }, files)
}

// A watchedQueue is a consumer of Exim's log that tells who watches the queue and loops too.
type watchedQueue struct {
	mainlog.Consumer
	index *queue.Index // nil: there is none
	loops *queue.Loops
}

// Prepare implements mainlog.Consumer.
func (w watchedQueue) Prepare(entries []sidecar.LogEntry) func(ctx context.Context, now time.Time) {
	record := w.Consumer.Prepare(entries)
	return func(ctx context.Context, now time.Time) {
		record(ctx, now)
		w.loops.Observe(entries)
		if w.index != nil {
			w.index.Observe(entries)
		}
	}
}

// print prints a report as a table.
func (c queueCmd) print(w io.Writer, r queue.Report) {
	printf(w, "%s: %s to %s in Exim's queue", r.Node, sidecar.Count(r.Messages, "message", "messages"), sidecar.Count(r.Recipients, "recipient", "recipients"))
	if age := r.Now.Sub(r.Swept); age >= time.Minute {
		printf(w, ", as of %s ago", sidecar.Brief(age))
	}
	fmt.Fprintln(w)
	if r.Unknown > 0 {
		printf(w, "unknown: %s of which the header cannot be read: sluice queue --list, exim -Mvh ID\n", sidecar.Count(r.Unknown, "message", "messages"))
	}
	if r.Uncounted > 0 {
		printf(w, "%s more, of which nothing is known: raise queue.max\n", sidecar.Count(r.Uncounted, "message", "messages"))
	}
	if r.Trouble != "" {
		printf(w, "not all of the queue can be read: %s\n", r.Trouble)
	}
	switch {
	case c.List && len(r.List) > 0:
		fmt.Fprintln(w)
		printTable(w, "lrrrlllll", messageRows(r))
	case len(r.Payers) > 0:
		fmt.Fprintln(w)
		printTable(w, "lrrrrrrl", payerRows(r))
	}
}

func payerRows(r queue.Report) [][]sidecar.Text {
	rows := [][]sidecar.Text{cells("PAYER", "MESSAGES", "RECIPIENTS", "HELD", "FROZEN", "BOUNCES", "OLDEST", "TOP-SENDER")}
	for _, s := range r.Payers {
		held, sender := "?", "-"
		if r.HeldKnown {
			held = fmt.Sprint(s.Held)
		}
		if s.Author.Name != "" {
			sender = fmt.Sprintf("%s %d%%", s.Author.Name, s.Author.Messages*100/s.Messages)
		}
		rows = append(rows, cells(cmp.Or(s.Payer, "-"), s.Messages, s.Recipients, held, s.Frozen, s.Bounces,
			sidecar.Brief(r.Now.Sub(s.Oldest)), sender))
	}
	return rows
}

func messageRows(r queue.Report) [][]sidecar.Text {
	rows := [][]sidecar.Text{cells("ID", "AGE", "SIZE", "RECIPIENTS", "STATE", "PAYER", "AUTHOR", "SENDER", "MOSTLY-TO")}
	for _, m := range r.List {
		state := "waits"
		switch {
		case m.Unknown:
			state = "unknown"
		case m.Frozen != nil:
			state = "frozen"
		case m.Held > 0:
			state = "held"
		}
		if m.Queue != "" {
			state += " in " + m.Queue
		}
		sender := m.Sender
		if sender == "" && !m.Unknown {
			sender = "<>"
		}
		rows = append(rows, cells(m.ID, sidecar.Brief(r.Now.Sub(m.Arrived)), m.Size, m.Recipients, state,
			cmp.Or(m.Payer, "-"), cmp.Or(m.Author, "-"), cmp.Or(sender, "-"), cmp.Or(m.To, "-")))
	}
	return rows
}
