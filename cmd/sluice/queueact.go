package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
	"sluice/sidecar/printable"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/queue"
	"sluice/sidecar/remedy"
)

// actFlags are the flags of what is done to messages of the queue.
type actFlags struct {
	selectors
	DryRun bool   `help:"Only show what would be done."`
	Yes    bool   `help:"Do not ask."`
	Max    *int   `placeholder:"N" help:"Do nothing if it is more than N messages."`
	Why    string `placeholder:"TEXT" help:"Kept in the record of actions."`
	Follow string `default:"10s" placeholder:"TIME" help:"For how long to try again what Exim delivers just now (default: 10s)."`
	jsonFlag
}

// A queueAct is something that is done to messages of the queue.
type queueAct struct {
	verb    action.Verb
	name    string // of the command
	command string // of Exim
	unasked int    // up to so many messages are not asked about
	undone  bool   // sluice undo takes it back
	warning string
	drop    func(queue.Message) bool // which of the selected messages are left out; nil: none
	dropped string                   // why they are
	left    string                   // what is said of messages to which it was not done
}

// An acted is what was done, for --json.
type acted struct {
	Action   int    `json:"action"` // its number; 0: nothing was done
	Verb     string `json:"verb"`
	Selected int    `json:"selected"`
	quarantine.Result
	Unrecorded []string        `json:"unrecorded,omitempty"` // of restore: put into the quarantine by others than this program
	Messages   []queue.Message `json:"messages,omitempty"`   // of --dry-run
	Warning    string          `json:"warning"`
}

// A queueWork is the work of one command.
type queueWork struct {
	actFlags
	queueAct
	*remedy.Queue
	t        *terminal
	now      time.Time
	follow   time.Duration
	messages []queue.Message
	leftOut  int // that were selected too, by drop
	acted    acted
}

// act does something to the selected messages: it shows which they are, asks, records it, and says
// what has become of each.
func (c actFlags) act(t *terminal, a queueAct) error {
	if err := needRoot("queue " + a.name); err != nil {
		return err
	}
	w := &queueWork{actFlags: c, queueAct: a, t: t, now: time.Now()}
	if err := w.run(); err != nil {
		return fmt.Errorf("queue %s: %w", a.name, err)
	}
	return nil
}

func (w *queueWork) run() error {
	err := w.find()
	if err != nil {
		return err
	}
	places, err := w.places()
	switch {
	case err != nil:
		return err
	case len(places) == 0 && len(w.acted.Unrecorded) > 0:
		return w.printDone()
	case len(places) == 0 && w.leftOut > 0:
		return no{fmt.Errorf("no message is like that but %d that %s", w.leftOut, w.dropped)}
	case len(places) == 0:
		return no{errors.New("no message is like that")}
	case w.Max != nil && len(places) > *w.Max:
		return no{fmt.Errorf("that are %d messages, more than --max %d: nothing was done", len(places), *w.Max)}
	}
	w.acted.Verb, w.acted.Selected, w.acted.Warning = w.name, len(places), w.warning
	if err := w.plan(len(places)); err != nil || w.DryRun {
		return err
	}
	if err := w.do(places); err != nil {
		return err
	}
	return w.printDone()
}

// find finds the messages.
func (w *queueWork) find() (err error) {
	if w.none() {
		return fmt.Errorf("say which messages: sluice queue %s --help; all are those that came within 100 days: --younger 100d", w.name)
	}
	s, err := w.selection(w.now)
	if err != nil {
		return err
	}
	if w.follow, err = parseTime("--follow", w.Follow); err != nil {
		return err
	}
	held := heldNow(w.t)
	if w.Held && held == nil {
		return errHeldUnknown
	}
	if w.Queue, err = w.t.openQueue(w.t.host(), held); err != nil {
		return err
	}
	if !w.DryRun {
		if w.acted.Twice, err = w.Mend(w.t.ctx); err != nil {
			return err
		}
	}
	if err = w.Read(w.t.ctx, s.Scope != "" || s.BouncesOf != ""); err != nil {
		return err
	}
	if w.messages, err = w.Index.Select(w.now, s); err != nil {
		return err
	}
	if w.drop != nil {
		selected := len(w.messages)
		w.messages = slices.DeleteFunc(w.messages, w.drop)
		w.leftOut = selected - len(w.messages)
	}
	return nil
}

// places are where the messages are; of those to be restored, where they came from.
func (w *queueWork) places() (places []quarantine.Place, err error) {
	if w.verb != quarantine.Restore {
		for _, m := range w.messages {
			places = append(places, quarantine.Place{ID: m.ID, Queue: m.Queue})
		}
		return places, nil
	}
	actions, err := w.Host.Actions()
	if err != nil {
		return nil, err
	}
	origins, err := quarantine.Origins(actions)
	if err != nil {
		return nil, err
	}
	for _, m := range w.messages {
		if from, recorded := origins[m.ID]; recorded {
			places = append(places, quarantine.Place{ID: m.ID, Queue: from})
		} else {
			w.acted.Unrecorded = append(w.acted.Unrecorded, m.ID)
		}
	}
	return places, nil
}

// shownSamples is how many messages are shown before it is asked.
const shownSamples = 3

// plan shows what is about to be done, and asks.
func (w *queueWork) plan(n int) error {
	if w.JSON && w.DryRun {
		w.acted.Messages = w.messages
		return printJSON(w.t.stdout, w.acted)
	}
	out := w.t.stderr // so that --json prints nothing else
	if !w.JSON {
		out = w.t.stdout
	}
	size, authors := int64(0), map[string]int{}
	for _, m := range w.messages {
		size += m.Size
		authors[m.Author]++
	}
	printf(out, "%s: %s, %s, of %s, the oldest of %s   [%s]\n", w.name, printable.Count(int64(n), "message", "messages"), bytesText(size),
		printable.Count(int64(len(authors)), "sender", "senders"), printable.DateTime(w.messages[0].Arrived), w.command)
	for _, m := range w.messages[:min(n, shownSamples)] {
		printf(out, "  %s  from %s to %s: %s\n", m.ID, senderText(m), m.To, w.subject(m))
	}
	if w.warning != "" {
		fmt.Fprintln(out, "  "+w.warning)
	}
	if w.DryRun || w.Yes || n <= w.unasked {
		return nil
	}
	return w.t.confirm("do?")
}

// subject is the subject of a message, "" if it has none.
func (w *queueWork) subject(m queue.Message) string {
	file, there := exim.FindSpoolFile(w.Directory, m.Queue, m.ID)
	if !there {
		return ""
	}
	h, _ := file.Header()
	return h.Subject
}

// do does it, with a record.
func (w *queueWork) do(places []quarantine.Place) (err error) {
	if w.verb != quarantine.Flush { // which takes long, and moves nothing
		end, err := w.Host.AloneAtQueue(w.t.ctx)
		if err != nil {
			return err
		}
		defer end()
	}
	did := false
	w.acted.Action, err = w.Host.Act(action.Action{Verb: w.verb, Whom: w.whom(), Why: w.Why}, quarantine.Values{Messages: places}, func(int) (any, error) {
		r, err := w.Queues(w.follow).Do(w.t.ctx, w.now, w.verb, places)
		r.Twice = append(w.acted.Twice, r.Twice...)
		w.acted.Result, did = r, true
		return r, err
	})
	if did {
		err = errors.Join(err, w.tidy())
	}
	return err
}

// whom is what the record says of the messages that were selected.
func (w *queueWork) whom() string { return string(cmp.Or(w.Scope, w.BouncesOf)) }

// printDone says what was done.
func (w *queueWork) printDone() error {
	r, out := w.acted, w.t.stdout
	if w.JSON {
		if err := printJSON(out, r); err != nil {
			return err
		}
	} else {
		printf(out, "%s: done to %d of %d", w.name, len(r.Done), r.Selected)
		if w.undone && len(r.Done) > 0 {
			printf(out, "; undo: %s", remedy.UndoCommand(w.Node, r.Action))
		}
		fmt.Fprintln(out)
		w.printIDs("%d were delivered, removed or moved by others meanwhile: %s\n", r.Gone)
		w.printIDs("%d were in two queues, and the one in the quarantine was removed: %s\n", r.Twice)
		if r.Late > 0 {
			printf(out, "%s older than Exim's retry rule, or will soon be: what their senders send is tried for 30 days until they have left the queue (%s)\n",
				printable.Count(int64(r.Late), "is", "are"), quarantine.LatePath)
		}
		w.printIDs("%d are not in the record of actions, so nobody knows from where they came: %s; exim -qG"+logline.QuarantineQueue+" -MG '' ID\n", r.Unrecorded)
		w.printIDs("%d "+w.left+": %s\n", r.Left)
	}
	switch {
	case len(r.Left) > 0 && r.Said != "":
		return no{fmt.Errorf("%d of %d %s; the last that Exim has said: %q", len(r.Left), r.Selected, w.left, r.Said)}
	case len(r.Left) > 0:
		return no{fmt.Errorf("%d of %d %s", len(r.Left), r.Selected, w.left)}
	case len(r.Unrecorded) > 0:
		return no{fmt.Errorf("%d more are in the quarantine, and on no record", len(r.Unrecorded))}
	}
	return nil
}

// printIDs says of how many messages something is true, and names them.
func (w *queueWork) printIDs(format string, ids []string) {
	if len(ids) == 0 {
		return
	}
	names := strings.Join(ids[:min(len(ids), remedy.ShownIDs)], " ")
	if len(ids) > remedy.ShownIDs {
		names += " ..."
	}
	printf(w.t.stdout, format, len(ids), names)
}

// tidy takes those out of the list of late senders of whom nothing is in the queue any more.
func (w *queueWork) tidy() error {
	queued := map[string]bool{}
	err := exim.WalkSpool(w.Directory, func(f exim.SpoolFile) bool {
		queued[f.ID] = true
		return true
	})
	if err != nil {
		return err
	}
	return w.Late().Tidy(func(id string) bool { return queued[id] })
}

// quarantineText says what is in the quarantine.
func quarantineText(now time.Time, a queue.Aside) string {
	return fmt.Sprintf("quarantined: %s, %s, the oldest came %s ago: sluice queue --quarantined --list",
		printable.Count(a.Messages, "message", "messages"), bytesText(a.Size), printable.Brief(now.Sub(a.Oldest)))
}

// bytesText is a size for reading.
func bytesText(n int64) string {
	for _, unit := range []struct {
		size int64
		name string
	}{{1 << 30, "GiB"}, {1 << 20, "MiB"}, {1 << 10, "KiB"}} {
		if n >= unit.size {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(unit.size), unit.name)
		}
	}
	return fmt.Sprintf("%d bytes", n)
}
