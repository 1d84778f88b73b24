package sidecar

import (
	"strings"

	"golang.org/x/net/idna"
)

// An address is an envelope recipient as Exim's router and log show it: its
// domain a lower-case A-label, its local part lower-case and without quotes.
// BoB@example.com, bob@example.com and "bob"@EXAMPLE.com are the same.
type address struct {
	local, domain string
}

func (a address) String() string { return a.local + "@" + a.domain }

// fold is String for the address that foldAddress made of s. Where s has the
// form already, as nearly all have, it is s and no copy.
func (a address) fold(s string) string {
	if len(s) == len(a.local)+1+len(a.domain) && s[:len(a.local)] == a.local && s[len(a.local)+1:] == a.domain {
		return s
	}
	return a.String()
}

// foldAddress brings an address into this form. The domain is empty if there
// is none.
func foldAddress(s string) address {
	at := strings.LastIndexByte(s, '@') // no domain has one, a quoted local part may
	if at < 0 {
		return address{local: foldLocal(s)}
	}
	return address{foldLocal(s[:at]), foldDomain(s[at+1:])}
}

// foldLocal lowers ASCII only, as Exim does, and takes off quotes.
func foldLocal(s string) string {
	if len(s) >= 2 && s[0] == '"' && s[len(s)-1] == '"' {
		s = unescape(s[1 : len(s)-1])
	}
	return lowerASCII(s)
}

// unescape takes the backslashes out of a quoted string (RFC 5322, 3.2.4).
func unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		b.WriteByte(s[i])
	}
	return b.String()
}

func lowerASCII(s string) string {
	for i := range len(s) {
		if 'A' <= s[i] && s[i] <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if 'A' <= b[i] && b[i] <= 'Z' {
					b[i] += 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}

// foldDomain returns a domain as subjects and lock files have it. What is no
// domain name stays as it is, in lower case: it is counted all the same.
func foldDomain(s string) string {
	s = strings.TrimSuffix(s, ".")
	for i := range len(s) {
		if s[i] >= 0x80 {
			if label, err := idna.Lookup.ToASCII(s); err == nil {
				return label
			}
			return strings.ToLower(s)
		}
	}
	return lowerASCII(s)
}

// domainOf is foldAddress where only the domain matters.
func domainOf(s string) string {
	at := strings.LastIndexByte(s, '@')
	if at < 0 {
		return ""
	}
	return foldDomain(s[at+1:])
}

// splitRecipients splits Exim's $recipients, a list with commas in which
// quoted local parts may have commas too.
func splitRecipients(s string) (all []address) {
	quoted := false
	from := 0
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && quoted:
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == ',' && !quoted:
			all = appendAddress(all, s[from:i])
			from = i + 1
		}
	}
	return appendAddress(all, s[from:])
}

func appendAddress(all []address, s string) []address {
	if s = strings.TrimSpace(s); s == "" {
		return all
	}
	return append(all, foldAddress(s))
}
