package logline

import (
	"strings"
	"unicode/utf8"
)

// UnescapeLogin undoes how Exim hands over an authenticated id, in $authenticated_id and, from
// 4.97 on, in its log: bytes over 127 are a backslash and three octal digits. A backslash of
// the id itself stays: it separates domain and name of a Windows login. In a domain there is
// none, so what Exim writes there for a tab or a line end is white space.
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
		switch {
		case s[i] == '\\' && i+3 < len(s) && highOctal(s[i+1:i+4]):
			b.WriteByte((s[i+1]-'0')<<6 | (s[i+2]-'0')<<3 | (s[i+3] - '0'))
			i += 3
		case s[i] == '\\' && domain >= 0 && i > domain && i+1 < len(s) && strings.IndexByte("tnrvf", s[i+1]) >= 0:
			b.WriteByte(' ')
			i++
		default:
			b.WriteByte(s[i])
		}
	}
	if !utf8.ValidString(b.String()) {
		return s
	}
	return b.String()
}

// highOctal reports whether three digits are the octal number of a byte over 127.
func highOctal(s string) bool {
	return '2' <= s[0] && s[0] <= '3' && '0' <= s[1] && s[1] <= '7' && '0' <= s[2] && s[2] <= '7'
}
