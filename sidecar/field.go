package sidecar

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// A textCheck returns a text in its canonical form. Its errors say what is
// allowed, to follow the words "must be".
type textCheck func(string) (string, error)

func notEmpty(s string) (string, error) {
	if strings.TrimSpace(s) == "" {
		return "", errors.New("a name, not empty")
	}
	return s, nil
}

// optional allows the empty text too.
func optional(check textCheck) textCheck {
	return func(s string) (string, error) {
		if s == "" {
			return "", nil
		}
		r, err := check(s)
		if err != nil {
			return "", fmt.Errorf("%w, or empty", err)
		}
		return r, nil
	}
}

func oneOf(words ...string) textCheck {
	return func(s string) (string, error) {
		if !slices.Contains(words, s) {
			return "", fmt.Errorf("one of %s", strings.Join(words, ", "))
		}
		return s, nil
	}
}

func absolutePath(s string) (string, error) {
	if !filepath.IsAbs(s) {
		return "", errors.New("an absolute path")
	}
	return filepath.Clean(s), nil
}

// domainSyntax is that of host names: Exim refuses senders with others.
var domainSyntax = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)

func configDomain(s string) (string, error) {
	folded := foldDomain(s)
	if len(folded) > 253 || !domainSyntax.MatchString(folded) {
		return "", errors.New(`a domain name like "example.com"`)
	}
	return folded, nil
}

func mailbox(s string) (string, error) {
	a := foldAddress(s)
	if _, err := configDomain(a.domain); err != nil || a.local == "" {
		return "", errors.New(`an address like "news@example.com"`)
	}
	return a.String(), nil
}
