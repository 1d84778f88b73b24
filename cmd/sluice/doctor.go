package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/exim"
	"sluice/sidecar/settings"
)

type doctorCmd struct{ jsonFlag }

// Help is the long help.
func (doctorCmd) Help() string {
	return `Looks at the whole chain on this host, from Exim's configuration to what the running
sluice has read of the logs, and says what to do about what is wrong. It changes
nothing and sends nothing: Exim is asked for its options (-bP) and has to expand
strings (-be), as root and as its own user. Only root can ask it.

  ok      as it should be
  note    works, and is worth knowing
  wrong   mail is not limited, not counted or not attributed as it should be

The exit code is 0 where nothing is wrong, 1 where something is, and 2 where it could
not be found out.

Examples:
  sluice doctor
  sluice doctor --json` + jsonHelp(diagnosis{}, "")
}

// A diagnosis is all that doctor has found.
type diagnosis struct {
	Healthy  bool      `json:"healthy"`
	Findings []finding `json:"findings"`
}

// A finding is what doctor found out about one link of the chain.
type finding struct {
	Check string  `json:"check"`
	State verdict `json:"state"`
	Found string  `json:"found"` // what is there
	Do    string  `json:"do"`    // what to do about it; empty where nothing is
}

// A verdict is how a link of the chain is.
type verdict string

const (
	healthy verdict = "ok"
	notable verdict = "note"
	wrong   verdict = "wrong"
)

// A doctor looks at one host.
type doctor struct {
	*terminal
	config   *config.Config
	exim     exim.Exim
	isExim   bool // there is one that loads its configuration
	survey   settings.Inventory
	running  running
	findings []finding
}

func (d *doctor) add(check string, state verdict, do, format string, args ...any) {
	d.findings = append(d.findings, finding{check, state, fmt.Sprintf(format, args...), do})
}

func (c doctorCmd) Run(t *terminal) error {
	if os.Geteuid() != 0 {
		return errors.New("doctor: only root can ask Exim and the running sluice. Try: sudo sluice doctor")
	}
	d := &doctor{terminal: t}
	if err := d.look(); err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	bad := 0
	for _, f := range d.findings {
		if f.State == wrong {
			bad++
		}
	}
	if c.JSON {
		if err := printJSON(t.stdout, diagnosis{bad == 0, d.findings}); err != nil {
			return err
		}
	} else {
		printFindings(t.stdout, d.findings)
	}
	if bad > 0 {
		return no{fmt.Errorf("doctor: %s wrong", sidecar.Count(int64(bad), "thing is", "things are"))}
	}
	return nil
}

// look makes all checks, in the order in which a message meets what they are
// about. What hangs on something that is missing is left out.
func (d *doctor) look() (err error) {
	if d.config, err = d.loadConfig(); err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return err
		}
		d.add("configuration", wrong, "Mend the file, then ask again: all else hangs on it.", "%v", err)
		return nil
	}
	if d.survey, err = settings.InventoryOf(d.config); err != nil {
		return err
	}
	d.checkServable()
	d.exim = exim.Find(d.ctx, d.config.Exim.Binary)
	d.running.ask(d.terminal)
	d.checkServe()
	d.checkShared()
	if d.isExim = d.checkEximIs(); d.isExim {
		d.checkWiring()
		d.checkAsking()
		d.checkTransports()
		d.checkLocalDomains()
		d.checkForgery()
	}
	d.checkLocks()
	d.checkLogs()
	d.checkOwners()
	d.checkClock()
	return nil
}

// checkServable looks whether serve would start with the file.
func (d *doctor) checkServable() {
	if err := servable(d.config); err != nil {
		d.add("configuration", wrong, "`sluice serve` would not start with it: mend that.", "%v", err)
	} else {
		d.add("configuration", healthy, "", "%s is good", cmp.Or(d.configFile, config.DefaultPath))
	}
}

func printFindings(w io.Writer, findings []finding) {
	for _, f := range findings {
		fmt.Fprintf(w, "%-6s %s: %s\n", f.State, f.Check, f.Found)
		if f.Do != "" {
			fmt.Fprintf(w, "       %s\n", f.Do)
		}
	}
}
