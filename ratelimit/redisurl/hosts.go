package redisurl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
)

// hostList parses HOST:PORT,HOST,[IPv6]:PORT and gives each a port. Its errors count the
// hosts, rather than to quote one: where the @ was forgotten, the password stands here.
func hostList(name string, s scheme, hosts string) (all []string, err error) {
	list := strings.Split(hosts, ",")
	if len(list) > 1 && !s.many {
		return nil, fmt.Errorf("%s:// takes one host; several are those of redis-sentinel:// or redis-cluster://", name)
	}
	for i, text := range list {
		h, err := host(strings.Trim(text, " "), s.port)
		if err != nil && len(list) > 1 {
			return nil, fmt.Errorf("of the %d hosts, number %d: %w", len(list), i+1, err)
		}
		if err != nil {
			return nil, fmt.Errorf("the host: %w", err)
		}
		all = append(all, h)
	}
	return all, nil
}

var (
	errPort = errors.New("the port must be a number from 1 to 65535")
	errName = errors.New("it must be a name or an address, as in redis.example:6379, 192.0.2.1 or [2001:db8::1]:6379; " +
		"is the @ missing behind the user and password?")
)

func host(text, port string) (string, error) {
	name, rest := text, ""
	switch i := strings.IndexByte(text, ']'); {
	case strings.HasPrefix(text, "[") && i > 0:
		name, rest = text[1:i], text[i+1:]
		unescaped, err := url.PathUnescape(name) // %25 before a zone (RFC 6874)
		a, bad := netip.ParseAddr(unescaped)
		if err != nil || bad != nil || !a.Is6() {
			return "", errors.New("in brackets there must be an IPv6 address")
		}
		name = unescaped
	case strings.Count(text, ":") > 1:
		return "", errors.New("an IPv6 address needs brackets, as in [2001:db8::1]:6379")
	default:
		if i := strings.IndexByte(text, ':'); i >= 0 {
			name, rest = text[:i], text[i:]
		}
		if !isName(name) {
			return "", errName
		}
	}
	if rest != "" {
		n, err := strconv.ParseUint(strings.TrimPrefix(rest, ":"), 10, 16)
		if err != nil || n == 0 || rest[0] != ':' {
			return "", errPort
		}
		port = rest[1:]
	}
	return net.JoinHostPort(name, port), nil
}

// isName reports whether a text is a host name (RFC 1123), also with the root's dot behind it,
// or an IPv4 address. Names in Docker's networks have underscores.
func isName(s string) bool {
	if only(s, "0123456789.") {
		a, err := netip.ParseAddr(s)
		return err == nil && a.Is4()
	}
	s = strings.TrimSuffix(s, ".")
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
	}
	return only(s, nameBytes) && len(s) <= 253
}
