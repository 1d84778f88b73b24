package main

import (
	"errors"
	"fmt"
	"os"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/limit"
	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
)

// teach tells an operator who has just had Sluice put into Exim what happens from now on, whom the
// limits would have refused in the log that is there, and the command that changes it.
func (t *terminal) teach() {
	in, err := ask(t, "exim install", func(a *admin.Client) (operator.Explanation, error) { return a.Explain(t.ctx, sidecar.DefaultScope) })
	if err != nil {
		fmt.Fprintln(t.stdout, "\nThe service sluice does not answer yet; until it does, mail flows: systemctl enable --now sluice")
	}
	t.printPast(err == nil)
	switch {
	case err != nil:
	case in.Mode == limit.Watch:
		fmt.Fprintln(t.stdout, "Limits are watched: nobody is refused, and sluice status shows who would have been. To enforce them: sluice unset default mode")
	case in.Mode == limit.Exempt:
		fmt.Fprintln(t.stdout, "Nobody is counted (exempt). To count: sluice unset default exempt")
	default:
		fmt.Fprintln(t.stdout, `Limits are enforced from now on. To watch them only: sluice set default mode=watch --why "first week"`)
	}
}

// shownInPast is how many domains are named of those that would have been refused something.
const shownInPast = 3

// printPast prints whom the limits would have refused in the main log, were they enforced.
func (t *terminal) printPast(live bool) {
	c, err := t.loadConfig()
	if err != nil || c.Exim.Mainlog == "" {
		return
	}
	past := simulateCmd{Logs: []string{c.Exim.Mainlog}, Live: live, Set: overrides{{Scope: sidecar.DefaultScope, Key: "mode", Value: string(limit.Enforce)}}}
	found, err := past.simulate(t)
	switch s := found.Simulation; {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		t.warn(fmt.Sprintf("whom the limits would have refused is not known: %v", err))
	case !s.From.IsZero():
		fmt.Fprintf(t.stdout, "\nIn %s since %s, %s of %s would have been refused, of %d sends.\n", c.Exim.Mainlog, printable.DateTime(s.From),
			printable.Count(s.Refused, "send", "sends"), printable.Count(refusedDomains(s), "domain", "domains"), s.Sent+s.Refused)
		for i, d := range s.Domains {
			if i < shownInPast && d.Refused > 0 {
				fmt.Fprintf(t.stdout, "    %s: %d, mostly %s\n", d.Domain, d.Refused, d.Mostly)
			}
		}
	}
}
