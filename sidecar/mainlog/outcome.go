package mainlog

import (
	"strings"

	"sluice/sidecar"
)

// parseOutcome reads what stands behind =>, ->, >>, == or **:
//
//	final (parents) <original> F=<sender> P=<return path> R=router T=transport H=host [address] ...: text
//
// of which all but final may be missing. For == the text begins at "defer".
func parseOutcome(e *sidecar.LogEntry, s string) {
	end := recipientEnd(s)
	e.Recipient = s[:end]
	rest := skipParents(s[end:])
	if strings.HasPrefix(rest, " <") {
		n := anglesEnd(rest[1:])
		e.Original = rest[2:n] // between < and >
		rest = rest[n+1:]
	}
	if e.Recipient != "" && strings.IndexByte("|/:>", e.Recipient[0]) >= 0 {
		e.Recipient = "" // a pipe, a file or a notification: no address
	}
	parseFields(e, rest)
}

// parseFields reads the fields up to the text.
func parseFields(e *sidecar.LogEntry, rest string) {
	for rest != "" {
		if text, found := strings.CutPrefix(rest, ": "); found {
			if e.Text == "" {
				e.Text = text
			}
			return
		}
		if rest[0] != ' ' {
			rest = rest[1:]
			continue
		}
		word := rest[1 : 1+fieldEnd(rest[1:])]
		switch {
		case word == "defer":
			e.Text = rest[len(" defer"):]
			if e.Text != "" {
				e.Text = e.Text[1:]
			}
		case strings.HasPrefix(word, "R="):
			e.Router = word[2:]
		case strings.HasPrefix(word, "T="):
			e.Transport = word[2:]
		case strings.HasPrefix(word, "H=") && e.Host == "":
			e.Host = strings.Trim(word[2:], "[]")
		case strings.HasPrefix(word, `C="`):
			if e.Text == "" {
				e.Text = strings.Trim(word[2:], `"`)
			}
		}
		rest = rest[1+len(word):]
	}
}

// fieldEnd is where a word behind the address ends: at a space, or at a colon
// with a space behind it, but not within quotes or angle brackets.
func fieldEnd(s string) int {
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '"':
			if i > 0 && s[i-1] == '=' {
				return i + quotedEnd(s[i:])
			}
		case '<':
			if i > 0 && s[i-1] == '=' {
				return i + anglesEnd(s[i:])
			}
		case ' ':
			return i
		case ':':
			if i+1 < len(s) && s[i+1] == ' ' {
				return i
			}
		}
	}
	return len(s)
}

// anglesEnd is behind the closing bracket of "<...>" at the beginning of s. A
// quoted local part may have one too.
func anglesEnd(s string) int {
	quoted := false
	for i := 1; i < len(s); i++ {
		switch {
		case s[i] == '\\':
			i++
		case s[i] == '"':
			quoted = !quoted
		case s[i] == '>' && !quoted:
			return i + 1
		}
	}
	if i := strings.IndexByte(s, '>'); i > 0 { // a quote without an end
		return i + 1
	}
	return len(s)
}

// skipParents passes over " (b@x, c@y)".
func skipParents(s string) string {
	if strings.HasPrefix(s, " (") {
		if i := strings.IndexByte(s, ')'); i >= 0 {
			return s[i+1:]
		}
	}
	return s
}

// recipientEnd is where the address ends. Its local part stands there without
// quotes, and may look like the fields that follow: so the address ends behind
// a domain after which there is no other address before the text.
func recipientEnd(s string) int {
	if s != "" && strings.IndexByte("|/:>", s[0]) >= 0 {
		return plainEnd(s)
	}
	first := -1
	for at := 0; at < len(s); {
		i := strings.IndexByte(s[at:], '@')
		if i < 0 {
			break
		}
		end := at + i + 1
		end += domainEnd(s[end:])
		if delimited(s[end:]) {
			if first < 0 {
				first = end
			}
			if !addressFollows(s[end:]) {
				return end
			}
		} else if first >= 0 {
			break // within the text
		}
		at = end
	}
	if first >= 0 {
		return first
	}
	return plainEnd(s)
}

// plainEnd ends what is no address, like a local user or a pipe: before the
// original, or else at the first field.
func plainEnd(s string) int {
	for _, mark := range [...]string{" <", " R=", " T=", " F=<", ": "} {
		if i := strings.Index(s, mark); i >= 0 {
			return i
		}
	}
	return wordEnd(s)
}

func domainEnd(s string) int {
	if s != "" && s[0] == '[' { // a domain literal
		if i := strings.IndexByte(s, ']'); i >= 0 {
			return i + 1
		}
	}
	i := 0
	for i < len(s) && (s[i] >= 0x80 || s[i] == '-' || s[i] == '.' || s[i] == '_' || base62(s[i:i+1])) {
		i++
	}
	return i
}

// delimited tells whether what follows can follow an address.
func delimited(s string) bool {
	if s == "" {
		return true
	}
	for _, mark := range [...]string{" <", " (", " R=", " T=", " F=<", " P=<", " SRS=<", " H=", " defer", " routing defer", ": "} {
		if strings.HasPrefix(s, mark) {
			return true
		}
	}
	return s[0] == ' ' && strings.IndexByte(s, '=') < 0
}

// addressFollows tells whether the words before the text hold another address
// that is in no brackets: then what looked like fields was a local part.
func addressFollows(s string) bool {
	s = skipParents(s)
	if strings.HasPrefix(s, " <") {
		return false
	}
	for s != "" && !strings.HasPrefix(s, ": ") {
		word := s[:1+fieldEnd(s[1:])]
		if strings.HasPrefix(word, " defer") || strings.HasPrefix(word, " H=") || strings.HasPrefix(word, " C=") {
			return false
		}
		if strings.IndexByte(word, '@') >= 0 && strings.IndexByte(word, '<') < 0 {
			return true
		}
		s = s[len(word):]
	}
	return false
}
