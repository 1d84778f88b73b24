package main

import (
	"cmp"
	"fmt"
	"time"

	"sluice/sidecar/policy"
	"sluice/sidecar/printable"
	"sluice/sidecar/script"
	"sluice/sidecar/senders"
)

// firstSend is when an author was first seen, and a warning if nobody could be asked.
func (t *terminal) firstSend(author string) (first time.Time, warning string) {
	who, err := t.host().Who(t.ctx, author)
	if err != nil {
		return first, "it is not known whether the author still sends: " + err.Error()
	}
	for _, a := range who.Of(author) {
		if first.IsZero() || a.FirstSeen.Before(first) {
			first = a.FirstSeen
		}
	}
	return first, ""
}

// triedBy is how much an author has tried to send in the window.
func triedBy(who senders.Who, author string) (n int64) {
	for _, a := range who.Of(author) {
		n += a.Tried
	}
	return n
}

// watchScript watches an author and the file for a time, and says what it has seen.
func (t *terminal) watchScript(d *scriptDisabled, watch time.Duration) error {
	if watch == 0 || d.Warning != "" {
		return nil
	}
	attempts, began := int64(0), time.Now()
	who, err := t.host().Who(t.ctx, d.File.Author)
	last := triedBy(who, d.File.Author)
	tick := time.NewTicker(min(time.Second, watch))
	defer tick.Stop()
	for err == nil && t.ctx.Err() == nil && time.Since(began) < watch {
		select {
		case <-t.ctx.Done():
		case <-tick.C:
			who, err = t.host().Who(t.ctx, d.File.Author)
			now := triedBy(who, d.File.Author)
			attempts, last = attempts+max(0, now-last), now // it falls when a part of the window ends
			d.CameBack = cmp.Or(d.CameBack, script.CameBack(d.File))
		}
	}
	if err != nil {
		return err
	}
	d.Watched, d.Attempts = time.Since(began).Seconds(), &attempts
	return d.verdict()
}

// verdict is an error where the script was not stopped.
func (d *scriptDisabled) verdict() error {
	switch since := d.Since.Local().Format("15:04"); {
	case d.CameBack != "":
		return no{fmt.Errorf("the file is back: %s", d.CameBack)}
	case *d.Attempts > 0:
		return no{fmt.Errorf("still sending: %d since %s; %s", *d.Attempts, since, cmp.Or(printable.Command("sluice stop", d.File.Author), "stop its author"))}
	}
	return nil
}

// watchedScripts tell who watches disabled scripts of whoever tries to send.
type watchedScripts struct{ *script.Watch }

// Decided implements policy.Observer.
func (w watchedScripts) Decided(_ time.Time, d *policy.Decision) {
	if w.Watches(d.Author.Key) {
		w.Tried(d.Author.Key, d.Payer.Subject())
	}
}
