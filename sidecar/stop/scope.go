package stop

import (
	"cmp"
	"errors"
	"fmt"
	"path"
	"regexp"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/field"
	"sluice/sidecar/printable"
	"sluice/sidecar/typed"
)

// prefixed are the scopes that are named by a prefix and what follows it, as somebody types it.
var prefixed = []struct {
	prefix, what string
	check        field.Check
}{
	{sidecar.AccountPrefix, "the account", field.NotEmpty},
	{sidecar.LoginPrefix, "the login", field.NotEmpty},
	{sidecar.ServicePrefix, "the login", field.NotEmpty},
	{sidecar.ScriptPrefix, "the directory", directory},
	{sidecar.ForwardPrefix, "the address that redirects", field.Mailbox},
	{sidecar.ClientPrefix, "the client", typed.Client},
}

// Canonical returns the canonical form of a scope that can be stopped: the key of an author,
// or account:NAME.
func Canonical(s string) (string, error) {
	if s == sidecar.Loopback {
		return s, nil
	}
	for _, p := range prefixed {
		name, ok := strings.CutPrefix(s, p.prefix)
		if !ok {
			continue
		}
		canonical, err := p.check(name)
		switch {
		case err != nil:
			return "", fmt.Errorf("scope %q: %s must be %w", s, p.what, err)
		case strings.Contains(name, `\`) && isKey.MatchString(name):
			return s, nil // as it was printed
		}
		return sidecar.AuthorKey(p.prefix, canonical), nil
	}
	mailbox, err := field.Mailbox(s)
	switch {
	case err != nil:
		return "", fmt.Errorf(`scope %q must be "news@example.com", "account:bob", "login:bob", "script:/home/bob/public_html", `+
			`"forward:info@example.com", "client:192.0.2.1", "service:www-data" or "loopback"`, s)
	case strings.Contains(s, `\x`) && isKey.MatchString(s):
		return strings.ToLower(s[:strings.LastIndexByte(s, '@')]) + mailbox[strings.LastIndexByte(mailbox, '@'):], nil // as it was printed
	}
	return sidecar.AuthorKey("", mailbox), nil
}

// isKey matches a name as sidecar.AuthorKey writes it.
var isKey = regexp.MustCompile(`^([ -\[\]-~]|\\x[0-9a-f]{2})+$`)

// directory is a Check for the directory of a script.
func directory(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", errors.New(`a directory like "/home/bob/public_html"`)
	}
	return path.Clean(s), nil
}

// StartCommand is the command that starts an author again, to copy into a shell. Tenants choose
// names of authors.
func StartCommand(scope string) string {
	return cmp.Or(printable.Command("sluice start", scope), "sluice start AUTHOR")
}

// DomainOf returns the domain that a scope belongs to; empty if it is of none.
func DomainOf(scope string) string {
	address := strings.TrimPrefix(scope, sidecar.ForwardPrefix)
	for _, p := range prefixed {
		if strings.HasPrefix(address, p.prefix) {
			return ""
		}
	}
	return envelope.DomainOf(address)
}
