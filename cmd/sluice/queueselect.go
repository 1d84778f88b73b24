package main

import (
	"errors"
	"fmt"
	"time"

	"sluice/sidecar/admin"
	"sluice/sidecar/queue"
	"sluice/sidecar/simulate"
)

// selectors are the flags that say which messages of the queue are meant.
type selectors struct {
	Scope       given `arg:"" predictor:"scope" optional:"" help:"Only mail of this payer or sender, as the table or sluice who shows it, and bounces of it."`
	BouncesOf   given `placeholder:"SCOPE" help:"Only bounces, of mail of this payer or sender."`
	Sender      given `placeholder:"TEXT" help:"Only with this in the envelope sender, which anybody can choose; ~TEXT is a regular expression."`
	Recipient   given `placeholder:"TEXT" help:"Only with this in a recipient that is left; ~TEXT is a regular expression."`
	Subject     given `placeholder:"TEXT" help:"Only with this in the subject; ~TEXT is a regular expression."`
	To          given `placeholder:"HOST" help:"Only with a recipient left in this domain, or in one whose mail this host has deferred last."`
	ID          given `name:"id" placeholder:"ID" help:"Only this message, wherever it is."`
	Queue       given `placeholder:"NAME" help:"Only what is in this named queue of Exim."`
	Frozen      bool  `help:"Only frozen messages."`
	Held        bool  `help:"Only messages that sluice holds."`
	Bounces     bool  `help:"Only messages with a null sender: bounces and automatic answers."`
	Quarantined bool  `help:"Only what is in the quarantine, which is left out otherwise."`
	Older       given `placeholder:"TIME" help:"Only what came before this time: 90m, 24h, 7d."`
	Younger     given `placeholder:"TIME" help:"Only what came within this time."`
	Since       given `placeholder:"TIME" help:"Only what came at this time or later: 10:47, or \"2026-11-29 10:47\"."`
	Until       given `placeholder:"TIME" help:"Only what came before this time."`
}

// A given is the text of a selector. If it is given it is not empty: where a script's variable has
// nothing in it, all would be meant.
type given string

// UnmarshalText implements encoding.TextUnmarshaler.
func (g *given) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("it is empty, and would select all messages: leave it out if that is meant")
	}
	*g = given(text)
	return nil
}

// none reports whether nothing is selected: all is meant.
func (c selectors) none() bool { return c == selectors{} }

func (c selectors) selection(now time.Time) (s queue.Selection, err error) {
	s = queue.Selection{Sender: string(c.Sender), Recipient: string(c.Recipient), Subject: string(c.Subject), To: string(c.To), ID: string(c.ID), Queue: string(c.Queue),
		Frozen: c.Frozen, Held: c.Held, Bounces: c.Bounces, Quarantined: c.Quarantined}
	for _, scope := range []struct {
		text given
		to   *string
	}{{c.Scope, &s.Scope}, {c.BouncesOf, &s.BouncesOf}} {
		if scope.text == "" {
			continue
		}
		if *scope.to, err = simulate.CanonicalScope(string(scope.text)); err != nil {
			return s, err
		}
	}
	if s.Older, err = parseTime("--older", string(c.Older)); err != nil {
		return s, err
	}
	if s.Younger, err = parseTime("--younger", string(c.Younger)); err != nil {
		return s, err
	}
	if s.Since, err = parseMoment("--since", string(c.Since), now); err == nil {
		s.Until, err = parseMoment("--until", string(c.Until), now)
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
	for _, layout := range []string{time.RFC3339, "2006-01-02 15:04:05 -0700"} { // the second is printable.DateTime's
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
