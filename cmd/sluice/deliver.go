package main

import (
	"bufio"
	"fmt"

	"sluice/sidecar/alert"
	"sluice/sidecar/exim"
	"sluice/sidecar/script"
)

// deliverCmd is for sluice-deliver@.service.
type deliverCmd struct{}

// Help is the long help.
func (deliverCmd) Help() string {
	return `Reads message ids, one a line, and has Exim try each of them now; or the line "notice" and
a notice of an incident, and has Exim send that to a channel of sluice.toml; or the line
"scripts", and prints which disabled scripts are back; or the line "lists", and prints which domains
Exim's configuration says are local, and for whom Exim relays; or the line "quarantine", and removes
what was in the quarantine for queue.purge_days. For the unit
sluice-deliver@.service: sluice serve itself is confined there and cannot run Exim.

Example:
  echo 1sempe-0005dd-0q | sluice deliver`
}

func (deliverCmd) Run(t *terminal) error {
	config, err := t.loadConfig()
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	in := bufio.NewReader(t.stdin)
	if verb, _ := in.Peek(len(alert.MailVerb)); string(verb) == alert.MailVerb {
		in.Discard(len(alert.MailVerb))
		return deliverNotice(t, in, config)
	}
	if verb, _ := in.Peek(len(script.WatchVerb)); string(verb) == script.WatchVerb {
		return script.ServeWatch(t.stdout, t.actions)
	}
	mta := exim.Exim{Binary: config.Exim.Binary}
	if verb, _ := in.Peek(len(exim.ListsVerb)); string(verb) == exim.ListsVerb {
		return mta.ServeLists(t.ctx, t.stdout)
	}
	if verb, _ := in.Peek(len(purgeVerb)); string(verb) == purgeVerb {
		return deliverPurge(t)
	}
	return mta.ServeHelper(t.ctx, in, t.stdout)
}
