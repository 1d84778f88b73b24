package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/limit"
)

type configCmd struct {
	Check   bool `xor:"what" help:"Only say whether the file is good."`
	Running bool `xor:"what" help:"Ask the running sluice for what is in force there."`
	jsonFlag
}

// Help is the long help.
func (configCmd) Help() string {
	return `Prints every value as the file has it or would have it, and behind it where it
comes from: built-in, or the file and line. With --check the exit code is 0 for a good
file, 1 for a bad one, and 2 for one that cannot be read.

Examples:
  sluice config
  sluice config --check --config /etc/sluice/new.toml
  sluice config --running --json` + jsonHelp(effective{}, "") + jsonHelp(configCheck{}, "That of --check:")
}

func (c configCmd) Run(t *terminal) error {
	values, err := c.values(t)
	switch {
	case c.Check:
		return c.checked(t, err)
	case err != nil:
		return err
	case c.JSON:
		return printJSON(t.stdout, effectiveOf(values))
	}
	return config.WriteTOML(t.stdout, values)
}

// A configCheck is the result of --check.
type configCheck struct {
	Good  bool   `json:"good"`
	Error string `json:"error"` // what is wrong, a line each; empty where nothing is
}

// checked reports whether the file is valid. One that cannot be read is neither valid nor
// invalid.
func (c configCmd) checked(t *terminal, err error) error {
	if errors.Is(err, config.ErrUnread) {
		return err
	}
	found := configCheck{Good: err == nil}
	if err != nil {
		found.Error, err = err.Error(), no{err}
	}
	switch {
	case c.JSON:
		return errors.Join(printJSON(t.stdout, found), err)
	case found.Good:
		fmt.Fprintln(t.stdout, "the configuration is good")
	}
	return err
}

// effective is the configuration for --json.
type effective struct {
	Values []effectiveValue `json:"values"`
}

type effectiveValue struct {
	Key    string          `json:"key"`
	Value  any             `json:"value"`
	Origin effectiveOrigin `json:"origin"`
}

// An effectiveOrigin is the part of a limit.Origin that a value of a file can have.
type effectiveOrigin struct {
	Layer limit.Layer `json:"layer"`
	Place string      `json:"place"`
}

func effectiveOf(values []config.Value) effective {
	all := effective{[]effectiveValue{}}
	for _, v := range values {
		of := v.Of()
		all.Values = append(all.Values, effectiveValue{v.Key, v.Value, effectiveOrigin{of.Layer, of.Place}})
	}
	return all
}

func (c configCmd) values(t *terminal) (values []config.Value, err error) {
	if c.Running {
		return ask(t, "config", func(a *admin.Client) ([]config.Value, error) { return a.Config(t.ctx) })
	}
	config, err := t.loadConfig()
	if err != nil {
		return nil, err
	}
	if c.Check {
		err = checkServable(config)
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
  sluice version --running` + jsonHelp(admin.Version{}, "")
}

func (c versionCmd) Run(t *terminal) error {
	print := func(v admin.Version) { fmt.Fprintf(t.stdout, "sluice %s\n", v.Version) }
	if c.Running {
		return show(t, c.JSON, "version", func(a *admin.Client) (admin.Version, error) { return a.Version(t.ctx) }, func(v admin.Version) {
			print(v)
			fmt.Fprintf(t.stdout, "process %d, started %s\n", v.PID, sidecar.DateTime(v.Started))
		})
	}
	v := admin.Version{Version: programVersion()}
	if c.JSON {
		return printJSON(t.stdout, v)
	}
	print(v)
	return nil
}

// programVersion is the version that the go command recorded in the program.
func programVersion() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

func runningVersion() admin.Version {
	return admin.Version{Version: programVersion(), Started: time.Now(), PID: os.Getpid()}
}
