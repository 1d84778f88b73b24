package sidecar

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"sluice/sidecar/event"
)

// A ConfigStatus is how the configuration file stands.
type ConfigStatus struct {
	File    string    `json:"file"` // empty: there is none
	Hash    string    `json:"hash"` // as in Config.Hash, of the file as it was read
	Read    time.Time `json:"read"`
	Trouble string    `json:"trouble"` // why the file as it is now is not in force; empty if it is
	Restart []string  `json:"restart"` // keys whose values in the file come into force with a restart
	Panel   []string  `json:"panel"`   // lines of the panel's files that were skipped, as "FILE:LINE: why"

	// What was set while this node counted by itself, and is not in force since it
	// shares with others: "SCOPE KEY=VALUE".
	Stranded []string `json:"stranded"`
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

// SetConfig puts a configuration in force that was read anew: all of it at
// once, but for what needs a restart.
func (p *Policy) SetConfig(now time.Time, c *Config) {
	p.thresholds.mu.Lock()
	defer p.thresholds.mu.Unlock()
	hash := c.Hash()
	restart := c.keep(p.thresholds.from.config)
	p.thresholds.from.config = c
	p.config.Store(&ConfigStatus{File: c.file, Hash: hash, Read: now, Restart: restart, Panel: p.config.Load().Panel})
	p.load(now)
	p.emitConfigRead(c.file, restart)
}

// RefuseConfig notes why the file as it is now is not in force.
func (p *Policy) RefuseConfig(err error) {
	p.thresholds.mu.Lock()
	defer p.thresholds.mu.Unlock()
	status := *p.config.Load()
	if status.Trouble != err.Error() {
		p.events.Emit(event.Event{Kind: event.ConfigRefused, Err: err})
	}
	status.Trouble = err.Error()
	p.config.Store(&status)
}

// SetPanel puts in force what the panel's files say now.
func (p *Policy) SetPanel(now time.Time, panel Panel) {
	p.thresholds.mu.Lock()
	defer p.thresholds.mu.Unlock()
	status := *p.config.Load()
	if !slices.Equal(status.Panel, panel.Trouble) {
		p.emitPanelSkipped(panel.Trouble)
	}
	status.Panel = append([]string{}, panel.Trouble...)
	p.config.Store(&status)
	p.thresholds.from.panel, p.thresholds.from.read = panel, now
	p.load(now)
	p.events.Emit(event.Event{Kind: event.PanelRead, Attrs: event.Attrs("settings", len(panel.Settings), "held_or_suspended", len(panel.Stops))})
}

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
