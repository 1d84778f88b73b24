package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
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
	http     bool     // net/http too
}

// The layers, from the top. Who needs another import changes this table, and
// thinks twice.
var layers = []layer{
	{packages: "sluice/cmd/*", own: []string{"*"}, foreign: []string{"*"}, http: true},
	{packages: "sluice/exim-config", own: []string{"*"}, foreign: []string{"*"}}, // embeds its files; the rest are tests

	{packages: "sluice/ratelimit"}, // the standard library
	{packages: "sluice/ratelimit/ordered"},
	{packages: "sluice/ratelimit/redisurl"},
	{packages: "sluice/ratelimit/storetest", own: []string{"sluice/ratelimit"}, foreign: []string{"*"}},
	{packages: "sluice/ratelimit/*", own: []string{"sluice/ratelimit", "sluice/ratelimit/ordered", "sluice/ratelimit/redisurl"}, foreign: []string{"*"}},
	{packages: "sluice/ratelimit/redisstore/redistest", own: []string{"sluice/sidecar/hosttest"}, foreign: []string{"*"}},

	// For tests.
	{packages: "sluice/sidecar/hosttest", foreign: []string{"*"}}, // of all layers, so it needs none of them
	{packages: "sluice/sidecar/logtest", own: []string{"*"}, foreign: []string{"*"}},
	{packages: "sluice/sidecar/*/*test", own: []string{"sluice/sidecar", "sluice/sidecar/*"}, foreign: []string{"*"}},

	// What everybody may import: words, and values.
	{packages: "sluice/sidecar", own: []string{"sluice/ratelimit"}},
	{packages: "sluice/sidecar/printable", foreign: []string{"github.com/rivo/uniseg", "golang.org/x/text/unicode/bidi"}},
	{packages: "sluice/sidecar/lockfile", own: []string{"sluice/sidecar"}},
	{packages: "sluice/sidecar/logline", own: []string{"sluice/ratelimit", "sluice/sidecar", "sluice/sidecar/printable"}},
	{packages: "sluice/sidecar/event"},
	{packages: "sluice/sidecar/overlay"},
	{packages: "sluice/sidecar/peer", own: words("event"), foreign: []string{"golang.org/x/sys/unix"}},
	{packages: "sluice/sidecar/follow"},
	{packages: "sluice/sidecar/listen", http: true},
	{packages: "sluice/sidecar/notes", own: []string{"sluice/sidecar"}},
	{packages: "sluice/sidecar/envelope", own: []string{"sluice/ratelimit"}, foreign: []string{"github.com/dchest/siphash", "golang.org/x/net/idna"}},
	{packages: "sluice/sidecar/field", own: []string{"sluice/sidecar/envelope"}},

	// What is in force.
	{packages: "sluice/sidecar/domains", own: []string{"sluice/sidecar", "sluice/sidecar/envelope", "sluice/sidecar/follow"}},
	{packages: "sluice/sidecar/identity", own: words("domains", "envelope", "follow")},
	{packages: "sluice/sidecar/limit", own: words("field", "overlay")},
	{packages: "sluice/sidecar/typed", own: words("envelope", "field", "limit")},
	{packages: "sluice/sidecar/config", own: append(words("domains", "envelope", "field", "identity", "limit", "typed"), "sluice/ratelimit/redisurl"), foreign: []string{"github.com/BurntSushi/toml"}},
	{packages: "sluice/sidecar/history", own: words("envelope", "field", "event", "limit", "typed", "notes")},
	{packages: "sluice/sidecar/settings", own: words("envelope", "identity", "limit", "config")},
	{packages: "sluice/sidecar/live", own: words("event", "notes", "limit", "typed", "config", "history", "settings")},

	// Owners of state, and who decides: none imports another.
	{packages: "sluice/sidecar/transaction", own: words("envelope")},
	{packages: "sluice/sidecar/totals", own: words()},
	{packages: "sluice/sidecar/notice", own: words()},
	{packages: "sluice/sidecar/share", own: words("event")},
	{packages: "sluice/sidecar/wording", own: words("limit")},
	{packages: "sluice/sidecar/policy", own: owner("transaction", "totals", "notice", "wording")},
	{packages: "sluice/sidecar/suspension", own: owner()},
	{packages: "sluice/sidecar/stop", own: owner()},
	{packages: "sluice/sidecar/lock", own: owner()},
	{packages: "sluice/sidecar/deferfail", own: owner("cluster")},
	{packages: "sluice/sidecar/hold", own: owner()},
	{packages: "sluice/sidecar/refusal", own: owner()},
	{packages: "sluice/sidecar/sketch"},
	{packages: "sluice/sidecar/usual", own: words()},
	{packages: "sluice/sidecar/cluster", own: words("usual", "notes")},
	{packages: "sluice/sidecar/senders", own: words("cluster", "sketch")},
	{packages: "sluice/sidecar/attribution", own: owner("sketch", "usual", "cluster", "senders")},
	{packages: "sluice/sidecar/delivery", own: owner()},
	{packages: "sluice/sidecar/incident", own: owner()},
	{packages: "sluice/sidecar/eventlog", own: owner()},
	{packages: "sluice/sidecar/near", own: owner()},
	{packages: "sluice/sidecar/spike", own: owner()},
	{packages: "sluice/sidecar/reconcile", own: owner()},

	// Who looks through them.
	{packages: "sluice/sidecar/operator", own: owner("live", "policy", "totals", "wording", "suspension", "stop", "lock", "deferfail", "hold", "delivery", "refusal", "senders", "attribution", "cluster", "eventlog", "incident")},
	{packages: "sluice/sidecar/engine", own: owner("live", "policy", "totals", "wording", "suspension", "stop", "lock", "deferfail", "hold", "delivery", "refusal", "senders", "attribution", "cluster", "eventlog", "incident", "near", "share", "spike", "usual", "reconcile", "operator")},
	{packages: "sluice/sidecar/simulate", own: owner("attribution", "deferfail", "delivery", "engine", "hold")},

	// Who examines all of them: it asks Exim and the running sluice through their fronts.
	{packages: "sluice/sidecar/doctor", own: words("domains", "action", "peer", "envelope", "identity", "config", "settings", "operator", "admin", "exim", "lockdir", "login", "policyd", "web")},

	// What root does for an operator: it asks the running sluice through its front, and believes
	// no setting of it.
	{packages: "sluice/sidecar/remedy", own: words("action", "envelope", "config", "limit", "typed", "stop", "senders", "operator", "admin", "exim", "lockdir", "login", "mainlog", "quarantine", "queue", "script"),
		foreign: []string{"golang.org/x/sys/unix"}},
	{packages: "sluice/sidecar/clean", own: words("remedy", "action", "limit", "typed", "stop", "senders", "operator", "incident", "admin", "exim", "login", "quarantine", "queue", "scan", "script")}, // the steps of a clean

	// Fronts: never each other, and no owner of state but the incidents that are told.
	{packages: "sluice/sidecar/alert", own: words("event", "config", "incident"), http: true},
	{packages: "sluice/sidecar/admin", own: words("event", "peer", "listen", "limit", "typed", "config", "history", "settings", "simulate", "operator", "senders", "attribution", "stop", "eventlog", "incident", "queue", "alert"), foreign: []string{"*"}, http: true},
	{packages: "sluice/sidecar/web", own: words("event", "listen", "settings", "operator"),
		foreign: []string{"github.com/prometheus/client_golang/prometheus", "github.com/prometheus/client_golang/prometheus/promhttp", "golang.org/x/net/netutil"}, http: true},
	{packages: "sluice/sidecar/card", own: words("event", "incident", "stop")},                                     // an incident, as it is shown
	{packages: "sluice/sidecar/action"},                                                                            // what root was told to do
	{packages: "sluice/sidecar/script", own: words("action", "event"), foreign: []string{"golang.org/x/sys/unix"}}, // what root does to a tenant's files
	{packages: "sluice/sidecar/scan", own: words("script")},                                                        // what it finds in them
	{packages: "sluice/sidecar/quarantine", own: words("action", "envelope", "exim")},                              // what root does to Exim's queue
	{packages: "sluice/sidecar/queue", own: words("event", "notes", "envelope", "exim")},                           // Exim's queue
	{packages: "sluice/sidecar/login", own: words("action")},                                                       // logins of mailboxes
	{packages: "sluice/sidecar/exim", own: words("event", "follow", "envelope"), foreign: []string{"golang.org/x/text/encoding/htmlindex"}},
	{packages: "sluice/sidecar/install", own: words("exim")}, // into Exim's configuration
	{packages: "sluice/sidecar/*", own: words("event", "notes", "follow", "listen", "peer", "envelope", "limit", "typed", "config", "settings"), foreign: []string{"*"}},
}

// words are the vocabulary, and some packages of the sidecar.
func words(packages ...string) []string {
	own := []string{"sluice/ratelimit", "sluice/sidecar", "sluice/sidecar/printable", "sluice/sidecar/lockfile", "sluice/sidecar/logline"}
	for _, p := range packages {
		own = append(own, "sluice/sidecar/"+p)
	}
	return own
}

// owner is what an owner of state may import, and some more packages of the sidecar.
func owner(more ...string) []string {
	return words(append(more, "domains", "envelope", "field", "event", "notes", "identity", "limit", "typed", "config", "history", "settings")...)
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

// Who looks for a package finds it in the picture of CONTRIBUTING.md, and what it is for.
func TestThePictureOfTheLayersHasAll(t *testing.T) {
	text, err := os.ReadFile("../../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, picture, _ := strings.Cut(string(text), "```text\n")
	picture, _, _ = strings.Cut(picture, "```")
	words := strings.Fields(picture)
	for _, p := range packages(t) {
		name, is := strings.CutPrefix(p.ImportPath, "sluice/sidecar/")
		if is && !strings.HasSuffix(name, "test") && !slices.Contains(words, name) {
			t.Errorf("%s is not in the picture of CONTRIBUTING.md", p.ImportPath)
		}
	}
}

func (l layer) allows(imported string) bool {
	first, _, _ := strings.Cut(imported, "/")
	switch {
	case imported == "net/http":
		return l.http
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
