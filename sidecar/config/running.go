package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/field"
	"sluice/sidecar/limit"
)

// SetUnlessInFile sets a key that the file does not set, to what the hosting panel has.
func (c *Config) SetUnlessInFile(key string, value any) {
	if c.Sets(key) {
		return
	}
	for _, k := range c.keys() {
		if k.name == key && k.value.Set(value) == nil {
			c.origins[key] = string(limit.LayerPanel)
		}
	}
}

// SetTextFromExim sets a key that the file does not set to what Exim's configuration has, if that
// is something. place says where in it it stands.
func (c *Config) SetTextFromExim(key, text, place string) {
	if c.Sets(key) || text == "" {
		return
	}
	for _, k := range c.keys() {
		if k.name == key && k.value.Set(text) == nil {
			c.origins[key] = fromExim + place
		}
	}
}

// SetFromExim does the same for a list, and returns what of it the key cannot have.
func (c *Config) SetFromExim(key string, items []string, place string) (refused []string) {
	if c.Sets(key) {
		return nil
	}
	for _, k := range c.keys() {
		if k.name != key {
			continue
		}
		was := k.value.Get()
		var good []any
		for _, item := range items {
			if k.value.Set([]any{item}) != nil {
				refused = append(refused, item)
			} else {
				good = append(good, item)
			}
		}
		if len(good) == 0 {
			k.value.Set(was)
		} else if k.value.Set(good) == nil {
			c.origins[key] = fromExim + place
		}
	}
	return refused
}

// fromExim is what the origin of a key begins with that SetFromExim has set.
const fromExim = string(limit.LayerExim) + ": "

// FromExim reports whether a key has what Exim's configuration says.
func (c *Config) FromExim(key string) bool { return strings.HasPrefix(c.Origin(key), fromExim) }

// Sets reports whether the file sets a key.
func (c *Config) Sets(key string) bool {
	return c.Origin(key) != string(limit.LayerBuiltIn) && c.Origin(key) != string(limit.LayerPanel) && !c.FromExim(key)
}

// ForOtherHost forgets what is true of this host only: its local domains, and who on it is
// charged. If the file was written for the other host, what it sets itself stays.
func (c *Config) ForOtherHost(written bool) {
	for _, k := range c.keys() {
		about := strings.HasPrefix(k.name, "identity.") || strings.HasSuffix(k.name, ".local_domains")
		if !about || written && c.Sets(k.name) {
			continue
		}
		delete(c.origins, k.name)
		var empty any = []any{}
		if _, text := k.value.Get().(string); text {
			empty = ""
		}
		k.value.Set(empty)
	}
}

// File is the path of the file that was read; empty if there was none.
func (c *Config) File() string { return c.file }

// Hash is the same for configurations that are equal in what must be equal on all nodes
// of a cluster: who may send how much.
func (c *Config) Hash() string {
	h := sha256.New()
	for _, v := range c.Values() {
		if strings.HasPrefix(v.Key, "limits.") || slices.Contains([]string{"store.outage", "store.nodes", "identity.exempt"}, v.Key) {
			fmt.Fprintf(h, "%s=%s\n", v.Key, field.TOML(v.Value))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// LongestWindow is the longest window of any limit in the file.
func (c *Config) LongestWindow() time.Duration {
	return limit.NewTable(c.Limits.Window, c.Settings()).LongestWindow()
}

// KeepRunning gives a new configuration those values of the running one that cannot
// change without a restart, and returns their keys.
func (c *Config) KeepRunning(running *Config) (restart []string) {
	restart = []string{}
	old := running.keys()
	for i, k := range c.keys() {
		value := old[i].value.Get()
		if isFollowed(k.name) || reflect.DeepEqual(k.value.Get(), value) {
			continue
		}
		restart = append(restart, k.name)
		if err := k.value.Set(value); err == nil { // it fails for a value that only a flag can set, which a file must not have
			c.origins[k.name] = running.Origin(k.name)
		}
	}
	return restart
}

// LocalDomains are those of Exim and of Postfix.
func (c *Config) LocalDomains() []string {
	return slices.Concat(c.Exim.LocalDomains, c.Postfix.LocalDomains)
}

// followedKeys come into force while sluice runs, like all thresholds. The others do
// not: listeners, the store, the log.
var followedKeys = []string{
	"exim.local_domains", "exim.remote_transports", "postfix.charge", "postfix.local_domains",
	"refusal.help", "refusal.details", "who.subjects", "spike.least", "spike.factor",
	"identity.owners", "identity.main_domains", "identity.relay", "identity.relay_domains",
	"identity.proxies", "identity.reinject", "identity.system", "identity.exempt",
}

// isFollowed reports whether a key comes into force while sluice runs.
func isFollowed(key string) bool {
	return slices.Contains(followedKeys, key) || strings.HasPrefix(key, "alert.") || strings.HasPrefix(key, "limits.") && key != "limits.window"
}

// Settings lists the thresholds of the file, and the built-in ones that it leaves.
func (c *Config) Settings() (all []limit.Setting) {
	all = settingsOf(&c.Limits.Default, sidecar.DefaultScope, "limits.", c.Origin)
	for _, kind := range c.scopeKinds() {
		for name, t := range kind.scopes {
			scope := name
			if kind.name == "account" {
				scope = sidecar.AccountPrefix + name
			}
			all = append(all, settingsOf(&t, scope, "limits."+kind.name+"."+name+".", c.Origin)...)
		}
	}
	return all
}

func settingsOf(t *limit.Thresholds, scope, prefix string, origin func(key string) string) (all []limit.Setting) {
	for _, k := range keysOf(t, "") {
		if v := k.value.Get(); v != nil {
			all = append(all, limit.Setting{Scope: scope, Key: k.name, Value: v, Origin: originOf(origin(prefix + k.name))})
		}
	}
	return all
}
