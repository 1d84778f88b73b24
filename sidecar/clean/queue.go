package clean

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/action"
	"sluice/sidecar/exim"
	"sluice/sidecar/printable"
	"sluice/sidecar/quarantine"
	"sluice/sidecar/queue"
	"sluice/sidecar/remedy"
)

// A queueStep takes the author's mail, and the bounces that it has caused, out of the queue.
type queueStep struct {
	host *remedy.Host
	logs []string // by which it is known what bounces answer; empty: Exim's main log of the last days
}

// Name implements Step.
func (s queueStep) Name() string { return Queue }

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
func (s queueStep) find(ctx context.Context, c Case) (q *remedy.Queue, m queuedMail, err error) {
	if q, err = s.host.Queue(ctx, nil); err != nil {
		return nil, m, err
	}
	q.Logs = s.logs
	if err = q.Read(ctx, true); err != nil {
		return nil, m, err
	}
	now := time.Now()
	all, err := q.Index.Select(now, queue.Selection{Scope: c.Author.Key})
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
	m.bounces, err = q.Index.Select(now, bounces)
	return q, m, err
}

// Plan implements Step.
func (s queueStep) Plan(ctx context.Context, c Case) (p Plan, err error) {
	q, m, err := s.find(ctx, c)
	if errors.Is(err, remedy.ErrNotExim) {
		return Plan{Nothing: "no queue of Exim was found; in Postfix's: postqueue -p, postsuper -h; in Sendmail's: mailq"}, nil
	}
	if err != nil {
		return p, err
	}
	since := "--since '" + printable.DateTime(c.Since) + "'"
	if c.All {
		since = "--younger 100d"
	}
	if n := len(m.own); n > 0 {
		text := fmt.Sprintf("%s of it to quarantine", printable.Count(int64(n), "message", "messages"))
		if m.older > 0 {
			text += fmt.Sprintf(" (%d older left; --all takes them)", m.older)
		}
		if c.Author.Proof != sidecar.Proven {
			text += samples(q, m.own)
		}
		p.Lines = append(p.Lines, Line{Text: text, Command: printable.Command("sluice queue quarantine "+since, c.Author.Key)})
	}
	if n := len(m.bounces); n > 0 {
		frozen := 0
		for _, b := range m.bounces {
			if b.Frozen != nil {
				frozen++
			}
		}
		p.Lines = append(p.Lines, Line{Text: fmt.Sprintf("%s that its mail has caused (%d frozen)", printable.Count(int64(n), "bounce", "bounces"), frozen),
			Command: printable.Command("sluice queue quarantine "+since+" --bounces-of", c.Author.Key)})
	}
	if p.Nothing = "nothing of it is in the queue"; m.older > 0 {
		p.Nothing = fmt.Sprintf("only %s of it, which --all takes", printable.Count(int64(m.older), "older message", "older messages"))
	}
	return p, nil
}

// mostSamples is how many subjects and domains are shown of mail of which it is not proven whose it is.
const mostSamples = 3

// samples are subjects of messages, and to where they go.
func samples(q *remedy.Queue, all []queue.Message) string {
	var subjects, domains []string
	for _, m := range all {
		if len(domains) < mostSamples && m.To != "" && !slices.Contains(domains, m.To) {
			domains = append(domains, m.To)
		}
		if len(subjects) == mostSamples {
			continue
		}
		if file, there := exim.FindSpoolFile(q.Directory, m.Queue, m.ID); there {
			if h, err := file.Header(); err == nil && h.Subject != "" && !slices.Contains(subjects, h.Subject) {
				subjects = append(subjects, h.Subject)
			}
		}
	}
	return fmt.Sprintf("; subjects: %q; to: %s", subjects, strings.Join(domains, ", "))
}

// Do implements Step. What has come since the plan goes too.
func (s queueStep) Do(ctx context.Context, c Case, _ Plan) (done Done, err error) {
	q, m, err := s.find(ctx, c)
	if err != nil {
		return done, err
	}
	places := m.places()
	if len(places) == 0 {
		done.Text = "nothing of it is in the queue any more"
		return done, nil
	}
	end, err := s.host.AloneAtQueue(ctx)
	if err != nil {
		return done, err
	}
	defer end()
	var r quarantine.Result
	a := action.Action{Verb: quarantine.Quarantine, Whom: c.Author.Key, Incident: c.Incident, Part: c.Number, Why: "sluice clean"}
	n, err := s.host.Act(a, quarantine.Values{Messages: places}, func(int) (any, error) {
		r, err = q.Queues(remedy.Follow).Quarantine(ctx, places)
		if n := len(r.Left); n > 0 && err == nil {
			err = fmt.Errorf("%d of %d messages are as they were, for Exim delivers them: %s", n, len(places), strings.Join(r.Left[:min(n, remedy.ShownIDs)], " "))
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
