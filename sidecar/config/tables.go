package config

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"sluice/sidecar/envelope"
	"sluice/sidecar/field"
	"sluice/sidecar/identity"
	"sluice/sidecar/printable"
)

// A relayList is the field of identity.relay: a list of addresses and networks, of which
// each may be a table that says more.
type relayList struct{ field *[]identity.Relay }

// Set implements field.Value.
func (l relayList) Set(v any) error {
	entries, ok := v.([]any)
	if !ok {
		return errors.New(`a list of addresses and networks, like ["192.0.2.1", {host = "192.0.2.0/24", names = "any"}]`)
	}
	var all []identity.Relay
	for _, e := range entries {
		if host, plain := e.(string); plain {
			e = map[string]any{"host": host}
		}
		texts, err := tableOf(e, "host", "names")
		if err != nil {
			return fmt.Errorf("a list, each an address, a network or a table: %w", err)
		}
		hosts, err := addressOrNetwork(texts["host"])
		if err != nil {
			return fmt.Errorf("a list, each %w; %s is not", err, field.QuoteTOML(texts["host"]))
		}
		if names := texts["names"]; names != "" && names != "any" {
			return fmt.Errorf(`a list, in which names is "any" or left out, and not %s`, field.QuoteTOML(names))
		}
		all = append(all, identity.Relay{Hosts: hosts, AnyName: texts["names"] != ""})
	}
	*l.field = all
	return nil
}

// Get implements field.Value: it returns texts, and tables where there is more to say.
func (l relayList) Get() any {
	all := []any{}
	for _, r := range *l.field {
		if r.AnyName {
			all = append(all, map[string]any{"host": printable.Network(r.Hosts), "names": "any"})
		} else {
			all = append(all, printable.Network(r.Hosts))
		}
	}
	return all
}

// Typed implements field.Value. No command sets this key.
func (l relayList) Typed(text string) any { return text }

// An exemptList is the field of identity.exempt: a list of tables.
type exemptList struct{ field *[]identity.Exemption }

// Set implements field.Value.
func (l exemptList) Set(v any) error {
	entries, ok := v.([]any)
	if tables, is := v.([]map[string]any); is { // written [[identity.exempt]]
		ok = true
		for _, t := range tables {
			entries = append(entries, t)
		}
	}
	if !ok {
		return errors.New(`tables, each written [[identity.exempt]], with sender = "*-bounces@lists.example" and login, auth or host`)
	}
	var all []identity.Exemption
	for i, e := range entries {
		exemption, err := exemptionOf(e)
		if err != nil {
			return fmt.Errorf("tables; in the %s %w", ordinal(i+1), err)
		}
		all = append(all, exemption)
	}
	*l.field = all
	return nil
}

// exemptionOf parses one table of identity.exempt. Its errors complete a sentence that
// begins with where that table is.
func exemptionOf(v any) (e identity.Exemption, err error) {
	texts, err := tableOf(v, "sender", "login", "auth", "host")
	switch {
	case err != nil:
		return e, err
	case texts["sender"] == "":
		return e, errors.New(`there is no sender, a pattern like "*-bounces*@lists.example"`)
	case texts["login"]+texts["auth"]+texts["host"] == "":
		return e, errors.New("nobody is named who may send so: anybody can write a sender; add login, auth or host")
	case texts["host"] != "":
		if e.Hosts, err = addressOrNetwork(texts["host"]); err != nil {
			return e, fmt.Errorf("host is %s, it must be %w", field.QuoteTOML(texts["host"]), err)
		}
		if loopback(e.Hosts) {
			return e, fmt.Errorf("host is %s, which is this host: every program on it could send so; name its login", field.QuoteTOML(texts["host"]))
		}
	}
	e.Sender, e.Login, e.Auth = foldPattern(texts["sender"]), texts["login"], texts["auth"]
	if strings.Contains(e.Auth, "@") {
		e.Auth = envelope.Fold(e.Auth).String()
	}
	return e, nil
}

// CheckExempt returns an error if an exemption is for a host that is this one: own reports
// whether an address is.
func (c *Config) CheckExempt(own func(netip.Addr) bool) error {
	for i, e := range c.Identity.Exempt {
		if e.Hosts.IsValid() && e.Hosts.IsSingleIP() && own(e.Hosts.Addr()) {
			return fmt.Errorf("%s: in the %s of identity.exempt host is %s, which is an address of this host: every program on it could send so; name its login",
				c.Origin("identity.exempt"), ordinal(i+1), e.Hosts.Addr())
		}
	}
	return nil
}

// loopback reports whether a network has addresses of the loopback.
func loopback(n netip.Prefix) bool {
	return n.Overlaps(netip.MustParsePrefix("127.0.0.0/8")) || n.Contains(netip.IPv6Loopback())
}

// foldPattern folds a pattern like the senders that it is compared with.
func foldPattern(s string) string {
	if s == "*" || s == "<>" {
		return s
	}
	switch {
	case strings.Contains(s, "@"):
	case strings.HasPrefix(s, "*"):
		return strings.ToLower(s)
	default: // all senders of a domain
		s = "*@" + s
	}
	return envelope.Fold(s).String()
}

// Get implements field.Value.
func (l exemptList) Get() any {
	all := []any{}
	for _, e := range *l.field {
		t := map[string]any{"sender": e.Sender}
		for name, text := range map[string]string{"login": e.Login, "auth": e.Auth, "host": printable.Network(e.Hosts)} {
			if text != "" {
				t[name] = text
			}
		}
		all = append(all, t)
	}
	return all
}

// Typed implements field.Value. No command sets this key.
func (l exemptList) Typed(text string) any { return text }

// tableOf returns the texts of a table that may have only some keys.
func tableOf(v any, keys ...string) (map[string]string, error) {
	table, ok := v.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is none", field.TOML(v))
	}
	texts := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(table)) {
		text, ok := table[name].(string)
		switch {
		case !slices.Contains(keys, name):
			return nil, fmt.Errorf("there is an unknown key %s; %s", field.QuoteTOML(name), field.Suggest(name, keys))
		case !ok || text == "":
			return nil, fmt.Errorf("%s is %s, it must be a text in quotes, not empty", name, field.TOML(table[name]))
		}
		texts[name] = text
	}
	return texts, nil
}

// addressOrNetwork parses an address or a network. It allows no host names: each question
// would wait for the resolver, and whoever runs that would decide who may send.
func addressOrNetwork(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	if n, err := netip.ParsePrefix(s); err == nil {
		return n.Masked(), nil
	}
	return netip.Prefix{}, errors.New(`an address or a network like "192.0.2.1" or "192.0.2.0/24"`)
}

// ordinal is "1st" for 1.
func ordinal(n int) string {
	ending := "th"
	if n%100 < 11 || n%100 > 13 {
		switch n % 10 {
		case 1:
			ending = "st"
		case 2:
			ending = "nd"
		case 3:
			ending = "rd"
		}
	}
	return fmt.Sprint(n, ending)
}
