package redisurl

import (
	"errors"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A URL is what the text of one says.
type URL struct {
	Kind     Kind
	Hosts    []string // each with its port; of Unix the path of the socket
	Master   string   // of Sentinel
	User     string
	Password string
	DB       int

	SentinelUser, SentinelPassword string // of the Sentinels themselves

	TLS           bool
	CA, Cert, Key string // PEM files

	shown string
}

// A Kind is how servers are found.
type Kind string

// The kinds.
const (
	Single   Kind = "redis"
	Sentinel Kind = "sentinel"
	Cluster  Kind = "cluster"
)

// Mask stands for a password where a URL is shown.
const Mask = "***"

// Shown is the URL with Mask for each password.
func (u URL) Shown() string { return u.shown }

// A scheme is what may follow the name of a scheme.
type scheme struct {
	kind   Kind
	port   string // where the URL has none; empty: there are no hosts but a path
	many   bool   // may have several hosts
	params []string
}

var schemes = map[string]scheme{
	"redis":          {Single, "6379", false, nil},
	"rediss":         {Single, "6379", false, []string{"ca", "cert", "key", "tls"}},
	"unix":           {Single, "", false, nil},
	"redis-sentinel": {Sentinel, "26379", true, []string{"ca", "cert", "key", "tls", "sentinel_user", "sentinel_password"}},
	"redis-cluster":  {Cluster, "6379", true, []string{"ca", "cert", "key", "tls"}},
}

// errEncode is the advice for what would end the user, the password or a parameter too
// early.
var errEncode = errors.New("the user or password has characters that must be percent-encoded: " +
	"/ is %2F, # is %23, % is %25, ? is %3F, @ is %40, : is %3A, a blank is %20")

var errScheme = errors.New(`it must be "embedded:", or a URL that begins with redis://, rediss://, unix://, redis-sentinel:// or redis-cluster://`)

// Parse parses redis://, rediss://, unix://, redis-sentinel://h1,h2/master or
// redis-cluster://h1,h2,h3, each with user:password@. docs/cluster.md has the parameters.
func Parse(text string) (u URL, err error) {
	name, rest, ok := strings.Cut(text, ":")
	name = strings.ToLower(name)
	s, known := schemes[name]
	switch {
	case !ok || !known:
		return u, errScheme
	case name == "unix" && strings.HasPrefix(rest, "/") && !strings.HasPrefix(rest, "//"):
		rest = "//" + rest // unix:/PATH is the same
	case !strings.HasPrefix(rest, "//"):
		return u, errScheme
	}
	rest = rest[2:]
	if strings.ContainsFunc(rest, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return u, errors.New("it has control characters in it")
	}
	authority, path, query, err := split(rest)
	if err != nil {
		return u, err
	}
	u.Kind = s.kind
	hosts, login := authority, ""
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		login, hosts = authority[:at+1], authority[at+1:]
		if err := u.login(authority[:at]); err != nil {
			return u, err
		}
	}
	if err := u.where(name, s, hosts, path); err != nil {
		return u, err
	}
	if err := u.parameters(name, s, query); err != nil {
		return u, err
	}
	u.shown = name + "://" + shownLogin(login) + hosts + path + shownQuery(query)
	return u, nil
}

// split finds the parts of what follows "//"; path and query begin with their / and ?.
// A / # or ? in a password would end the authority too early. That shows by an @ in
// another part, and is an error.
func split(rest string) (authority, path, query string, err error) {
	i := strings.IndexAny(rest, "/?#")
	if i < 0 {
		return rest, "", "", nil
	}
	authority, path = rest[:i], rest[i:]
	switch {
	case strings.ContainsAny(path, "@#"):
		return "", "", "", errEncode
	case strings.Contains(path, "?"):
		i = strings.IndexByte(path, '?')
		path, query = path[:i], path[i:]
	}
	return authority, path, query, nil
}

// loginBytes are the bytes that may stand in USER:PASSWORD as they are (RFC 3986, section
// 3.2.1). @ is added, because only the last @ ends the password.
const loginBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~!$&'()*+,;=:@%"

func (u *URL) login(text string) (err error) {
	if !only(text, loginBytes) {
		return errEncode
	}
	if _, more, _ := strings.Cut(text, "@"); strings.Contains(more, ",") && (u.Kind == Sentinel || u.Kind == Cluster) {
		return errors.New("the user and password stand once, before the first host; a @ in them is written %40")
	}
	user, password, _ := strings.Cut(text, ":")
	if u.User, err = url.PathUnescape(user); err != nil {
		return errEncode
	}
	if u.Password, err = url.PathUnescape(password); err != nil {
		return errEncode
	}
	switch {
	case password == Mask:
		return errMask
	case u.User != "" && u.Password == "":
		return errors.New("it has a user and no password; a password alone is written redis://:PASSWORD@HOST")
	}
	return nil
}

var errMask = errors.New("a password is " + Mask + ", which `sluice config` prints in its place; write the password, or set store.url_file")

// where parses the hosts, and what names a database, a master or a socket.
func (u *URL) where(name string, s scheme, hosts, path string) (err error) {
	if s.port == "" {
		if hosts != "" || len(path) < 2 {
			return errors.New("unix:// needs the absolute path of a socket, as in unix:///run/redis/redis.sock")
		}
		file, err := url.PathUnescape(path)
		u.Hosts = []string{file}
		return encoded(err)
	}
	if u.Hosts, err = hostList(name, s, hosts); err != nil {
		return err
	}
	path, err = url.PathUnescape(strings.Trim(path, "/"))
	switch {
	case err != nil:
		return encoded(err)
	case s.kind == Sentinel && path == "":
		return errors.New("redis-sentinel:// needs the name of the master after the hosts")
	case s.kind == Sentinel && strings.Contains(path, "/"):
		return errors.New("redis-sentinel:// takes nothing but the name of the master after the hosts")
	case s.kind == Sentinel && strings.ContainsAny(path, "&="):
		return errors.New("the name of the master has a & or =: parameters begin with a ?, as in redis-sentinel://HOST/MASTER?tls=true")
	case s.kind == Sentinel:
		u.Master = path
	case s.kind == Cluster && path != "" && path != "0":
		return errors.New("redis-cluster:// takes nothing after the hosts: a Redis Cluster has no other database than 0")
	case path != "":
		n, err := strconv.ParseUint(path, 10, 31)
		if err != nil {
			return errors.New("what follows the host must be the number of a database")
		}
		u.DB = int(n)
	}
	return nil
}

// encoded is the advice for a % that begins no encoded character.
func encoded(err error) error {
	if err != nil {
		return errEncode
	}
	return nil
}

// parameters parses a query, which is empty or begins with its ?.
func (u *URL) parameters(name string, s scheme, query string) error {
	fields := map[string]*string{"ca": &u.CA, "cert": &u.Cert, "key": &u.Key, "tls": new(string),
		"sentinel_user": &u.SentinelUser, "sentinel_password": &u.SentinelPassword}
	if strings.Contains(query, ";") {
		return errors.New("parameters are separated by &, and a ; in one is written %3B")
	}
	seen := ""
	for field := range strings.SplitSeq(strings.TrimPrefix(query, "?"), "&") {
		if query == "" || query == "?" {
			break
		}
		key, value, _ := strings.Cut(field, "=")
		target := fields[key]
		switch {
		case !slices.Contains(s.params, key):
			return unknown(name, s, key, target != nil, seen)
		case *target != "":
			return fmt.Errorf("parameter %q is there twice", key)
		case value == "":
			return fmt.Errorf("parameter %q is empty", key)
		case value == Mask && key == "sentinel_password":
			return errMask
		}
		text, err := url.PathUnescape(value) // a + stays a +
		switch {
		case err != nil && strings.HasPrefix(key, "sentinel"):
			return errEncode
		case err != nil:
			return fmt.Errorf("parameter %q has a %% that must be written %%25", key)
		case slices.Contains([]string{"ca", "cert", "key"}, key) && !strings.HasPrefix(text, "/"):
			return fmt.Errorf("parameter %q must be the path of a file, and begin with /", key)
		}
		*target, seen = text, seen+" "+key
	}
	return u.together(name, *fields["tls"])
}

// together looks whether parameters have what they need beside them.
func (u *URL) together(name, tls string) error {
	files := u.CA != "" || u.Cert != ""
	switch {
	case tls != "" && tls != "true" && tls != "false":
		return errors.New(`parameter "tls" must be true or false`)
	case tls == "false" && name == "rediss":
		return errors.New(`parameter "tls" is false, and rediss:// is always with TLS; without it write redis://`)
	case u.Key != "" && u.Cert == "":
		return errors.New(`parameter "key" has no effect without "cert"`)
	case u.Cert != "" && u.Key == "":
		return errors.New(`parameter "cert" has no effect without "key"`)
	case tls == "false" && files:
		return errors.New(`parameter "tls" is false, and "ca" and "cert" have no effect without TLS`)
	case u.SentinelUser != "" && u.SentinelPassword == "":
		return errors.New(`parameter "sentinel_user" has no effect without "sentinel_password"`)
	}
	u.TLS = name == "rediss" || tls == "true" || files
	return nil
}

// unknown says what is wrong with a parameter that the scheme does not have. It quotes
// nothing that follows sentinel_password: if that has an & which is not encoded, the rest
// of the password looks like the name of a parameter.
func unknown(name string, s scheme, key string, elsewhere bool, seen string) error {
	switch {
	case !elsewhere && strings.Contains(seen, "password"):
		return fmt.Errorf(`unknown parameter after "sentinel_password"; an & in the password is written %%26%s`, meant(name, key))
	case elsewhere && name == "redis" && !strings.HasPrefix(key, "sentinel"):
		return fmt.Errorf("parameter %q has no effect with redis://; for TLS write rediss://", key)
	case elsewhere:
		return fmt.Errorf("parameter %q has no effect with %s://", key, name)
	case !only(key, nameBytes) || key == "" || len(key) > 40:
		return errors.New("what follows the ? must be parameters, as in ?ca=FILE&cert=FILE&key=FILE")
	}
	if hint := meant(name, key); hint != "" {
		return fmt.Errorf("unknown parameter %q%s", key, hint)
	}
	if len(s.params) == 0 {
		return fmt.Errorf("unknown parameter %q; %s:// has none", key, name)
	}
	return fmt.Errorf("unknown parameter %q; known: %s", key, strings.Join(s.params, ", "))
}

// meant suggests the parameter that was probably meant; "" if there is none.
func meant(name, key string) string {
	near := nearest(key)
	switch {
	case near == "":
		return ""
	case name == "redis" && !strings.HasPrefix(near, "sentinel"):
		return fmt.Sprintf("; did you mean %q? For TLS write rediss://", near)
	}
	return fmt.Sprintf("; did you mean %q?", near)
}

// only reports whether a text has no other bytes than some.
func only(text, bytes string) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !strings.ContainsRune(bytes, r) })
}

const nameBytes = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_."

// nearest is the parameter that was probably meant: of another case, with the same letters
// in another order, or the beginning of a longer one.
func nearest(key string) string {
	low := strings.ReplaceAll(strings.ToLower(key), "-", "_")
	if strings.HasPrefix(low, "ssl") {
		return "tls"
	}
	for _, known := range []string{"sentinel_password", "sentinel_user", "cert", "tls", "key", "ca"} {
		if strings.HasPrefix(low, known) || len(low) > 1 && strings.HasPrefix(known, low) && low != "sentinel_" || letters(low) == letters(known) {
			return known
		}
	}
	return ""
}

// letters are the bytes of a word in order.
func letters(s string) string {
	b := []byte(s)
	slices.Sort(b)
	return string(b)
}

// shownLogin is USER:PASSWORD@ with a Mask.
func shownLogin(login string) string {
	if user, password, ok := strings.Cut(login, ":"); ok && password != "@" {
		return user + ":" + Mask + "@"
	}
	return login
}

// shownQuery is a query with a Mask for the password of the Sentinels.
func shownQuery(query string) string {
	fields := strings.Split(query, "&")
	for i, f := range fields {
		if key, _, ok := strings.Cut(f, "="); ok && strings.TrimPrefix(key, "?") == "sentinel_password" {
			fields[i] = key + "=" + Mask
		}
	}
	return strings.Join(fields, "&")
}
