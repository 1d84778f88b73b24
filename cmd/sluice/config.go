package main

import (
	"cmp"
	"errors"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"sluice/ratelimit/redisstore"
	"sluice/sidecar/admin"
	"sluice/sidecar/config"
	"sluice/sidecar/limit"
	"sluice/sidecar/peer"
	"sluice/sidecar/policyd"
	"sluice/sidecar/printable"
)

type configCmd struct {
	Check   bool `xor:"what" help:"Only say whether the file is good."`
	Running bool `xor:"what" help:"Ask the running sluice for what is in force there."`
	jsonFlag
}

// Help is the long help.
func (configCmd) Help() string {
	return `Prints every value as the file has it or would have it, and behind it where it
comes from: built-in, the panel, or the file and line. With --check the exit code is 0 for a good
file, 1 for a bad one, and 2 for one that cannot be read.

Examples:
  sluice config
  sluice config --check --config /etc/sluice/new.toml
  sluice config --running --json` + jsonHelp(effective{}, "") + jsonHelp(configCheck{}, "That of --check:")
}

func (c configCmd) Run(t *terminal) error {
	if c.Check {
		return c.check(t)
	}
	values, err := c.values(t)
	switch {
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
	File  string `json:"file"`  // empty where there is none, and all values are built in
	Error string `json:"error"` // what is wrong, a line each; empty where nothing is
}

// check reports whether the file is valid. One that cannot be read is neither valid nor
// invalid.
func (c configCmd) check(t *terminal) error {
	file, err := t.loadConfig()
	if errors.Is(err, config.ErrUnread) {
		return err
	}
	found := configCheck{File: cmp.Or(t.configFile, config.DefaultPath)}
	if err == nil {
		found.File, err = file.File(), checkServable(file)
	}
	found.Good = err == nil
	if err != nil {
		found.Error, err = err.Error(), no{err}
	}
	switch {
	case c.JSON:
		return errors.Join(printJSON(t.stdout, found), err)
	case found.Good && found.File == "":
		printf(t.stdout, "there is no %s, so all values are built in\n", config.DefaultPath)
	case found.Good:
		printf(t.stdout, "%s is good\n", found.File)
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
	config, err := t.effectiveConfig()
	if err != nil {
		return nil, err
	}
	return config.Values(), nil
}

// checkServable fails if serve would not start with a configuration, because a file that it
// names cannot be read.
func checkServable(c *config.Config) error {
	url, err := storeURL(c)
	if err == nil && url != config.Embedded {
		err = storeError(c, redisstore.CheckURL(url))
	}
	if slices.ContainsFunc(c.Listen.Policy, func(l config.Listener) bool { return l.Network() == "tcp" }) {
		_, tokenErr := policyd.ReadTokens(c.Listen.TokenFile)
		err = errors.Join(err, tokenErr)
	}
	if c.Listen.Metrics.Network() == "tcp" {
		_, tokenErr := metricsTokens(c)
		err = errors.Join(err, tokenErr)
	}
	return errors.Join(err, checkExemptHosts(c))
}

// checkExemptHosts fails if a configuration exempts whatever comes from an address of this
// host. Where the kernel does not tell them, only the loopback's are known.
func checkExemptHosts(c *config.Config) error {
	own, _ := peer.ReadAddresses()
	return c.CheckExempt(own.Has)
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
	print := func(v admin.Version) { printf(t.stdout, "sluice %s\n", v.Version) }
	if c.Running {
		return show(t, c.JSON, "version", func(a *admin.Client) (admin.Version, error) { return a.Version(t.ctx) }, func(v admin.Version) {
			print(v)
			printf(t.stdout, "process %d, started %s\n", v.PID, printable.DateTime(v.Started))
		})
	}
	v := admin.Version{Version: programVersion()}
	if c.JSON {
		return printJSON(t.stdout, v)
	}
	print(v)
	return nil
}

// version is set by the linker: -X main.version=1.2.3.
var version string

// programVersion is the version that the program was built as, or that the go command recorded in it.
func programVersion() string {
	if version != "" {
		return version
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(unknown)"
}

func runningVersion() admin.Version {
	return admin.Version{Version: programVersion(), Started: time.Now(), PID: os.Getpid()}
}
