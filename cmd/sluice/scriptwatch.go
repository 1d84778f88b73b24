package main

import (
	"cmp"
	"errors"
	"fmt"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/limit"
	"sluice/sidecar/script"
	"sluice/sidecar/senders"
)

// firstSend is when an author was first seen, and a warning if nobody could be asked.
func (t *terminal) firstSend(author string) (first time.Time, warning string) {
	who, err := t.whoIs(author)
	if err != nil {
		return first, "it is not known whether the author still sends: " + err.Error()
	}
	for _, a := range authorsIn(who, author) {
		if first.IsZero() || a.FirstSeen.Before(first) {
			first = a.FirstSeen
		}
	}
	return first, ""
}

// whoIs asks the running sluice of an author; of one that it does not know there is nothing.
func (t *terminal) whoIs(author string) (senders.Who, error) {
	who, err := ask(t, "who", func(a *admin.Client) (senders.Who, error) { return a.WhoSends(t.ctx, author, mostListed) })
	if errors.Is(err, limit.ErrNotFound) {
		return senders.Who{}, nil
	}
	return who, err
}

// authorsIn are the entries of an author, one for each domain at whose expense it sends.
func authorsIn(who senders.Who, author string) (all []senders.Author) {
	for _, r := range who.Domains {
		for _, a := range r.Authors {
			if a.Key == author {
				all = append(all, a)
			}
		}
	}
	return all
}

// triedBy is how much an author has tried to send in the window.
func triedBy(who senders.Who, author string) (n int64) {
	for _, a := range authorsIn(who, author) {
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
	who, err := t.whoIs(d.File.Author)
	last := triedBy(who, d.File.Author)
	tick := time.NewTicker(min(time.Second, watch))
	defer tick.Stop()
	for err == nil && t.ctx.Err() == nil && time.Since(began) < watch {
		select {
		case <-t.ctx.Done():
		case <-tick.C:
			who, err = t.whoIs(d.File.Author)
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
		return no{fmt.Errorf("still sending: %d since %s; %s", *d.Attempts, since, cmp.Or(sidecar.Command("sluice stop", d.File.Author), "stop its author"))}
	}
	return nil
}
