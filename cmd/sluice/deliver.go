package main

import (
	"fmt"

	"sluice/sidecar/exim"
)

// deliverCmd is for sluice-deliver@.service.
type deliverCmd struct{}

// Help is the long help.
func (deliverCmd) Help() string {
	return `Reads message ids, one a line, and has Exim try each of them now. For the unit
sluice-deliver@.service: sluice serve itself is confined there and cannot run Exim.

Example:
  echo 1sempe-0005dd-0q | sluice deliver`
}

func (deliverCmd) Run(t *terminal) error {
	config, err := t.loadConfig()
	if err != nil {
		return fmt.Errorf("deliver: %w", err)
	}
	return exim.Exim{Binary: config.Exim.Binary}.ServeHelper(t.ctx, t.stdin, t.stdout)
}
