package doctor

import (
	"net/netip"
	"slices"
	"strings"

	"sluice/sidecar/exim"
	"sluice/sidecar/identity"
	"sluice/sidecar/peer"
	"sluice/sidecar/printable"
)

// checkRelay compares for whom Exim relays with what the configuration says of them.
func (d *doctor) checkRelay() {
	const check = "relays"
	if d.lists == nil {
		return // checkWiring has said so
	}
	found := len(d.findings)
	if missing := d.unlistedRelays(); len(missing) > 0 {
		d.note(check, "List in identity.relay those that send in names of their own, or limit them: sluice set relay:ADDRESS hourly=500",
			"Exim relays for these, and identity.relay does not have them: each is counted as relay:ADDRESS, and unlimited: %s", strings.Join(missing, ", "))
	}
	if missing := d.unlistedRelayDomains(); len(missing) > 0 {
		d.note(check, "Add them to identity.relay_domains; a file by its path.",
			"Exim takes mail for these from everybody, and identity.relay_domains does not have them: whoever sends to them is counted as relay:ADDRESS: %s", strings.Join(missing, ", "))
	}
	if theirs, known := d.exim.Macro(d.ctx, "SLUICE_RELAY_HOSTS"); known {
		for _, r := range d.config.Identity.Relay {
			if !slices.Contains(exim.Hosts(theirs), r.Hosts) {
				d.note(check, "Set Exim's macro SLUICE_RELAY_HOSTS to the hosts of identity.relay.",
					"SLUICE_RELAY_HOSTS (%q) does not have %s, which identity.relay has: while sluice is down, no lock file holds for it", strings.TrimSpace(theirs), printable.Network(r.Hosts))
				break
			}
		}
	}
	if len(d.findings) == found {
		d.ok(check, "identity.relay has the hosts for which Exim's lists say that it relays")
	}
}

// relayHosts are the hosts of Exim's relay lists.
func relayHosts(lists *exim.Lists) []netip.Prefix {
	return exim.Hosts("<, " + strings.Join(lists.RelayHosts.Items, ", "))
}

// unlistedRelays are the hosts of Exim's relay lists that are neither in identity.relay nor
// this host, and what only Exim can look up, where nobody says in the file what that is.
func (d *doctor) unlistedRelays() (missing []string) {
	own, _ := peer.ReadAddresses() // without them, those that are this host's are named too
	for _, host := range relayHosts(d.lists) {
		listed := slices.ContainsFunc(d.config.Identity.Relay, func(r identity.Relay) bool { return r.Hosts.Bits() <= host.Bits() && r.Hosts.Contains(host.Addr()) }) ||
			host.IsSingleIP() && own.Has(host.Addr())
		if text := printable.Network(host); !listed && !slices.Contains(missing, text) {
			missing = append(missing, text)
		}
	}
	if !d.config.Sets("identity.relay") {
		missing = append(missing, d.lists.RelayHosts.Unknown...)
	}
	return missing
}

// unlistedRelayDomains are the domains of Exim's relay lists that are neither local nor in
// identity.relay_domains, and what only Exim can look up, where nobody says in the file what that is.
func (d *doctor) unlistedRelayDomains() (missing []string) {
	local, relayed := d.settings.Locals.Get(), d.settings.RelayDomains.Get()
	for _, item := range d.lists.RelayDomains.Items {
		known := isListed(d.config.Identity.RelayDomains, item) || isListed(d.config.Exim.LocalDomains, item) || allIn(item, local) || allIn(item, relayed)
		if text := domainText(item); !known && !slices.Contains(missing, text) {
			missing = append(missing, text)
		}
	}
	if !d.config.Sets("identity.relay_domains") {
		missing = append(missing, d.lists.RelayDomains.Unknown...)
	}
	return missing
}
