package logline

import (
	"strconv"
	"strings"
	"unicode/utf8"
)

// UnescapeLogin undoes how Exim hands over an authenticated id, in $authenticated_id and, from
// 4.97 on, in its log: what is not printable ASCII is a backslash and three octal digits. A
// backslash of the id itself stays: it separates domain and name of a Windows login. In a domain
// there is none, so what Exim writes there for a tab or a line end is white space.
func UnescapeLogin(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	domain := strings.LastIndexByte(s, '@')
	if domain < 0 {
		domain = strings.LastIndexAny(s, "+%:")
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if c, is := octal(s[i:]); is {
			b.WriteByte(c)
			i += 3
		} else if s[i] == '\\' && domain >= 0 && i > domain && i+1 < len(s) && strings.IndexByte("tnrvf", s[i+1]) >= 0 {
			b.WriteByte(' ')
			i++
		} else {
			b.WriteByte(s[i])
		}
	}
	if !utf8.ValidString(b.String()) {
		return s
	}
	return b.String()
}

// octal is the byte that is not printable ASCII of an escape with which a text begins.
func octal(s string) (c byte, is bool) {
	if len(s) < 4 || s[0] != '\\' {
		return 0, false
	}
	n, err := strconv.ParseUint(s[1:4], 8, 8)
	return byte(n), err == nil && (n < ' ' || n > '~')
}
