package main

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/exim"
)

// What Exim's configuration says of local domains, of relays and of its log need not be typed a
// second time:
//
//	exim -bP config ─→ exim.Lists ─→ exim.local_domains, identity.relay, identity.relay_domains,
//	  (by sluice deliver,             exim.mainlog, where sluice.toml does not set them
//	   where serve is confined)

// addLists sets keys that the configuration file does not set from Exim's lists, and returns the
// entries that only Exim can look up.
func addLists(c *config.Config, lists exim.Lists) (unknown []string) {
	c.SetTextFromExim("exim.mainlog", lists.Mainlog, "log_file_path")
	for _, take := range []struct {
		key, kind string
		list      exim.List
	}{
		{"exim.local_domains", "domainlist", lists.LocalDomains},
		{"identity.relay", "hostlist", lists.RelayHosts},
		{"identity.relay_domains", "domainlist", lists.RelayDomains},
	} {
		if c.Sets(take.key) {
			continue
		}
		missing := slices.Concat(take.list.Unknown, c.SetFromExim(take.key, take.list.Items, take.kind+" "+strings.Join(take.list.Names, ", ")))
		unknown = append(unknown, missing...)
	}
	for i := range c.Identity.Relay {
		c.Identity.Relay[i].ByExim = c.FromExim("identity.relay")
	}
	return unknown
}

// effectiveConfig returns the configuration as serve has it, with Exim's lists. It warns of lists
// that Exim does not give.
func (t *terminal) effectiveConfig() (*config.Config, error) {
	c, lacks, err := t.configWithExim()
	if lacks != "" {
		t.warn(lacks)
	}
	return c, err
}

// configWithExim is effectiveConfig, but returns the warning.
func (t *terminal) configWithExim() (c *config.Config, lacks string, err error) {
	if c, err = t.loadConfig(); err != nil || exim.IsAbsent(c.Exim.Binary) {
		return c, "", err
	}
	lists, err := exim.Exim{Binary: c.Exim.Binary, Patience: time.Minute}.Lists(t.ctx)
	if err != nil {
		return c, "what Exim says of local domains and relays is not known: " + err.Error(), nil
	}
	if unknown := addLists(c, lists); len(unknown) > 0 {
		lacks = "only Exim can look these up, so they count neither as local nor as relays: " + strings.Join(unknown, ", ")
	}
	return c, lacks, nil
}

// openLists opens the lists that Exim gave last, for serve.
func openLists(ctx context.Context, c *config.Config) *exim.LastLists {
	return exim.OpenLastLists(ctx, exim.Exim{Binary: c.Exim.Binary, Helper: deliverSocket(c)}, filepath.Join(c.Store.Dir, "exim-lists.json"))
}

// addLastLists is addLists with the lists that Exim gave last.
func addLastLists(c *config.Config, said *exim.LastLists) {
	if lists := said.Last(); lists != nil {
		addLists(c, *lists)
	}
}
