package field

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sluice/sidecar/envelope"
)

// A Check returns a text in its canonical form. Its errors say what is allowed, as the
// rest of a sentence that ends in "must be".
type Check func(string) (string, error)

// NotEmpty is a Check that allows all texts but blank ones.
func NotEmpty(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", errors.New("a name, not empty")
	}
	return s, nil
}

// OrEmpty makes a Check that allows the empty text too.
func OrEmpty(check Check) Check {
	return func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		s, err := check(s)
		if err != nil {
			return "", fmt.Errorf("%w, or empty", err)
		}
		return s, nil
	}
}

// OneOf makes a Check that allows some words.
func OneOf(words ...string) Check {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("one of %s", strings.Join(words, ", "))
		}
		return s, nil
	}
}

// AbsolutePath is a Check for absolute paths.
func AbsolutePath(s string) (string, error) {
	if !filepath.IsAbs(s) {
		return "", errors.New("an absolute path")
	}
	return filepath.Clean(s), nil
}

// domainSyntax is the syntax of host names: Exim refuses senders with other domains.
var domainSyntax = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

// Domain is a Check for domains.
func Domain(s string) (string, error) {
	folded := envelope.FoldDomain(s)
	if len(folded) > 253 || !domainSyntax.MatchString(folded) {
		return "", errors.New(`a domain name like "example.com"`)
	}
	return folded, nil
}

// Mailbox is a Check for addresses.
func Mailbox(s string) (string, error) {
	a := envelope.Fold(s)
	if _, err := Domain(a.Domain); err != nil || a.Local == "" {
		return "", errors.New(`an address like "news@example.com"`)
	}
	return a.String(), nil
}
