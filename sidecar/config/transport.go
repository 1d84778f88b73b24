package config

import (
	"path"
	"slices"
	"strings"
)

// RemoteTransport reports whether a transport of Exim delivers to other hosts. An empty
// name, from a log line that names no transport, counts as remote.
func (c *Config) RemoteTransport(name string) bool {
	return name == "" || slices.ContainsFunc(c.Exim.RemoteTransports, func(glob string) bool { return matches(glob, name) })
}

// matches is path.Match, but faster for most globs, which are like *smtp*: it runs for
// every line of the log.
func matches(glob, name string) bool {
	if n := len(glob); n > 2 && glob[0] == '*' && glob[n-1] == '*' && !strings.ContainsAny(glob[1:n-1], `*?[\`) {
		return strings.Contains(name, glob[1:n-1])
	}
	match, _ := path.Match(glob, name)
	return match
}
