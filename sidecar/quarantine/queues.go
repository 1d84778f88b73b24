package quarantine

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/exim"
)

// An Exim runs Exim's own program, which returns what it has printed. An error is that it could
// not be run, and not that nothing was done to a message.
type Exim interface {
	Act(ctx context.Context, queue string, ids []string, options ...string) (said string, err error)
	// RetryEnd is for how long Exim tries mail for a domain; false: it does not say.
	RetryEnd(ctx context.Context, domain string) (time.Duration, bool)
}

// Queues are the queues of an Exim.
type Queues struct {
	Exim      Exim
	Directory string // Exim's spool_directory
	Late      Late
	// Again waits a moment, and reports whether to try again what Exim would not do, as a rule
	// because it delivers the message just then.
	Again func(ctx context.Context) bool
}

// A Place is where a message is, or was.
type Place struct {
	ID    string `json:"id"`
	Queue string `json:"queue,omitempty"` // empty: Exim's main one
}

// A Result is what became of messages that something was to be done to. Each is in one of Done,
// Gone and Left.
type Result struct {
	Done  []Place  `json:"done"`            // it was done; of what was moved: where it was, or is again
	Gone  []string `json:"gone,omitempty"`  // are not where they were any more: delivered, removed or moved by others
	Left  []string `json:"left,omitempty"`  // Exim would not, or was not asked because of an error
	Twice []string `json:"twice,omitempty"` // of Done and Left: were in two queues, and one was removed
	Late  int      `json:"late,omitempty"`  // of what was restored: older than the site's retry rules
	Said  string   `json:"said,omitempty"`  // what Exim has said last, if something is left
}

// atOnce is how many messages one process of Exim is given. It moves so many in a second or two.
const atOnce = 500

// A state is what became of one message.
type state int

const (
	done state = iota
	gone
	left
)

// A job is something that Exim is to do to messages.
type job struct {
	to      func(Place) string // the queue that a message is to be in; nil: where it is
	options func(to string) []string
	look    func(ctx context.Context, p Place, r *Result) state // what became of a message
}

// A batch is what one process of Exim is given.
type batch struct {
	from, to string
	messages []Place
}

// do has Exim do a job until it is done to each message, or was tried long enough.
func (q Queues) do(ctx context.Context, messages []Place, j job) (r Result, err error) {
	said := ""
	for len(messages) > 0 {
		var again []Place
		for _, b := range batches(messages, j.to) {
			if err == nil {
				err = ctx.Err()
			}
			if err == nil {
				said, err = q.Exim.Act(ctx, b.from, idsOf(b.messages), j.options(b.to)...)
			}
			again = append(again, r.sort(ctx, b.messages, j)...)
		}
		if messages = again; len(again) == 0 || err != nil || !q.Again(ctx) {
			break
		}
	}
	if r.Left = idsOf(messages); len(r.Left) > 0 {
		r.Said = lastLine(said)
	}
	return r, err
}

// sort looks at each of some messages, and returns those to which it has not been done.
func (r *Result) sort(ctx context.Context, messages []Place, j job) (again []Place) {
	for _, p := range messages {
		switch j.look(ctx, p, r) {
		case done:
			r.Done = append(r.Done, p)
		case gone:
			r.Gone = append(r.Gone, p.ID)
		case left:
			again = append(again, p)
		}
	}
	return again
}

// batches are messages by where they are and where they are to be.
func batches(messages []Place, to func(Place) string) (all []batch) {
	if to == nil {
		to = func(p Place) string { return p.Queue }
	}
	sorted := slices.Clone(messages)
	slices.SortStableFunc(sorted, func(a, b Place) int { return cmp.Or(strings.Compare(a.Queue, b.Queue), strings.Compare(to(a), to(b))) })
	for _, p := range sorted {
		n := len(all)
		if n == 0 || all[n-1].from != p.Queue || all[n-1].to != to(p) || len(all[n-1].messages) == atOnce {
			all, n = append(all, batch{from: p.Queue, to: to(p)}), n+1
		}
		all[n-1].messages = append(all[n-1].messages, p)
	}
	return all
}

// There are those of some messages that are where they should be.
func (q Queues) There(messages []Place) []Place {
	return slices.DeleteFunc(messages, func(p Place) bool { return !q.has(p.ID, p.Queue) })
}

// has reports whether a message is in a queue.
func (q Queues) has(id, queue string) bool {
	_, is := exim.FindSpoolFile(q.Directory, queue, id)
	return is
}

func idsOf(messages []Place) []string {
	ids := make([]string, len(messages))
	for i, p := range messages {
		ids[i] = p.ID
	}
	return ids
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}
