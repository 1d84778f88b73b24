package main

import (
	"path/filepath"
	"strings"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/exim"
	"sluice/sidecar/panel"
	"sluice/sidecar/peer"
	"sluice/sidecar/simulate"
)

// foreignNode stands for the name of a host that is not known.
const foreignNode = "unnamed-host"

// foreignFlag is the flag of the commands that read logs.
type foreignFlag struct {
	Foreign *bool `negatable:"" help:"The logs are, or are not, of another host. By default they are unless they lie where exim.mainlog does."`
}

// settingsFor returns the settings for logs, and whether those are of another host: then
// nothing is true of it that is true of this one.
func (f foreignFlag) settingsFor(t *terminal, logs []string) (o simulate.Options, foreign bool, err error) {
	config, err := t.effectiveConfig()
	if err != nil {
		return o, false, err
	}
	if foreign = f.isForeign(logs, config.Exim.Mainlog); foreign {
		o.Node, o.Foreign = foreignNode, true
		config.ForOtherHost(t.configFile != "")
	} else {
		if o.Node, err = nodeName(config); err != nil {
			return o, false, err
		}
		o.EximUser = exim.Find(t.ctx, config.Exim.Binary).User
		addresses, _ := peer.ReadAddresses() // after an error they are the loopback's alone
		o.Own = addresses.Has
	}
	if o.Config = config; panelApplies(config, foreign) {
		o.Panel = panel.New(panelRoot(config)).Read(time.Now())
	}
	return o, foreign, nil
}

// isForeign reports whether the logs are of another host: unless it is said, whether one of
// them is not where this host's Exim logs.
func (f foreignFlag) isForeign(logs []string, mainlog string) bool {
	if f.Foreign != nil {
		return *f.Foreign
	}
	for _, log := range logs {
		if !isRotated(log, mainlog) {
			return true
		}
	}
	return false
}

// isRotated reports whether a log is the one that is written as mainlog, or was: it stands
// beside it, and its name begins likewise.
func isRotated(log, mainlog string) bool {
	return resolved(filepath.Dir(log)) == resolved(filepath.Dir(mainlog)) &&
		strings.HasPrefix(filepath.Base(log), strings.TrimRight(beforeDate(filepath.Base(mainlog)), "-."))
}

// beforeDate is the part of the name of a log before its date, which Exim writes for %D or
// %M.
func beforeDate(name string) string {
	before, _, _ := strings.Cut(name, "%")
	return before
}

// resolved is a directory by its true name, where that can be found.
func resolved(dir string) string {
	if whole, err := filepath.Abs(dir); err == nil {
		dir = whole
	}
	if real, err := filepath.EvalSymlinks(dir); err == nil {
		return real
	}
	return dir
}

// panelApplies reports whether the files of a panel are of the host of the logs.
func panelApplies(c *config.Config, foreign bool) bool {
	return c.Panel.Follow && (!foreign || c.Sets("panel.root"))
}
