package main

import (
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
)

type configCmd struct {
	Check   bool `help:"Only say whether the file is good."`
	Running bool `help:"Ask the running sluice for what is in force there."`
	jsonFlag
}

// Help is the long help.
func (configCmd) Help() string {
	return `Prints every value as the file has it or would have it, and behind it where it
comes from: built-in, or the file and line.

Examples:
  sluice config
  sluice config --check --config /etc/sluice/new.toml
  sluice config --running --json`
}

func (c configCmd) Run(t *terminal) error {
	values, err := c.values(t)
	switch {
	case err != nil && c.Check:
		return no{err}
	case err != nil:
		return err
	case c.Check && c.JSON:
		return printJSON(t.stdout, map[string]bool{"good": true})
	case c.Check:
		fmt.Fprintln(t.stdout, "the configuration is good")
		return nil
	case c.JSON:
		return printJSON(t.stdout, values)
	}
	return sidecar.WriteTOML(t.stdout, values)
}

func (c configCmd) values(t *terminal) (values []sidecar.ConfigValue, err error) {
	if c.Running {
		err = t.askAdmin("config", func(a *admin.Client) (err error) {
			values, err = a.Config(t.ctx)
			return err
		})
		return values, err
	}
	config, err := t.loadConfig()
	if err != nil {
		return nil, err
	}
	if c.Check {
		err = servable(config)
	}
	return config.Values(), err
}

type versionCmd struct {
	Running bool `help:"Ask the running sluice."`
	jsonFlag
}

// Help is the long help.
func (versionCmd) Help() string {
	return `Examples:
  sluice version
  sluice version --running`
}

func (c versionCmd) Run(t *terminal) error {
	v := admin.Version{Version: programVersion()}
	if c.Running {
		err := t.askAdmin("version", func(a *admin.Client) (err error) {
			v, err = a.Version(t.ctx)
			return err
		})
		if err != nil {
			return err
		}
	}
	if c.JSON {
		return printJSON(t.stdout, v)
	}
	fmt.Fprintf(t.stdout, "sluice %s\n", v.Version)
	if c.Running {
		fmt.Fprintf(t.stdout, "process %d, started %s\n", v.PID, clock(v.Started))
	}
	return nil
}

// programVersion is the version that the go command noted in the program.
func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

func runningVersion() admin.Version {
	return admin.Version{Version: programVersion(), Started: time.Now(), PID: os.Getpid()}
}
