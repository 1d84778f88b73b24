package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/clean"
	"sluice/sidecar/exim"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/queue"
)

// cleanFollow is how long what Exim delivers just then is tried again.
const cleanFollow = 10 * time.Second

// A queueStep takes the author's mail, and the bounces that it has caused, out of the queue.
type queueStep struct {
	t    *terminal
	logs []string // by which it is known what bounces answer; empty: Exim's main log of the last days
}

// Name implements clean.Step.
func (s queueStep) Name() string { return clean.Queue }

// A queuedMail is what of the queue belongs to a case.
type queuedMail struct {
	own, bounces []queue.Message
	older        int // of own, that came before
}

func (m *queuedMail) places() (places []quarantine.Place) {
	for _, message := range slices.Concat(m.own, m.bounces) {
		places = append(places, quarantine.Place{ID: message.ID, Queue: message.Queue})
	}
	return places
}

// find reads the queue.
func (s queueStep) find(c clean.Case) (q *localQueue, m queuedMail, err error) {
	if q, err = openLocalQueue(s.t, nil); err != nil {
		return nil, m, err
	}
	q.logs = s.logs
	if err = q.read(s.t, true); err != nil {
		return nil, m, err
	}
	now := time.Now()
	all, err := q.index.Select(now, queue.Selection{Scope: c.Author.Key})
	if err != nil {
		return nil, m, err
	}
	for _, message := range all {
		switch {
		case message.Sender == "":
		case !c.All && message.Arrived.Before(c.Since):
			m.older++
		default:
			m.own = append(m.own, message)
		}
	}
	bounces := queue.Selection{BouncesOf: c.Author.Key, Since: c.Since}
	if c.All {
		bounces.Since = time.Time{}
	}
	m.bounces, err = q.index.Select(now, bounces)
	return q, m, err
}

// Plan implements clean.Step.
func (s queueStep) Plan(_ context.Context, c clean.Case) (p clean.Plan, err error) {
	q, m, err := s.find(c)
	if errors.Is(err, errNotExim) {
		return clean.Plan{Nothing: "this node's queue is not Exim's; in Postfix's: postqueue -p, postsuper -h"}, nil
	}
	if err != nil {
		return p, err
	}
	since := "--since '" + sidecar.DateTime(c.Since) + "'"
	if c.All {
		since = "--younger 100d"
	}
	if n := len(m.own); n > 0 {
		text := fmt.Sprintf("%s of it to quarantine", sidecar.Count(int64(n), "message", "messages"))
		if m.older > 0 {
			text += fmt.Sprintf(" (%d older left; --all takes them)", m.older)
		}
		if c.Author.Proof != sidecar.Proven {
			text += q.samples(m.own)
		}
		p.Lines = append(p.Lines, clean.Line{Text: text, Command: sidecar.Command("sluice queue quarantine "+since, c.Author.Key)})
	}
	if n := len(m.bounces); n > 0 {
		frozen := 0
		for _, b := range m.bounces {
			if b.Frozen != nil {
				frozen++
			}
		}
		p.Lines = append(p.Lines, clean.Line{Text: fmt.Sprintf("%s that its mail has caused (%d frozen)", sidecar.Count(int64(n), "bounce", "bounces"), frozen),
			Command: sidecar.Command("sluice queue quarantine "+since+" --bounces-of", c.Author.Key)})
	}
	if p.Nothing = "nothing of it is in the queue"; m.older > 0 {
		p.Nothing = fmt.Sprintf("only %s of it, which --all takes", sidecar.Count(int64(m.older), "older message", "older messages"))
	}
	return p, nil
}

// mostSamples is how many subjects and domains are shown of mail of which it is not proven whose it is.
const mostSamples = 3

// samples are subjects of messages, and to where they go.
func (q *localQueue) samples(all []queue.Message) string {
	var subjects, domains []string
	for _, m := range all {
		if len(domains) < mostSamples && m.To != "" && !slices.Contains(domains, m.To) {
			domains = append(domains, m.To)
		}
		if len(subjects) == mostSamples {
			continue
		}
		if file, there := exim.FindSpoolFile(q.spool, m.Queue, m.ID); there {
			if h, err := file.Header(); err == nil && h.Subject != "" && !slices.Contains(subjects, h.Subject) {
				subjects = append(subjects, h.Subject)
			}
		}
	}
	return fmt.Sprintf("; subjects: %q; to: %s", subjects, strings.Join(domains, ", "))
}

// Do implements clean.Step. What has come since the plan goes too.
func (s queueStep) Do(ctx context.Context, c clean.Case, _ clean.Plan) (done clean.Done, err error) {
	q, m, err := s.find(c)
	if err != nil {
		return done, err
	}
	places := m.places()
	if len(places) == 0 {
		done.Text = "nothing of it is in the queue any more"
		return done, nil
	}
	end, err := s.t.aloneAtQueue()
	if err != nil {
		return done, err
	}
	defer end()
	var r quarantine.Result
	a := action.Action{Verb: quarantine.Quarantine, Whom: c.Author.Key, Incident: c.Incident, Part: c.Number, Why: "sluice clean"}
	n, err := s.t.act(a, quarantine.Values{Messages: places}, func(int) (any, error) {
		r, err = q.queues(cleanFollow).Quarantine(ctx, places)
		if n := len(r.Left); n > 0 && err == nil {
			err = fmt.Errorf("%d of %d messages are as they were, for Exim delivers them: %s", n, len(places), strings.Join(r.Left[:min(n, shownIDs)], " "))
		}
		return r, err
	})
	if n > 0 {
		done.Actions = []int{n}
	}
	done.Text = fmt.Sprintf("%d of %d messages are in the quarantine", len(r.Done), len(places))
	if len(r.Gone) > 0 {
		done.Text += fmt.Sprintf(", %d were delivered, removed or moved by others meanwhile", len(r.Gone))
	}
	return done, err
}

// undoQueue takes back what was done to messages of the queue, as far as they are still as that has
// left them.
func (t *terminal) undoQueue(a action.Action) (did string, err error) {
	q, err := openLocalQueue(t, nil)
	if err != nil {
		return "", err
	}
	end, err := t.aloneAtQueue()
	if err != nil {
		return "", err
	}
	defer end()
	if _, err := q.mend(t); err != nil {
		return "", err
	}
	all, err := t.allActions()
	if err != nil {
		return "", err
	}
	if i := slices.IndexFunc(all, func(b action.Action) bool { return b.Number == a.Number }); i >= 0 {
		a = all[i] // it may have ended while this waited
	}
	queues := q.queues(cleanFollow)
	back, err := queues.Undo(&a, all)
	if err != nil {
		return "", err
	}
	r, err := queues.Do(t.ctx, time.Now(), back.Verb, back.Messages)
	did = fmt.Sprintf("%s of %s", strings.TrimPrefix(string(back.Verb), "queue-"), sidecar.Count(int64(len(r.Done)), "message", "messages"))
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
