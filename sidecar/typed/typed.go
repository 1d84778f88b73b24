package typed

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/field"
	"sluice/sidecar/limit"
)

// ErrNotFound is wrapped by errors about a domain or scope of which nothing is
// counted, held or locked.
var ErrNotFound = errors.New("not found")

// Settings parses the arguments of `sluice set`: a scope, and each KEY=VALUE. Its
// error is for the operator, about the first mistake.
func Settings(scope string, assignments []string) (canonical string, all []limit.Setting, err error) {
	if canonical, err = Settable(scope); err != nil {
		return "", nil, err
	}
	if len(assignments) == 0 {
		return "", nil, fmt.Errorf("nothing to set: name a key and its value, like hourly=2000; keys: %s", strings.Join(limit.Keys(), ", "))
	}
	for _, a := range assignments {
		key, text, found := strings.Cut(a, "=")
		if !found {
			return "", nil, fmt.Errorf("%q must be KEY=VALUE, like hourly=2000", a)
		}
		s, err := Setting(canonical, key, text, limit.Origin{})
		if err != nil {
			return "", nil, err
		}
		if slices.ContainsFunc(all, func(o limit.Setting) bool { return o.Key == key }) {
			return "", nil, fmt.Errorf("%s is given twice", key)
		}
		all = append(all, s)
	}
	return canonical, all, nil
}

// Domain returns a domain name as subjects and lock files have it:
// lower-case, as A-label.
func Domain(s string) (string, error) {
	domain, err := field.Domain(s)
	if err != nil {
		return "", fmt.Errorf("%q must be %w", s, err)
	}
	return domain, nil
}

// Settable is Scope for all that settings may be for: authors that nobody is
// charged for, too, by their keys. Only their expected can be set.
func Settable(s string) (string, error) {
	if isAuthor(s) && sidecar.AuthorKey("", s) == s {
		return s, nil
	}
	return Scope(s)
}

// isAuthor reports whether a scope is that of a script or a login.
func isAuthor(scope string) bool {
	for _, prefix := range [...]string{sidecar.ScriptPrefix, sidecar.LoginPrefix} {
		if name, is := strings.CutPrefix(scope, prefix); is && name != "" {
			return true
		}
	}
	return false
}

// prefixed are the scopes that are named by a prefix and what follows it.
var prefixed = []struct {
	prefix, what string
	check        field.Check
}{
	{sidecar.AccountPrefix, "the account", field.NotEmpty},
	{sidecar.ServicePrefix, "the login", field.NotEmpty},
	{sidecar.WebPrefix, "the account", field.NotEmpty},
	{sidecar.ForwardPrefix, "the domain", field.Domain},
	{sidecar.RelayPrefix, "the client", Client},
}

// Client is a field.Check for the client of a relay: its address, or for IPv6 its network.
func Client(s string) (string, error) {
	address, _ := strings.CutSuffix(s, "/64")
	ip, err := netip.ParseAddr(address)
	if err != nil {
		return "", errors.New(`an address like "192.0.2.1", or "2001:db8::/64"`)
	}
	return sidecar.NetworkOf(ip), nil
}

// Scope returns the canonical form of a scope: "default", "example.com",
// "account:bob", "news@example.com", or that of a special subject.
func Scope(s string) (string, error) {
	if s == sidecar.DefaultScope || s == sidecar.System || s == sidecar.Loopback {
		return s, nil
	}
	for _, p := range prefixed {
		if name, ok := strings.CutPrefix(s, p.prefix); ok && !sidecar.IsMailbox(s) {
			name, err := p.check(name)
			if err != nil {
				return "", fmt.Errorf("scope %q: %s must be %w", s, p.what, err)
			}
			return p.prefix + name, nil
		}
	}
	check := field.Domain
	if strings.Contains(s, "@") {
		check = field.Mailbox
	}
	canonical, err := check(s)
	if err != nil {
		return "", fmt.Errorf(`scope %q must be "default", "example.com", "account:bob" or "news@example.com"; or "system", "loopback", "service:www-data", "relay:192.0.2.1", "forward:example.com" or "web:bob"`, s)
	}
	return canonical, nil
}
