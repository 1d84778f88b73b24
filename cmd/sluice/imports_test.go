package main

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

// A layer says what the packages that match a pattern may import.
type layer struct {
	packages string   // as path.Match has it; the first layer that matches counts
	own      []string // packages of this module
	foreign  []string // packages of others; nil is none, "*" any
	never    []string
}

// The layers, from the top. Who needs another import changes this table, and
// thinks twice.
var layers = []layer{
	{packages: "sluice/cmd/*", own: []string{"*"}, foreign: []string{"*"}},
	{packages: "sluice/exim-config", own: []string{"*"}, foreign: []string{"*"}}, // tests only
	{packages: "sluice/ratelimit"},                                               // the standard library
	{packages: "sluice/ratelimit/storetest", own: []string{"sluice/ratelimit"}, foreign: []string{"*"}},
	{packages: "sluice/ratelimit/ordered"}, // the standard library
	{packages: "sluice/ratelimit/*", own: []string{"sluice/ratelimit", "sluice/ratelimit/ordered"}, foreign: []string{"*"}},
	{packages: "sluice/ratelimit/redisstore/redistest", own: []string{"sluice/sidecar/hosttest"}, foreign: []string{"*"}},
	{packages: "sluice/sidecar/logtest", own: []string{"*"}, foreign: []string{"*"}}, // a whole Policy
	{packages: "sluice/sidecar/hosttest", foreign: []string{"*"}},                    // of tests of all layers, so none of them
	{packages: "sluice/sidecar/notes"},                                               // the standard library
	{
		packages: "sluice/sidecar", own: []string{"sluice/ratelimit", "sluice/sidecar/notes"},
		foreign: []string{"github.com/BurntSushi/toml", "github.com/dchest/siphash", "golang.org/x/net/idna"},
		never:   []string{"net/http"},
	},
	{packages: "sluice/sidecar/*", own: []string{"sluice/sidecar"}, foreign: []string{"*"}}, // fronts: never each other
	{packages: "sluice/sidecar/*/*", own: []string{"sluice/sidecar", "sluice/sidecar/*"}, foreign: []string{"*"}},
}

func TestLayers(t *testing.T) {
	for _, p := range packages(t) {
		i := slices.IndexFunc(layers, func(l layer) bool { return matches([]string{l.packages}, p.ImportPath) })
		if i < 0 {
			t.Errorf("%s is in no layer", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if !layers[i].allows(imported) {
				t.Errorf("%s must not import %s", p.ImportPath, imported)
			}
		}
	}
}

func (l layer) allows(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case matches(l.never, imported):
		return false
	case first == "sluice":
		return matches(l.own, imported)
	case strings.Contains(first, "."):
		return matches(l.foreign, imported)
	}
	return true // the standard library
}

func matches(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		ok, _ := path.Match(p, name)
		return ok || p == "*"
	})
}

type goPackage struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Imports", "sluice/...").Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []goPackage
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p goPackage
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}
