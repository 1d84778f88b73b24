package config

import (
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/limit"
)

// What Exim says is in force where the file says nothing, also over the panel, and what a key cannot have
// is left out and returned.
func TestWhatEximSays(t *testing.T) {
	c, err := Parse("sluice.toml", "[identity]\nrelay = [\"192.0.2.1\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	c.SetUnlessInFile("exim.local_domains", []string{"/etc/panel"})
	refused := c.SetFromExim("exim.local_domains", []string{"shop.example", "a_b*", "!*.not.example", "/etc/more", "lsearch;/etc/keys", "!dsearch;/etc/no.d/", "partial-lsearch;/etc/p", "!!/etc/x", "lsearch;dsearch;/etc/x"}, "domainlist local_domains")
	if got := strings.Join(c.Exim.LocalDomains, " "); got != "shop.example !*.not.example /etc/more lsearch;/etc/keys !dsearch;/etc/no.d" || !slices.Equal(refused, []string{"a_b*", "partial-lsearch;/etc/p", "!!/etc/x", "lsearch;dsearch;/etc/x"}) {
		t.Errorf("%s, refused %q", got, refused)
	}
	if refused := c.SetFromExim("identity.relay", []string{"198.51.100.1"}, "hostlist relay_from_hosts"); len(refused) > 0 || len(c.Identity.Relay) != 1 || c.Identity.Relay[0].Hosts.Addr().String() != "192.0.2.1" {
		t.Errorf("the file does not win: %v, refused %q", c.Identity.Relay, refused)
	}
	if c.SetFromExim("identity.relay_domains", nil, "domainlist relay_to_domains"); c.FromExim("identity.relay_domains") || len(c.Identity.RelayDomains) == 0 {
		t.Errorf("an Exim that says nothing takes away what is built in: %v", c.Identity.RelayDomains)
	}
	c.SetTextFromExim("exim.mainlog", "/var/log/exim/main.log", "log_file_path")
	for key, want := range map[string]limit.Origin{
		"exim.mainlog":           {Layer: limit.LayerExim, Place: "log_file_path"},
		"identity.relay":         {Layer: limit.LayerFile, Place: "sluice.toml:2"},
		"identity.relay_domains": {Layer: limit.LayerBuiltIn},
	} {
		for _, v := range c.Values() {
			if v.Key == key && v.Of() != want {
				t.Errorf("%s is of %+v, want %+v", key, v.Of(), want)
			}
		}
	}
	if c.Sets("exim.mainlog") || !c.Sets("identity.relay") {
		t.Error("what Exim says counts as the file's")
	}
}
