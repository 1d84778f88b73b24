package sidecar

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"
)

// A ConfigStatus is how the configuration file stands.
type ConfigStatus struct {
	File    string    `json:"file"` // empty: there is none
	Hash    string    `json:"hash"` // as in Config.Hash, of the file as it was read
	Read    time.Time `json:"read"`
	Trouble string    `json:"trouble"` // why the file as it is now is not in force; empty if it is
	Restart []string  `json:"restart"` // keys whose values in the file come into force with a restart
	Panel   []string  `json:"panel"`   // lines of the panel's files that were skipped, as "FILE:LINE: why"
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

// keep gives a new configuration the values of the running one that cannot
// change without a restart, and returns their keys.
func (c *Config) keep(running *Config) (restart []string) {
	restart = []string{}
	old := running.keys()
	for i, k := range c.keys() {
		value := old[i].value.get()
		if isFollowed(k.name) || reflect.DeepEqual(k.value.get(), value) {
			continue
		}
		restart = append(restart, k.name)
		if err := k.value.set(value); err == nil { // a flag may have given what the file may not have
			c.origins[k.name] = running.Origin(k.name)
		}
	}
	return restart
}

// Hash is the same for configurations that have alike what all nodes of a
// cluster should: who may send how much.
func (c *Config) Hash() string {
	h := sha256.New()
	for _, v := range c.Values() {
		if strings.HasPrefix(v.Key, "limits.") || slices.Contains([]string{"store.outage", "store.nodes", "identity.exempt_senders"}, v.Key) {
			fmt.Fprintf(h, "%s=%s\n", v.Key, tomlText(v.Value))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}

// File is the file that a configuration was read from; empty if there was none.
func (c *Config) File() string { return c.file }

// Config is the configuration in force.
func (p *Policy) Config() *Config { return p.settings.Load().config }

// SetConfig puts a configuration in force; see Live.
func (p *Policy) SetConfig(now time.Time, c *Config) { p.settings.SetConfig(now, c) }

// RefuseConfig notes why the file as it is now is not in force.
func (p *Policy) RefuseConfig(err error) { p.settings.RefuseConfig(err) }

// SetPanel puts in force what the panel's files say now.
func (p *Policy) SetPanel(now time.Time, panel Panel) { p.settings.SetPanel(now, panel) }

// Assume sets a key that the file leaves open to what a panel has.
func (c *Config) Assume(key string, value any) {
	if c.Origin(key) != builtIn {
		return
	}
	for _, k := range c.keys() {
		if k.name == key && k.value.set(value) == nil {
			c.origins[key] = string(LayerPanel)
		}
	}
}
