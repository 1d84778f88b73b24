package remedy

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"time"

	"sluice/sidecar/action"
	"sluice/sidecar/exim"
	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/printable"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/queue"
)

// A Queue is Exim's queue of this host, read by this program itself.
type Queue struct {
	Host      *Host
	Node      string
	Exim      exim.Exim
	Directory string // its spool_directory
	Mainlog   string // of Exim, as the configuration has it
	Index     *queue.Index
	Logs      []string // to read instead of the main log of the last days; empty: none
}

// ErrNotExim says what to use where the queue is not Exim's.
var ErrNotExim = errors.New(queue.NotExim)

// Read reads the queue from its spool, and if that is asked for, whose mail bounces answer from the log.
func (q *Queue) Read(ctx context.Context, byLog bool) error {
	if byLog {
		if err := q.readLog(time.Now()); err != nil {
			q.Host.Say(fmt.Sprintf("What bounces answer is not known: %v", err))
		}
	}
	q.Index.Sweep(ctx, time.Now(), true)
	return cmp.Or(q.Index.Trouble(), ctx.Err())
}

// logDays is how much of the log is read for bounces: Exim gives up on most mail within it.
const logDays = 5

// readLog has the index read the log of the last days.
func (q *Queue) readLog(now time.Time) error {
	names := q.Logs
	if len(names) == 0 {
		all, err := mainlog.Files(q.Mainlog, now)
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
	return q.Host.ReadLog(history, observer{q.Index})
}

// An observer tells an index what a log has.
type observer struct{ index *queue.Index }

// Prepare implements mainlog.Reader.
func (o observer) Prepare(entries []logline.Entry) func(context.Context) [][]logline.Entry {
	return func(context.Context) [][]logline.Entry {
		o.index.Observe(entries)
		return [][]logline.Entry{entries}
	}
}

// Queues are Exim's, for acting on them. What it delivers just then is tried again until follow
// is over.
func (q *Queue) Queues(follow time.Duration) quarantine.Queues {
	until := time.Now().Add(follow)
	return quarantine.Queues{Exim: q.Exim, Directory: q.Directory, Late: q.Late(), Again: func(ctx context.Context) bool {
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

// AloneAtQueue waits until no other command moves messages of Exim's queue, and keeps them from
// it until end is called: what one moves just then, another one could take for half moved.
func (h *Host) AloneAtQueue(ctx context.Context) (end func(), err error) {
	record, err := action.Open(h.Record)
	if err != nil {
		return nil, err
	}
	return record.Await(ctx, "acting on Exim's queue", func() {
		h.Say("waiting until another command has done what it does to the queue; ^C ends only this one")
	})
}

// Mend is mend, while no other command moves messages.
func (q *Queue) Mend(ctx context.Context) (twice []string, err error) {
	end, err := q.Host.AloneAtQueue(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	return q.mend(ctx)
}

// mend removes from the quarantine what an interrupted move has left in another queue too, with a
// record of it: none of that must be delivered twice. It returns the ids.
func (q *Queue) mend(ctx context.Context) (twice []string, err error) {
	queues := q.Queues(0)
	halves, err := queues.Halves(ctx)
	if err != nil || len(halves) == 0 {
		return nil, err
	}
	a := action.Action{Verb: quarantine.Mend, Why: "a move was interrupted"}
	_, err = q.Host.Act(a, quarantine.Values{Messages: halves}, func(int) (any, error) {
		r, err := queues.Mend(ctx, halves)
		twice = r.Twice
		return r, err
	})
	return twice, err
}

// Late is the list of senders whose mail may be late.
func (q *Queue) Late() quarantine.Late {
	late := quarantine.Late{Path: quarantine.LatePath}
	if u, err := user.Lookup(q.Exim.User); err == nil {
		late.Group, _ = strconv.Atoi(u.Gid) // a number on every Unix
	}
	return late
}

// ShownIDs is how many ids are named of messages to which something was not done.
const ShownIDs = 20

// Follow is how long what Exim delivers just then is tried again where nobody has said how long.
const Follow = 10 * time.Second

// undoQueue takes back what was done to messages of the queue, as far as they are still as that has
// left them.
func (h *Host) undoQueue(ctx context.Context, a action.Action) (did string, err error) {
	q, err := h.Queue(ctx, nil)
	if err != nil {
		return "", err
	}
	end, err := h.AloneAtQueue(ctx)
	if err != nil {
		return "", err
	}
	defer end()
	if _, err := q.mend(ctx); err != nil {
		return "", err
	}
	all, err := h.Actions()
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(all, func(b action.Action) bool { return b.Number == a.Number }); i >= 0 {
		a = all[i] // it may have ended while this waited
	}
	queues := q.Queues(Follow)
	back, err := queues.Undo(&a, all)
	if err != nil {
		return "", err
	}
	r, err := queues.Do(ctx, time.Now(), back.Verb, back.Messages)
	did = fmt.Sprintf("%s of %s", strings.TrimPrefix(string(back.Verb), "queue-"), printable.Count(int64(len(r.Done)), "message", "messages"))
	back.Changed += len(r.Gone)
	if rest := back.Rest(); rest != "" {
		did += "; " + rest
	}
	if n := len(r.Twice); n > 0 {
		did += fmt.Sprintf("; %d were in two queues, and the one in the quarantine was removed: %s", n, strings.Join(r.Twice, " "))
	}
	if n := len(r.Left); n > 0 && err == nil {
		err = fmt.Errorf("%d of %d messages are as they were, for Exim delivers them, or will not: %q", n, len(back.Messages), r.Said)
	}
	return did, err
}
