package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/exim"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/queue"
	"sluice/sidecar/settings"
	"sluice/sidecar/simulate"
)

// selectors are the flags that say which messages of the queue are meant.
type selectors struct {
	Scope       string `arg:"" predictor:"scope" optional:"" help:"Only mail of this payer or sender, as the table or sluice who shows it, and bounces of it."`
	BouncesOf   string `placeholder:"SCOPE" help:"Only bounces, of mail of this payer or sender."`
	Sender      string `placeholder:"TEXT" help:"Only with this in the envelope sender, which anybody can choose; ~TEXT is a regular expression."`
	Recipient   string `placeholder:"TEXT" help:"Only with this in a recipient that is left; ~TEXT is a regular expression."`
	Subject     string `placeholder:"TEXT" help:"Only with this in the subject; ~TEXT is a regular expression."`
	To          string `placeholder:"HOST" help:"Only with a recipient left in this domain, or in one whose mail this host has deferred last."`
	ID          string `name:"id" placeholder:"ID" help:"Only this message, wherever it is."`
	Queue       string `placeholder:"NAME" help:"Only what is in this named queue of Exim."`
	Frozen      bool   `help:"Only frozen messages."`
	Held        bool   `help:"Only messages that sluice holds."`
	Bounces     bool   `help:"Only messages with a null sender: bounces and automatic answers."`
	Quarantined bool   `help:"Only what is in the quarantine, which is left out otherwise."`
	Older       string `placeholder:"TIME" help:"Only what came before this time: 90m, 24h, 7d."`
	Younger     string `placeholder:"TIME" help:"Only what came within this time."`
	Since       string `placeholder:"TIME" help:"Only what came at this time or later: 10:47, or \"2026-11-29 10:47\"."`
	Until       string `placeholder:"TIME" help:"Only what came before this time."`
}

// none reports whether nothing is selected: all is meant.
func (c selectors) none() bool { return c == selectors{} }

func (c selectors) selection(now time.Time) (s queue.Selection, err error) {
	s = queue.Selection{Sender: c.Sender, Recipient: c.Recipient, Subject: c.Subject, To: c.To, ID: c.ID, Queue: c.Queue,
		Frozen: c.Frozen, Held: c.Held, Bounces: c.Bounces, Quarantined: c.Quarantined}
	for _, scope := range []struct {
		text string
		to   *string
	}{{c.Scope, &s.Scope}, {c.BouncesOf, &s.BouncesOf}} {
		if scope.text == "" {
			continue
		}
		if *scope.to, err = simulate.CanonicalScope(scope.text); err != nil {
			return s, err
		}
	}
	if s.Older, err = parseTime("--older", c.Older); err != nil {
		return s, err
	}
	if s.Younger, err = parseTime("--younger", c.Younger); err != nil {
		return s, err
	}
	if s.Since, err = parseMoment("--since", c.Since, now); err == nil {
		s.Until, err = parseMoment("--until", c.Until, now)
	}
	return s, err
}

// parseMoment is a time of day, today or if that is to come yesterday, or a date with it, in the
// time zone of this program; zero for "".
func parseMoment(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	for _, layout := range []string{"15:04", "15:04:05"} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			at = time.Date(now.Year(), now.Month(), now.Day(), at.Hour(), at.Minute(), at.Second(), 0, now.Location())
			if at.After(now) {
				at = at.AddDate(0, 0, -1)
			}
			return at, nil
		}
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05 -0700"} { // the second is sidecar.DateTime's
		if at, err := time.Parse(layout, text); err == nil {
			return at, nil
		}
	}
	for _, layout := range []string{"2006-01-02 15:04", "2006-01-02 15:04:05", time.DateOnly} {
		if at, err := time.ParseInLocation(layout, text, now.Location()); err == nil {
			return at, nil
		}
	}
	return time.Time{}, fmt.Errorf("%s is %q, it must be a time like 10:47, or \"2026-11-29 10:47\"", flag, text)
}

// A localQueue is Exim's queue of this host, read by this program itself.
type localQueue struct {
	node   string
	exim   exim.Exim
	spool  string // its directory
	config *config.Config
	index  *queue.Index
	logs   []string // to read instead of the main log of the last days; empty: none
}

// errNotExim says what to use where the queue is not Exim's.
var errNotExim = errors.New("if this node's queue is Postfix's: postqueue -p, and postsuper -h or -d (sluice stop works there too)")

// openLocalQueue finds Exim's queue. What of it is held only a running sluice knows: held, nil if none runs.
func openLocalQueue(t *terminal, held func() map[string]int) (*localQueue, error) {
	no := false
	o, _, err := foreignFlag{Foreign: &no}.settingsFor(t, nil)
	if err != nil {
		return nil, err
	}
	q := &localQueue{node: o.Node, exim: exim.Find(t.ctx, o.Config.Exim.Binary), config: o.Config}
	if q.spool = spoolOf(t.ctx, o.Config, q.exim); q.spool == "" {
		return nil, fmt.Errorf("%s does not say where Exim's queue is: set exim.spool_directory; %w", o.Config.Exim.Binary, errNotExim)
	}
	s, err := settings.New(settings.Sources{Config: o.Config, Panel: o.Panel}, settings.Host{Node: o.Node, EximUser: o.EximUser, Own: o.Own}, nil)
	if err != nil {
		return nil, err
	}
	q.index = newQueue(q.spool, func() *settings.Settings { return s }, held, nil)
	return q, nil
}

// read reads the queue from its spool, and if that is asked for, whose mail bounces answer from the log.
func (q *localQueue) read(t *terminal, byLog bool) error {
	if byLog {
		if err := q.readLog(t, time.Now()); err != nil {
			printf(t.stderr, "What bounces answer is not known: %v\n", err)
		}
	}
	q.index.Sweep(t.ctx, time.Now(), true)
	return cmp.Or(q.index.Trouble(), t.ctx.Err())
}

// logDays is how much of the log is read for bounces: Exim gives up on most mail within it.
const logDays = 5

// readLog has the index read the log of the last days.
func (q *localQueue) readLog(t *terminal, now time.Time) error {
	names := q.logs
	if len(names) == 0 {
		all, err := mainlog.Files(q.config.Exim.Mainlog, now)
		if err != nil {
			return err
		}
		names = slices.DeleteFunc(all, func(name string) bool {
			info, err := os.Stat(name)
			return err != nil || !info.ModTime().After(now.AddDate(0, 0, -logDays))
		})
	}
	history, err := mainlog.OpenHistory(names, time.Local)
	if err != nil {
		return err
	}
	defer history.Close()
	return readLogs(t, history, observer{q.index})
}

// An observer tells an index what a log has.
type observer struct{ index *queue.Index }

// Prepare implements mainlog.Reader.
func (o observer) Prepare(entries []sidecar.LogEntry) func(context.Context) [][]sidecar.LogEntry {
	return func(context.Context) [][]sidecar.LogEntry {
		o.index.Observe(entries)
		return [][]sidecar.LogEntry{entries}
	}
}

// queues are Exim's, for acting on them. What it delivers just then is tried again until follow
// is over.
func (q *localQueue) queues(follow time.Duration) quarantine.Queues {
	until := time.Now().Add(follow)
	return quarantine.Queues{Exim: q.exim, Directory: q.spool, Late: q.late(), Again: func(ctx context.Context) bool {
		if time.Now().After(until) {
			return false
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(time.Second):
			return true
		}
	}}
}

// aloneAtQueue waits until no other command moves messages of Exim's queue, and keeps them from
// it until end is called: what one moves just then, another one could take for half moved.
func (t *terminal) aloneAtQueue() (end func(), err error) {
	record, err := action.Open(t.actions)
	if err != nil {
		return nil, err
	}
	return record.Await(t.ctx, "acting on Exim's queue", func() {
		fmt.Fprintln(t.stderr, "waiting until another command has done what it does to the queue; ^C ends only this one")
	})
}

// mendAlone is mend, while no other command moves messages.
func (q *localQueue) mendAlone(t *terminal) (twice []string, err error) {
	end, err := t.aloneAtQueue()
	if err != nil {
		return nil, err
	}
	defer end()
	return q.mend(t)
}

// mend removes from the quarantine what an interrupted move has left in another queue too, with a
// record of it: none of that must be delivered twice. It returns the ids.
func (q *localQueue) mend(t *terminal) (twice []string, err error) {
	queues := q.queues(0)
	halves, err := queues.Halves(t.ctx)
	if err != nil || len(halves) == 0 {
		return nil, err
	}
	a := action.Action{Verb: quarantine.Mend, Why: "a move was interrupted"}
	_, err = t.act(a, quarantine.Values{Messages: halves}, func(int) (any, error) {
		r, err := queues.Mend(t.ctx, halves)
		twice = r.Twice
		return r, err
	})
	return twice, err
}

// late is the list of senders whose mail may be late.
func (q *localQueue) late() quarantine.Late {
	late := quarantine.Late{Path: quarantine.LatePath}
	if u, err := user.Lookup(q.exim.User); err == nil {
		late.Group, _ = strconv.Atoi(u.Gid) // a number on every Unix
	}
	return late
}

// heldNow asks the running sluice what it holds; nil if none runs.
func heldNow(t *terminal) func() map[string]int {
	held := map[string]int{}
	r, err := ask(t, "queue", func(a *admin.Client) (queue.Report, error) {
		return a.Queue(t.ctx, queue.Selection{Held: true, Top: 1, List: admin.MaxListed})
	})
	if err != nil {
		return nil
	}
	for _, m := range r.List {
		held[m.ID] = int(m.Held)
	}
	return func() map[string]int { return held }
}
