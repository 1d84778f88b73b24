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
	"sluice/sidecar/config"
	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/printable"
	"sluice/sidecar/queue"
	"sluice/sidecar/settings"
	"sluice/sidecar/web"
)

type queueCommands struct {
	Show       queueCmd      `cmd:"" default:"withargs" help:"Show what waits in Exim's queue, and whose it is."`
	Quarantine quarantineCmd `cmd:"" help:"Move messages to where nothing is delivered, and can be restored from."`
	Restore    restoreCmd    `cmd:"" help:"Move messages back from the quarantine."`
	Remove     removeCmd     `cmd:"" help:"Remove messages: into the quarantine, or from it for good."`
	Flush      flushCmd      `cmd:"" help:"Have Exim try messages now."`
	Freeze     freezeCmd     `cmd:"" help:"Have Exim try messages no more."`
	Thaw       thawCmd       `cmd:"" help:"Have Exim try frozen messages again."`
}

// Help is the long help.
func (queueCommands) Help() string {
	return `Without a further word, sluice queue shows what waits: sluice queue show --help lists the flags that
select messages, which all of these commands have.

Examples:
  sluice queue
  sluice queue hacked@example.com --list
  sluice queue quarantine hacked@example.com --since 10:47`
}

type queueCmd struct {
	selectors
	List bool `help:"List the messages, the oldest first."`
	Top  int  `default:"20" placeholder:"N" help:"Show at most N payers, or messages (default: 20)."`
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
	selection, err := c.selection(time.Now())
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
	if err == nil && report.Messages == 0 && !c.none() {
		return no{errors.New("queue: no message is like that")}
	}
	return err
}

func (c queueCmd) selection(now time.Time) (s queue.Selection, err error) {
	if s, err = c.selectors.selection(now); err != nil {
		return s, err
	}
	if s.Top = c.Top; c.Top < 1 {
		return s, fmt.Errorf("--top is %d, it must be 1 at least", c.Top)
	}
	if c.List {
		s.List = c.Top
	}
	return s, nil
}

// errHeldUnknown says that a question about held mail has no answer.
var errHeldUnknown = errors.New("which messages are held only a running sluice knows, and none runs")

// readQueue reads Exim's queue without a running sluice.
func readQueue(t *terminal, selection queue.Selection) (r queue.Report, err error) {
	if selection.Held {
		return r, fmt.Errorf("queue: %w", errHeldUnknown)
	}
	q, err := t.openQueue(t.host(), nil)
	if err == nil {
		err = q.Read(t.ctx, selection.Scope != "" || selection.BouncesOf != "")
	}
	if err != nil {
		return r, fmt.Errorf("queue: %w", err)
	}
	if r, err = q.Index.Report(q.Node, time.Now(), selection); err != nil {
		return r, fmt.Errorf("queue: %w", err)
	}
	fmt.Fprintln(t.stderr, "sluice serve is not running: read from the spool, and what is held is not known.")
	return r, nil
}

// spoolOf is where Exim has its queue: as the configuration says or, if it does not, Exim. In the
// unit of sluice serve Exim cannot say.
func spoolOf(ctx context.Context, c *config.Config, mta exim.Exim) string {
	if c.Exim.SpoolDirectory != "" {
		return c.Exim.SpoolDirectory
	}
	return mta.Spool(ctx)
}

// newQueue returns an empty index of the queue in a spool_directory, by the settings in force.
func newQueue(o queue.Options, inForce func() *settings.Settings) *queue.Index {
	o.Identify = func(r *sidecar.Request) (sidecar.Payer, sidecar.Author) { return inForce().Identify(r) }
	o.Local = func(domain string) bool { return inForce().Locals.Get().Has(domain) }
	return queue.New(o)
}

// openQueue begins to follow Exim's queue, if there is one.
func (n *node) openQueue(ctx context.Context, mta exim.Exim) {
	if directory := spoolOf(ctx, n.config, mta); directory != "" {
		n.queue = newQueue(queue.Options{Directory: directory, Max: int(n.config.Queue.Max), Held: n.engine.Holds.Messages, Gone: n.engine.Gone,
			Watch: queue.NewWatch(n.events, n.ledger, n.config.Queue.Warn)}, n.engine.Settings.Load)
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

// quarantined is what is in the quarantine; nil if that is not known.
func (n *node) quarantined() *queue.Aside {
	if n.queue == nil {
		return nil
	}
	return n.queue.Quarantine()
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

// Prepare implements mainlog.Consumer. The queue is told at once, in the order of the log, while the
// lines before are recorded: neither waits for the other.
func (w watchedQueue) Prepare(entries []logline.Entry) func(ctx context.Context, now time.Time) {
	w.loops.Observe(entries)
	if w.index != nil {
		w.index.Observe(entries)
	}
	return w.Consumer.Prepare(entries)
}

// print prints a report as a table.
func (c queueCmd) print(w io.Writer, r queue.Report) {
	printf(w, "%s: %s to %s in Exim's queue", r.Node, printable.Count(r.Messages, "message", "messages"), printable.Count(r.Recipients, "recipient", "recipients"))
	if age := r.Now.Sub(r.Swept); age >= time.Minute {
		printf(w, ", as of %s ago", printable.Brief(age))
	}
	fmt.Fprintln(w)
	if r.Unknown > 0 {
		printf(w, "unknown: %s of which the header cannot be read: sluice queue --list, exim -Mvh ID\n", printable.Count(r.Unknown, "message", "messages"))
	}
	if r.Uncounted > 0 {
		printf(w, "%s more, of which nothing is known: raise queue.max\n", printable.Count(r.Uncounted, "message", "messages"))
	}
	if q := r.Quarantine; q.Messages > 0 {
		printf(w, "%s\n", quarantineText(r.Now, q))
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

func payerRows(r queue.Report) [][]printable.Text {
	rows := [][]printable.Text{cells("PAYER", "MESSAGES", "RECIPIENTS", "HELD", "FROZEN", "BOUNCES", "OLDEST", "TOP-SENDER")}
	for _, s := range r.Payers {
		held, sender := "?", "-"
		if r.HeldKnown {
			held = fmt.Sprint(s.Held)
		}
		if s.Author.Name != "" {
			sender = fmt.Sprintf("%s %d%%", s.Author.Name, s.Author.Messages*100/s.Messages)
		}
		rows = append(rows, cells(cmp.Or(s.Payer, "-"), s.Messages, s.Recipients, held, s.Frozen, s.Bounces,
			printable.Brief(r.Now.Sub(s.Oldest)), sender))
	}
	return rows
}

func messageRows(r queue.Report) [][]printable.Text {
	rows := [][]printable.Text{cells("ID", "AGE", "SIZE", "RECIPIENTS", "STATE", "PAYER", "AUTHOR", "SENDER", "MOSTLY-TO")}
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
		rows = append(rows, cells(m.ID, printable.Brief(r.Now.Sub(m.Arrived)), m.Size, m.Recipients, state,
			cmp.Or(m.Payer, "-"), cmp.Or(m.Author, "-"), cmp.Or(senderText(m), "-"), cmp.Or(m.To, "-")))
	}
	return rows
}

// senderText is the envelope sender of a message.
func senderText(m queue.Message) string {
	if m.Sender == "" && !m.Unknown {
		return "<>"
	}
	return m.Sender
}
