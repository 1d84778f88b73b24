package limit

import (
	"errors"
	"fmt"
	"strings"

	"sluice/sidecar/field"
)

// ErrNotFound is wrapped by errors about a domain or scope of which nothing is
// counted, held or locked.
var ErrNotFound = errors.New("not found")

// CanonicalDomain returns a domain name as subjects and lock files have it:
// lower-case, as A-label.
func CanonicalDomain(s string) (string, error) {
	domain, err := field.Domain(s)
	if err != nil {
		return "", fmt.Errorf("%q must be %w", s, err)
	}
	return domain, nil
}

// CanonicalScope returns a scope as the commands take it in its canonical
// form: "default", "example.com", "account:bob" or "news@example.com".
func CanonicalScope(s string) (string, error) {
	if s == "default" {
		return s, nil
	}
	if account, ok := strings.CutPrefix(s, "account:"); ok {
		if _, err := field.NotEmpty(account); err != nil {
			return "", fmt.Errorf("scope %q: the account must be %w", s, err)
		}
		return s, nil
	}
	check := field.Domain
	if strings.Contains(s, "@") {
		check = field.Mailbox
	}
	canonical, err := check(s)
	if err != nil {
		return "", fmt.Errorf(`scope %q must be "default", "example.com", "account:bob" or "news@example.com"`, s)
	}
	return canonical, nil
}
