package config

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/field"
	"sluice/sidecar/limit"
)

// Assume sets a key that the file leaves open to what a panel has.
func (c *Config) Assume(key string, value any) {
	if c.Origin(key) != limit.BuiltIn {
		return
	}
	for _, k := range c.keys() {
		if k.name == key && k.value.Set(value) == nil {
			c.origins[key] = string(limit.LayerPanel)
		}
	}
}

// File is the file that a configuration was read from; empty if there was none.
func (c *Config) File() string { return c.file }

// Hash is the same for configurations that have alike what all nodes of a
// cluster should: who may send how much.
func (c *Config) Hash() string {
	h := sha256.New()
	for _, v := range c.Values() {
		if strings.HasPrefix(v.Key, "limits.") || slices.Contains([]string{"store.outage", "store.nodes", "identity.exempt_senders"}, v.Key) {
			fmt.Fprintf(h, "%s=%s\n", v.Key, field.TOML(v.Value))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// Keep is the longest window that the file limits for anybody.
func (c *Config) Keep() time.Duration { return limit.NewTable(c.Limits.Window, c.Settings()).Keep() }

// keep gives a new configuration the values of the running one that cannot
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
		if err := k.value.Set(value); err == nil { // a flag may have given what the file may not have
			c.origins[k.name] = running.Origin(k.name)
		}
	}
	return restart
}

// localDomains are those of whichever mail server there is.
func (c *Config) LocalDomains() []string {
	return slices.Concat(c.Exim.LocalDomains, c.Postfix.LocalDomains)
}

// followedKeys come into force while sluice runs, with those of single scopes.
// What is not here is what sluice has opened: listeners, the store, the log.
var followedKeys = []string{
	"exim.local_domains", "exim.remote_transports", "postfix.charge", "postfix.local_domains",
	"identity.owners", "identity.main_domains", "identity.relay", "identity.exempt_senders",
}

// isFollowed tells whether a key comes into force while sluice runs.
func isFollowed(key string) bool {
	return slices.Contains(followedKeys, key) || strings.HasPrefix(key, "limits.") && key != "limits.window"
}
