package main

import (
	"path/filepath"
	"strings"

	"sluice/sidecar/config"
)

// foreignNode stands for the name of a host that is not known.
const foreignNode = "unnamed-host"

// isForeign reports whether the logs are of another host: unless it is said, whether one of
// them is not where this host's Exim logs.
func (c simulateCmd) isForeign(mainlog string) bool {
	if c.Foreign != nil {
		return *c.Foreign
	}
	for _, log := range c.Logs {
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
