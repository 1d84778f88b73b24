package config

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"sluice/sidecar/field"
	"sluice/sidecar/limit"
)

// A Value is one value of the effective configuration.
type Value struct {
	Key    string `json:"key"`    // as in Config.Origin
	Value  any    `json:"value"`  // a string, a number or a list of strings
	Origin string `json:"origin"` // as in Config.Origin
}

// Of is the origin as a limit.Origin.
func (v Value) Of() limit.Origin {
	if v.Origin == string(limit.LayerPanel) {
		return limit.Origin{Layer: limit.LayerPanel}
	}
	if place, is := strings.CutPrefix(v.Origin, fromExim); is {
		return limit.Origin{Layer: limit.LayerExim, Place: place}
	}
	return originOf(v.Origin)
}

// Values lists the effective configuration, in the order of the sections, without
// passwords.
func (c *Config) Values() []Value {
	values := c.values(c.keys())
	for _, kind := range c.scopeKinds() {
		for _, scope := range slices.Sorted(maps.Keys(kind.scopes)) {
			t := kind.scopes[scope]
			values = append(values, c.values(keysOf(&t, "limits."+kind.name+"."+scope+"."))...)
		}
	}
	return values
}

func (c *Config) values(keys []configKey) []Value {
	var values []Value
	for _, k := range keys {
		if v := shown(k.value); v != nil {
			values = append(values, Value{k.name, v, c.Origin(k.name)})
		}
	}
	return values
}

// WriteTOML prints values as a configuration file that sets them all, with the origin of
// each as a comment. A password is not printed, and the file is refused until it is put in.
func WriteTOML(w io.Writer, values []Value) error {
	b := bufio.NewWriter(w)
	last := ""
	for _, v := range values {
		table, name := tomlKey(v.Key)
		if table != last {
			if last != "" {
				fmt.Fprintln(b)
			}
			last = table
			fmt.Fprintf(b, "[%s]\n", table)
		}
		fmt.Fprintf(b, "%-44s # %s\n", name+" = "+field.TOML(v.Value), v.Origin)
	}
	return b.Flush()
}

// tomlKey splits a key into the name of its table and its own. Only the names of scopes
// have dots that do not separate names: they are quoted.
func tomlKey(key string) (table, name string) {
	dot := strings.LastIndexByte(key, '.')
	table, name = key[:dot], key[dot+1:]
	if parts := strings.SplitN(table, ".", 3); len(parts) == 3 {
		table = parts[0] + "." + parts[1] + "." + field.QuoteTOML(parts[2])
	}
	return table, name
}
