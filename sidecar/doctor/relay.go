package doctor

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"sluice/sidecar/envelope"
	"sluice/sidecar/exim"
	"sluice/sidecar/identity"
	"sluice/sidecar/peer"
)

// checkRelay compares for whom Exim relays with what the configuration says of them.
func (d *doctor) checkRelay() {
	const check = "relays"
	text, err := d.exim.Run(d.ctx, "", "-bP", "config")
	if err != nil {
		return // checkWiring has said so
	}
	found := len(d.findings)
	if missing := unlistedRelays(text, d.config.Identity.Relay); len(missing) > 0 {
		d.note(check, "List in identity.relay those that send in names of their own, or limit them: sluice set relay:ADDRESS hourly=500",
			"Exim relays for these, and identity.relay does not have them: each is counted as relay:ADDRESS, and unlimited: %s", strings.Join(missing, ", "))
	}
	if missing := d.unlistedRelayDomains(text); len(missing) > 0 {
		d.note(check, "Add them to identity.relay_domains; a file by its path.",
			"Exim takes mail for these from everybody, and identity.relay_domains does not have them: whoever sends to them is counted as relay:ADDRESS: %s", strings.Join(missing, ", "))
	}
	if theirs, known := d.exim.Macro(d.ctx, "SLUICE_RELAY_HOSTS"); known {
		for _, r := range d.config.Identity.Relay {
			if !slices.Contains(exim.Hosts(theirs), r.Hosts) {
				d.note(check, "Set Exim's macro SLUICE_RELAY_HOSTS to the hosts of identity.relay.",
					"SLUICE_RELAY_HOSTS (%q) does not have %s, which identity.relay has: while sluice is down, no lock file holds for it", strings.TrimSpace(theirs), hostText(r.Hosts))
				break
			}
		}
	}
	if len(d.findings) == found {
		d.ok(check, "identity.relay has the hosts for which Exim's lists say that it relays")
	}
}

// unlistedRelays are the hosts of Exim's relay lists that are neither in identity.relay nor
// this host.
func unlistedRelays(config string, relays []identity.Relay) (missing []string) {
	own, _ := peer.ReadAddresses() // without them, those that are this host's are named too
	for _, host := range exim.RelayHosts(config) {
		listed := host.Addr().IsLoopback() ||
			slices.ContainsFunc(relays, func(r identity.Relay) bool { return r.Hosts.Bits() <= host.Bits() && r.Hosts.Contains(host.Addr()) }) ||
			host.IsSingleIP() && own.Has(host.Addr())
		if text := hostText(host); !listed && !slices.Contains(missing, text) {
			missing = append(missing, text)
		}
	}
	return missing
}

// unlistedRelayDomains are the domains of Exim's relay lists that are neither local nor in
// identity.relay_domains.
func (d *doctor) unlistedRelayDomains(config string) (missing []string) {
	local, relayed := d.settings.Locals.Get(), d.settings.RelayDomains.Get()
	for _, item := range d.exim.RelayDomains(d.ctx, config) {
		name := envelope.FoldDomain(item)
		known := slices.Contains(d.config.Identity.RelayDomains, item) || slices.Contains(d.config.Exim.LocalDomains, item) || local.Has(name) || relayed.Has(name)
		if filepath.IsAbs(item) {
			known = known || allIn(item, local) || allIn(item, relayed)
			item = "the domains in " + item
		}
		if !known && !slices.Contains(missing, item) {
			missing = append(missing, item)
		}
	}
	return missing
}

// hostText is an address or a network as it is written.
func hostText(n netip.Prefix) string {
	if n.IsSingleIP() {
		return n.Addr().String()
	}
	return fmt.Sprint(n)
}
