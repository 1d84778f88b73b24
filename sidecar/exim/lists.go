package exim

import (
	"context"
	"net/netip"
	"path/filepath"
	"strings"
)

// LocalDomains are the items of the domain list local_domains that are a name or an
// absolute path of a file of names. What only Exim can look up is left out.
func (e Exim) LocalDomains(ctx context.Context) (items []string, err error) {
	list, err := e.Run(ctx, "", "-bP", "+local_domains")
	if err != nil {
		return nil, err
	}
	_, list, _ = strings.Cut(list, "=")
	return e.domains(ctx, list), nil
}

// RelayDomains are the items of the domain lists that have "relay" in their names, like
// LocalDomains. config is what -bP config prints.
func (e Exim) RelayDomains(ctx context.Context, config string) (items []string) {
	for _, list := range relayLists(config, "domainlist") {
		items = append(items, e.domains(ctx, list)...)
	}
	return items
}

// RelayHosts are the addresses and networks in the host lists that have "relay" in their
// names. What only Exim can look up is left out. config is what -bP config prints.
func RelayHosts(config string) (hosts []netip.Prefix) {
	for _, list := range relayLists(config, "hostlist") {
		hosts = append(hosts, Hosts(list)...)
	}
	return hosts
}

// Hosts are the addresses and networks in a host list.
func Hosts(list string) (hosts []netip.Prefix) {
	for _, item := range items(list) {
		if ip, err := netip.ParseAddr(item); err == nil {
			hosts = append(hosts, netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()))
		} else if network, err := netip.ParsePrefix(item); err == nil {
			hosts = append(hosts, network.Masked())
		}
	}
	return hosts
}

// relayLists are the named lists of a kind with "relay" in their names.
func relayLists(config, kind string) (lists []string) {
	for line := range strings.Lines(config) {
		name, list, found := strings.Cut(strings.TrimSpace(line), "=")
		words := strings.Fields(name)
		if found && len(words) > 1 && words[0] == kind && strings.Contains(words[len(words)-1], "relay") {
			lists = append(lists, list)
		}
	}
	return lists
}

// domains are the items of a domain list that are a name or an absolute path of a file.
func (e Exim) domains(ctx context.Context, list string) (names []string) {
	for _, item := range items(list) {
		switch kind, file, lookup := strings.Cut(item, ";"); {
		case item == "@":
			if host, err := e.Expand(ctx, "", "$primary_hostname"); err == nil {
				names = append(names, host)
			}
		case lookup && strings.HasSuffix(kind, "lsearch") && filepath.IsAbs(strings.TrimSpace(file)):
			names = append(names, strings.TrimSpace(file))
		case item != "" && !lookup && !strings.ContainsAny(item, "!+@^$*:"):
			names = append(names, item)
		}
	}
	return names
}

// items splits a list of Exim's (Exim's specification, chapter "String expansions",
// section "Changing list separators"): a doubled separator is one of the item's own.
func items(list string) (all []string) {
	list, separator := strings.TrimSpace(list), ":"
	if len(list) > 1 && list[0] == '<' {
		list, separator = list[2:], list[1:2]
	}
	list = strings.ReplaceAll(list, separator+separator, "\x00")
	for item := range strings.SplitSeq(list, separator) {
		if item = strings.TrimSpace(strings.ReplaceAll(item, "\x00", separator)); item != "" {
			all = append(all, item)
		}
	}
	return all
}
