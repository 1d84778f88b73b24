package main

import (
	"testing"

	"sluice/sidecar/config"
	"sluice/sidecar/exim"
)

// Relays that only Exim's list has are marked as such: they are not this host itself. What the file
// says of relays is meant as it stands there.
func TestRelaysByEximAreMarked(t *testing.T) {
	lists := exim.Lists{RelayHosts: exim.List{Names: []string{"relay_hosts"}, Items: []string{"198.51.100.0/24", "192.0.2.1"}}}
	for text, want := range map[string]int{"": 2, "[identity]\nrelay = [\"192.0.2.7\"]\n": 0} {
		c, err := config.Parse("sluice.toml", text)
		if err != nil {
			t.Fatal(err)
		}
		addLists(c, lists)
		marked := 0
		for _, r := range c.Identity.Relay {
			if r.ByExim {
				marked++
			}
		}
		if marked != want {
			t.Errorf("%q: %+v, want %d marked", text, c.Identity.Relay, want)
		}
	}
}
