package envelope

import (
	"slices"
	"strings"

	"golang.org/x/net/idna"
)

// An address is an envelope recipient as Exim's router and log show it: its
// domain a lower-case A-label, its local part lower-case and without quotes.
// BoB@example.com, bob@example.com and "bob"@EXAMPLE.com are the same.
type Address struct {
	Local, Domain string
}

func (a Address) String() string { return a.Local + "@" + a.Domain }

// fold is String for the address that foldAddress made of s. Where s has the
// form already, as nearly all have, it is s and no copy.
func (a Address) Fold(s string) string {
	if len(s) == len(a.Local)+1+len(a.Domain) && s[:len(a.Local)] == a.Local && s[len(a.Local)+1:] == a.Domain {
		return s
	}
	return a.String()
}

// foldAddress brings an address as it came by SMTP into this form. The domain
// is empty if there is none.
func Fold(s string) Address {
	local, domain := Cut(s)
	return Address{lowerASCII(dequote(local)), FoldDomain(domain)}
}

// foldRouted is foldAddress for one that Exim has taken apart already, from
// $local_part and $domain: a quote or backslash that is left belongs to it.
func FoldRouted(s string) Address {
	local, domain := Cut(s)
	return Address{lowerASCII(local), FoldDomain(domain)}
}

// cutAddress cuts an address in two. The domain is empty if there is none.
func Cut(s string) (local, domain string) {
	at := strings.LastIndexByte(s, '@') // no domain has one, a local part may
	if at < 0 {
		return s, ""
	}
	return s[:at], s[at+1:]
}

// dequote takes the quotes and backslashes out of a local part as Exim does,
// wherever they stand: "a"."b" is a.b, and so is a\.b.
func dequote(s string) string {
	if strings.IndexByte(s, '"') < 0 && strings.IndexByte(s, '\\') < 0 {
		return s // nearly all; ContainsAny would take much longer to tell
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == '\\' && i+1 < len(s):
			i++
			b.WriteByte(s[i])
		case s[i] != '"':
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

// IndexUnquoted finds a byte outside of quotes, in which a backslash takes the meaning
// of what follows, as it does outside. It is -1 if there is none.
func IndexUnquoted(s string, c byte) int {
	quoted := false
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == c && !quoted:
			return i
		case s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		}
	}
	return -1
}

// UnquotedIs tells whether an address has quotes or backslashes and is plain
// without them.
func UnquotedIs(address, plain string) bool {
	return len(address) > len(plain) && lowerASCII(dequote(address)) == lowerASCII(plain)
}

// lowerASCII lowers ASCII only, as Exim does.
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
func FoldDomain(s string) string {
	s = strings.TrimSuffix(s, ".")
	upper := false
	for i := range len(s) {
		if s[i] >= 0x80 {
			if label, err := idna.Lookup.ToASCII(s); err == nil {
				return label
			}
			return strings.ToLower(s)
		}
		upper = upper || 'A' <= s[i] && s[i] <= 'Z'
	}
	if upper {
		return lowerASCII(s)
	}
	return s
}

// domainOf is foldAddress where only the domain matters.
func DomainOf(s string) string {
	_, domain := Cut(s)
	return FoldDomain(domain)
}

// appendRecipients takes apart Exim's $recipients, a list with commas in which
// quoted local parts may have commas too. A backslash takes the meaning of what
// follows also outside of quotes: otherwise a\"@far.example would swallow the
// recipients behind it, and nobody would pay for them.
func AppendRecipients(all []Address, s string) []Address {
	for {
		comma := IndexUnquoted(s, ',')
		if comma < 0 {
			return appendAddress(all, s)
		}
		all, s = appendAddress(all, s[:comma]), s[comma+1:]
	}
}

// JoinRecipients makes a list of addresses, as they came by SMTP, one for
// Request.Recipients. An address that would fall apart there is written so that
// it does not: what it folds to, with quotes.
func JoinRecipients(addresses []string) string {
	var b strings.Builder
	for _, a := range addresses {
		if folded := Fold(a); !slices.Equal(AppendRecipients(nil, a), []Address{folded}) {
			a = folded.quoted()
		}
		b.WriteString(a)
		b.WriteString(", ")
	}
	return b.String()
}

// quoted is an address that folds to this one wherever it stands in a list.
func (a Address) quoted() string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.Local) + `"@` + a.Domain
}

// listed is an address in a list like Request.Recipients that folds to this one,
// which foldRouted made of s.
func (a Address) Listed(s string) string {
	for i := range len(a.Local) {
		if c := a.Local[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == ',' {
			return a.quoted()
		}
	}
	return a.Fold(s)
}

func appendAddress(all []Address, s string) []Address {
	if s = strings.TrimSpace(s); s == "" {
		return all
	}
	return append(all, Fold(s))
}
