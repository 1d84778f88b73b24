package sidecar

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// A ConfigValue is one value of the effective configuration.
type ConfigValue struct {
	Key    string `json:"key"`    // as in Config.Origin
	Value  any    `json:"value"`  // a string, a number or a list of strings
	Origin string `json:"origin"` // "built-in", or FILE:LINE

	table, name string // how TOML writes the key: [table] name = ...
}

// Values lists the effective configuration, in the order of the sections.
func (c *Config) Values() []ConfigValue {
	var values []ConfigValue
	for _, k := range c.keys() {
		table, name, _ := strings.Cut(k.name, ".")
		values = append(values, ConfigValue{k.name, k.value.get(), c.Origin(k.name), table, name})
	}
	for _, kind := range c.scopeKinds() {
		for _, scope := range slices.Sorted(maps.Keys(kind.scopes)) {
			t := kind.scopes[scope]
			prefix := "limits." + kind.name + "." + scope + "."
			for _, k := range t.keys("") {
				if v := k.value.get(); v != nil {
					table := "limits." + kind.name + "." + tomlString(scope)
					values = append(values, ConfigValue{prefix + k.name, v, c.Origin(prefix + k.name), table, k.name})
				}
			}
		}
	}
	return values
}

// WriteTOML prints the effective configuration as a file that would set it
// all, with the origin of each value behind it.
func (c *Config) WriteTOML(w io.Writer) error {
	b := bufio.NewWriter(w)
	table := ""
	for _, v := range c.Values() {
		if v.table != table {
			if table != "" {
				fmt.Fprintln(b)
			}
			table = v.table
			fmt.Fprintf(b, "[%s]\n", table)
		}
		fmt.Fprintf(b, "%-44s # %s\n", v.name+" = "+tomlText(v.Value), v.Origin)
	}
	return b.Flush()
}
