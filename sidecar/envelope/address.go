package envelope

import (
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// An Address is an envelope recipient as Exim's router and log show it: its
// domain a lower-case A-label, its local part lower-case and without quotes.
// BoB@example.com, bob@example.com and "bob"@EXAMPLE.com are the same.
type Address struct {
	Local, Domain string
}

// String is LOCAL@DOMAIN.
func (a Address) String() string { return a.Local + "@" + a.Domain }

// Fold is String for an address that was made of s. Where s has this form already,
// as nearly all have, it returns s and copies nothing.
func (a Address) Fold(s string) string {
	if at := len(a.Local); len(s) == at+1+len(a.Domain) && s[at] == '@' && s[:at] == a.Local && s[at+1:] == a.Domain {
		return s
	}
	return a.String()
}

// Fold parses an address as it came by SMTP. The domain is empty if there is none.
func Fold(s string) Address {
	local, domain := Cut(s)
	return Address{lowerASCII(dequote(local)), FoldDomain(domain)}
}

// FoldRouted is Fold for an address made of Exim's $local_part and $domain, from which
// Exim has removed the quotes: a quote or backslash that is left is part of the name.
func FoldRouted(s string) Address {
	local, domain := Cut(s)
	return Address{lowerASCII(local), FoldDomain(domain)}
}

// Cut splits an address at its last @. The domain is empty if there is none.
func Cut(s string) (local, domain string) {
	at := strings.LastIndexByte(s, '@') // only a local part can have another
	if at < 0 {
		return s, ""
	}
	return s[:at], s[at+1:]
}

// dequote removes quotes and backslashes from a local part as Exim does, wherever they
// are: "a"."b" is a.b, and so is a\.b.
func dequote(s string) string {
	if strings.IndexByte(s, '"') < 0 && strings.IndexByte(s, '\\') < 0 {
		return s // nearly all; ContainsAny would take much longer
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

// IndexUnquoted is the index of the first c outside of quotes and not behind a
// backslash, which escapes inside of quotes and outside; -1 if there is none.
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

// EqualUnquoted reports whether an address has quotes or backslashes, and equals plain
// without them.
func EqualUnquoted(address, plain string) bool {
	return len(address) > len(plain) && lowerASCII(dequote(address)) == lowerASCII(plain)
}

// lowerASCII leaves all letters but those of ASCII as they are, like Exim.
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

// FoldDomain returns a domain as subjects and lock files have it: a lower-case A-label,
// without white space and dots at its end. All spellings of a domain fold to the same name.
// What is not a domain name is only made lower-case; see IsDomain.
func FoldDomain(s string) string {
	for {
		folded := foldOnce(s)
		if folded == s {
			return s
		}
		s = folded // what it folds to may fold further: ideographic dots become dots
	}
}

func foldOnce(s string) string {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return foldUnicode(s)
		}
		if s[i] <= ' ' {
			return foldUnicode(strings.TrimSpace(s))
		}
	}
	return lowerASCII(strings.TrimRight(s, "."))
}

// lookup maps names as UTS #46 does, dots of other scripts too. It allows what IsDomain does.
var lookup = idna.New(idna.MapForLookup(), idna.StrictDomainName(false), idna.CheckHyphens(false))

func foldUnicode(s string) string {
	s = strings.TrimRight(strings.TrimSpace(s), ".")
	if strings.ContainsRune(s, utf8.RuneError) { // or bytes that are no UTF-8, for all of which it stands
		return lowerASCII(s)
	}
	if label, err := lookup.ToASCII(s); err == nil {
		return label
	}
	return strings.ToLower(s)
}

// IsDomain reports whether what FoldDomain has returned is a domain name (RFC 1035, section
// 2.3.4). Underscores are allowed: names of hosts have them, whatever the standard says.
func IsDomain(s string) bool {
	if s == "" || len(s) > 253 {
		return false
	}
	label := 0
	for i := range len(s) {
		c := s[i]
		switch {
		case c == '.' && label > 0:
			label = 0
			continue
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return false
		}
		if label++; label > 63 {
			return false
		}
	}
	return label > 0
}

// DomainOf is the Domain of Fold, without the work for the local part.
func DomainOf(s string) string {
	_, domain := Cut(s)
	return FoldDomain(domain)
}

// AppendRecipients parses Exim's $recipients: addresses separated by commas, which
// quoted local parts may contain too. Backslashes escape outside of quotes too:
// otherwise a\"@far.example would hide the recipients behind it, and they would not
// be charged.
func AppendRecipients(all []Address, s string) []Address {
	for {
		end := IndexUnquoted(s, ',')
		if end < 0 {
			end = len(s)
		}
		if one := strings.TrimSpace(s[:end]); one != "" {
			all = append(all, Fold(one))
		}
		if end == len(s) {
			return all
		}
		s = s[end+1:]
	}
}

// quoted writes an address so that AppendRecipients finds it in a list.
func (a Address) quoted() string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(a.Local) + `"@` + a.Domain
}

// Listed writes an address, which was made of s, so that AppendRecipients finds
// it in a list: in quotes where it needs them.
func (a Address) Listed(s string) string {
	for i := range len(a.Local) {
		if c := a.Local[i]; c <= ' ' || c >= 0x7f || c == '"' || c == '\\' || c == ',' {
			return a.quoted()
		}
	}
	return a.Fold(s)
}
