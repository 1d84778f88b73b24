package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/doctor"
	"sluice/sidecar/printable"
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

// A diagnosis is all that doctor has found, for --json.
type diagnosis struct {
	Healthy  bool             `json:"healthy"`
	Findings []doctor.Finding `json:"findings"`
}

func (c doctorCmd) Run(t *terminal) error {
	if os.Geteuid() != 0 {
		return errors.New("doctor: only root can ask Exim and the running sluice. Try: sudo sluice doctor")
	}
	load := func() (*config.Config, error) {
		c, _, err := t.configWithExim() // what Exim does not say is among the findings
		return c, err
	}
	findings, err := doctor.Examine(t.ctx, doctor.Options{
		File: cmp.Or(t.configFile, config.DefaultPath), Version: programVersion(), Load: load, Serves: checkServable,
		Crontabs: []string{"/var/spool/cron/crontabs", "/var/spool/cron"}, // Debian's cron; cronie
		Actions:  t.actions,
		Root:     "/",
		Ask:      func(ask func(*admin.Client) error) error { return t.askAdmin("status", ask) },
	})
	if err != nil {
		return fmt.Errorf("doctor: %w", err)
	}
	wrong := int64(0)
	for _, f := range findings {
		if f.State == doctor.Wrong {
			wrong++
		}
	}
	if c.JSON {
		if err := printJSON(t.stdout, diagnosis{wrong == 0, findings}); err != nil {
			return err
		}
	} else {
		printFindings(t.stdout, findings)
	}
	if wrong > 0 {
		return no{fmt.Errorf("doctor: %s wrong", printable.Count(wrong, "thing is", "things are"))}
	}
	return nil
}

func printFindings(w io.Writer, findings []doctor.Finding) {
	for _, f := range findings {
		printf(w, "%-6s %s: %s\n", f.State, f.Check, f.Found)
		for line := range strings.Lines(f.Do) {
			printf(w, "       %s\n", strings.TrimSuffix(line, "\n"))
		}
	}
}
