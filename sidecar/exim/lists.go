package exim

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"sluice/sidecar/printable"
)

// Lists are what Exim's configuration says of which domains are local, for whom it relays, and where
// it logs.
type Lists struct {
	Files        []string `json:"files"`   // of the configuration: when one changes, so may the rest
	Mainlog      string   `json:"mainlog"` // see MainLog
	LocalDomains List     `json:"local_domains"`
	RelayDomains List     `json:"relay_domains"`
	RelayHosts   List     `json:"relay_hosts"`
}

// A List is what is understood of Exim's named lists of one purpose.
type List struct {
	Names   []string `json:"names"`   // of the lists: local_domains
	Items   []string `json:"items"`   // see Lists
	Unknown []string `json:"unknown"` // items that only Exim can look up, as it has them
}

// Lists asks Exim for them. Items of domains are names, *.NAME for all below it, absolute paths of
// files with such an item a line, and lookups whose keys are names and nothing else: lsearch;FILE and
// dsearch;DIRECTORY. A ! in front takes out of the others. Items of hosts are addresses and networks, without the loopback's.
func (e Exim) Lists(ctx context.Context) (Lists, error) {
	config, err := e.Run(ctx, "", "-bP", "config")
	if err != nil {
		return Lists{}, err
	}
	host, err := e.Expand(ctx, "", "$primary_hostname")
	if err != nil {
		return Lists{}, err
	}
	lists := listsOf(config, host)
	lists.Mainlog = e.MainLog(ctx)
	return lists, nil
}

// listsOf reads what -bP config prints.
func listsOf(config, host string) (all Lists) {
	n := namedLists(config)
	n.host = host
	all.Files = n.files
	all.LocalDomains = n.domains(func(name string) bool { return name == "local_domains" })
	all.RelayDomains = n.domains(isRelay)
	all.RelayHosts = n.relayHosts()
	return all
}

// isRelay reports whether a list is, by its name, one for which Exim relays: the names of Exim's own
// example and Debian, and of the panels. A list with another name may be for anything, as
// auth_relay_hosts or a smarthost's relay_via_domains: whom it has is not free for that.
func isRelay(name string) bool {
	switch name {
	case "relay_to_domains", "relay_from_hosts", "relay_domains", "relay_hosts":
		return true
	}
	return false
}

// named are the named lists of a configuration, and the files that it was read from.
type named struct {
	host  string // primary_hostname
	files []string
	names []string          // kind and name of each list, in their order
	lists map[string]string // by kind and name: "domainlist local_domains"
}

// namedLists reads what -bP config prints: a line for each option, behind a comment
// # LINE "FILE" wherever another file begins.
func namedLists(config string) named {
	n := named{lists: map[string]string{}}
	for line := range strings.Lines(config) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "begin ") {
			break // no list is defined in what follows
		}
		if rest, marked := strings.CutPrefix(line, "# "); marked {
			if _, file, found := strings.Cut(rest, ` "`); found && !slices.Contains(n.files, strings.TrimSuffix(file, `"`)) {
				n.files = append(n.files, strings.TrimSuffix(file, `"`))
			}
			continue
		}
		name, list, found := strings.Cut(line, "=")
		words := strings.Fields(name)
		if !found || len(words) < 2 {
			continue
		}
		kind := strings.TrimSuffix(words[len(words)-2], "_cache") // behind "hide", if that is there
		if kind == "domainlist" || kind == "hostlist" {
			key := kind + " " + words[len(words)-1]
			n.names, n.lists[key] = append(n.names, key), list
		}
	}
	return n
}

// of calls f for each list of a kind.
func (n named) of(kind string, f func(name, list string)) {
	for _, key := range n.names {
		if k, name, _ := strings.Cut(key, " "); k == kind {
			f(name, n.lists[key])
		}
	}
}

// domains is what is understood of the lists of domains with such names.
func (n named) domains(isMeant func(name string) bool) (all List) {
	n.of("domainlist", func(name, list string) {
		if isMeant(name) {
			found := n.readDomains(list, 0)
			all.Names = append(all.Names, name)
			for _, item := range found.Items {
				if !slices.Contains(all.Items, item) { // Debian's name of the host is often there twice
					all.Items = append(all.Items, item)
				}
			}
			all.Unknown = append(all.Unknown, found.Unknown...)
		}
	})
	return all
}

// mostNested is how deep lists may name lists.
const mostNested = 8

// readDomains reads a list of domains. It never takes in more than Exim means: behind an exception
// that is not understood nothing is certain.
func (n named) readDomains(list string, depth int) (found List) {
	sure := true
	for _, item := range items(list) {
		bare, negated := strings.CutPrefix(item, "!")
		is := n.readDomain(strings.TrimSpace(bare), depth)
		exceptions := slices.ContainsFunc(is.Items, func(one string) bool { return one[0] == '!' })
		switch {
		case !negated && sure:
			found.Items, found.Unknown = append(found.Items, is.Items...), append(found.Unknown, is.Unknown...)
		case !sure || exceptions || len(is.Unknown) > 0:
			found.Unknown = append(found.Unknown, item)
			sure = false
		default:
			for _, one := range is.Items {
				found.Items = append(found.Items, "!"+one)
			}
		}
	}
	return found
}

// readDomain reads one item of a list of domains (Exim's specification, sections "Domain lists" and
// "Single-key lookup types"). All lookups but two are for Exim: of partial-lsearch, lsearch* and
// wildlsearch some keys mean more than themselves, those of iplsearch are addresses, and cdb, dbm and
// databases are no text.
func (n named) readDomain(item string, depth int) (found List) {
	lookup, file, looks := strings.Cut(item, ";")
	file = strings.TrimSpace(file)
	named, isNamed := n.lists["domainlist "+strings.TrimPrefix(item, "+")]
	switch {
	case item == "": // of a ! with nothing behind it
		return List{Unknown: []string{item}}
	case item == "@":
		return List{Items: []string{n.host}}
	case item == "@[]": // addresses in brackets, which Sluice takes for no domains
		return List{}
	case item[0] == '+' && isNamed && depth < mostNested:
		return n.readDomains(named, depth+1)
	case looks && (lookup == "lsearch" || lookup == "dsearch") && filepath.IsAbs(file) && isPlain(file):
		return List{Items: []string{lookup + ";" + file}}
	case !looks && isPlain(strings.TrimPrefix(item, "*.")):
		return List{Items: []string{item}}
	}
	return List{Unknown: []string{item}}
}

// isPlain reports whether a name or path is one that Exim neither expands nor takes for a pattern.
func isPlain(s string) bool { return s != "" && !strings.ContainsAny(s, "!+@^$*:;\\{} \t\"") }

// relayHosts is what is understood of the lists of hosts for which Exim relays.
func (n named) relayHosts() (all List) {
	n.of("hostlist", func(name, list string) {
		if !isRelay(name) {
			return
		}
		all.Names = append(all.Names, name)
		sure := true
		for _, item := range items(list) {
			host, isHost := hostOf(item)
			switch {
			case item[0] == '!' || !sure:
				sure = false // it may be part of what follows
				all.Unknown = append(all.Unknown, item)
			case isHost && !host.Addr().IsLoopback():
				all.Items = append(all.Items, printable.Network(host))
			case !isHost && item != "localhost":
				all.Unknown = append(all.Unknown, item)
			}
		}
	})
	return all
}

// hostOf is the address or network that an item of a list of hosts is. The whole Internet is none.
func hostOf(item string) (netip.Prefix, bool) {
	if ip, err := netip.ParseAddr(item); err == nil {
		return netip.PrefixFrom(ip.Unmap(), ip.Unmap().BitLen()), true
	}
	network, err := netip.ParsePrefix(item)
	return network.Masked(), err == nil && network.Bits() > 0
}

// Hosts are the addresses and networks in a host list.
func Hosts(list string) (hosts []netip.Prefix) {
	for _, item := range items(list) {
		if host, is := hostOf(item); is {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// items splits a list of Exim's (Exim's specification, chapter "String expansions",
// section "Changing list separators"): a doubled separator is one of the item's own. What is
// expanded, ${...}, stays one item, whatever it comes to.
func items(list string) (all []string) {
	list, separator := strings.TrimSpace(list), ":"
	if len(list) > 1 && list[0] == '<' {
		list, separator = list[2:], list[1:2]
	}
	list = strings.ReplaceAll(list, separator+separator, "\x00")
	whole := ""
	for item := range strings.SplitSeq(list, separator) {
		whole += item
		if strings.Count(whole, "{") > strings.Count(whole, "}") {
			whole += separator
			continue
		}
		if item = strings.TrimSpace(strings.ReplaceAll(whole, "\x00", separator)); item != "" {
			all = append(all, item)
		}
		whole = ""
	}
	if whole = strings.TrimSpace(strings.TrimSuffix(whole, separator)); whole != "" {
		all = append(all, whole)
	}
	return all
}
