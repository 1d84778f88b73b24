package sidecar

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Printable returns a text as it may be shown on a terminal and written to a log: what is
// not printable stands as \u202e, and a byte that is not UTF-8 as \xff. Senders choose
// addresses, logins and names; with control characters (C0, C1, DEL) they would command the
// terminal of whoever reads them, with a line end write lines of their own, and with the
// marks of Unicode's bidirectional algorithm change the order of what is read.
//
// All that is printed or logged passes here. In a JSON string the escapes mean what stood
// there.
func Printable(text string) string { return escape(text, "") }

// PrintableLines is Printable for a text of several lines, whose ends stay.
func PrintableLines(text string) string { return escape(text, "\n") }

func escape(text, keep string) string {
	odd := func(r rune) bool {
		return r == utf8.RuneError || !unicode.IsPrint(r) && !strings.ContainsRune(keep, r)
	}
	first := strings.IndexFunc(text, odd)
	if first < 0 {
		return text
	}
	var b strings.Builder
	b.WriteString(text[:first])
	for i, r := range text[first:] {
		switch {
		case !odd(r):
			b.WriteRune(r)
		case r == utf8.RuneError && !strings.HasPrefix(text[first+i:], string(utf8.RuneError)):
			fmt.Fprintf(&b, `\x%02x`, text[first+i])
		case r > 0xffff: // JSON has no longer escape
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+(r-0x10000)>>10, 0xdc00+(r-0x10000)&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
