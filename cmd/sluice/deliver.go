package main

import (
	"bufio"
	"fmt"

	"sluice/sidecar/alert"
	"sluice/sidecar/exim"
)

// deliverCmd is for sluice-deliver@.service.
type deliverCmd struct{}

// Help is the long help.
func (deliverCmd) Help() string {
	return `Reads message ids, one a line, and has Exim try each of them now; or the line "notice" and
a notice of an incident, and has Exim send that to a channel of sluice.toml; or the line
"scripts", and prints which disabled scripts are back. For the unit
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
	if verb, _ := in.Peek(len(scriptsVerb)); string(verb) == scriptsVerb {
		return deliverScripts(t)
	}
	return exim.Exim{Binary: config.Exim.Binary}.ServeHelper(t.ctx, in, t.stdout)
}
