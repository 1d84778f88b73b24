package domains

import (
	"bytes"
	"cmp"
	"iter"
	"path/filepath"
	"strconv"
	"strings"
	"unicode"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/follow"
)

// A Set has domains, and in Parents .example.com for all subdomains of example.com. Not has
// what is not in it all the same; nil where all is.
type Set struct {
	Domains, Parents map[string]bool
	Not              *Set
}

func newSet() Set {
	return Set{Domains: map[string]bool{}, Parents: map[string]bool{}}
}

// The lookups of Exim's that may be in front of a file or directory (Exim's specification, "Single-key
// lookup types"): their keys are names and nothing else.
const (
	lsearch = "lsearch;"
	dsearch = "dsearch;"
)

// FileOf is the absolute path of the file or directory that an entry of Follow's names, and the lookup
// in front of it; empty if it names none.
func FileOf(entry string) (path, lookup string) {
	path = strings.TrimPrefix(entry, "!")
	for _, l := range []string{lsearch, dsearch} {
		if rest, is := strings.CutPrefix(path, l); is {
			path, lookup = rest, l
			break
		}
	}
	if !filepath.IsAbs(path) {
		return "", ""
	}
	return path, lookup
}

// Follow follows a set of domains, like exim.local_domains: names, and files with one name a line, in which #
// begins a comment, or directories with a file of each name. With a ! in front it is an exception,
// and so is a line of a file. With lsearch; or dsearch; in front all in it are names, also what begins
// with *. or a !.
func Follow(entries []string) *follow.Value[Set] {
	var files []string
	for _, e := range entries {
		if file, _ := FileOf(e); file != "" {
			files = append(files, file)
		}
	}
	return follow.New(files, func(texts [][]byte) Set {
		s, not := newSet(), newSet()
		for _, e := range entries {
			in := s
			rest, but := strings.CutPrefix(e, "!")
			if but {
				in, s.Not = not, &not
			}
			file, lookup := FileOf(rest)
			if file == "" {
				in.add(rest)
				continue
			}
			if lookup != "" {
				in.addKeys(texts[0], lookup)
			} else if in.addLines(texts[0], not) && !but {
				s.Not = &not
			}
			texts = texts[1:]
		}
		return s
	})
}

// Read reads what is in a file or directory of domains, an entry as of Follow.
func Read(entry string) (Set, error) {
	f := Follow([]string{entry})
	err := f.Refresh()
	return *f.Get(), err
}

// addLines adds the names in a file, those with a ! in front to not, and reports whether there are
// such. It may be a file in which Exim looks up names, though nothing says so: then there is more behind
// them, after a colon or white space, and in the indented lines that follow.
func (s Set) addLines(text []byte, not Set) (negated bool) {
	more := false
	for line := range bytes.Lines(text) {
		name, _, _ := strings.Cut(string(line), "#")
		bare, but := strings.CutPrefix(strings.TrimSpace(name), "!")
		fields := strings.FieldsFunc(bare, func(r rune) bool { return r == ':' || unicode.IsSpace(r) })
		if len(fields) == 0 || more && unicode.IsSpace(rune(name[0])) {
			continue
		}
		if negated = negated || but; but {
			not.add(fields[0])
		} else {
			s.add(fields[0])
		}
		more = len(fields) > 1 || strings.Contains(name, ":")
	}
	return negated
}

// addKeys adds the keys of a lookup. What no domain is that Exim asks for is left out: wildcards and
// exceptions, comments, keys with escapes, with white space or with a dot at the end, and in a directory
// what has capitals.
func (s Set) addKeys(text []byte, lookup string) {
	for line := range bytes.Lines(text) {
		key := strings.TrimSuffix(string(line), "\n")
		if lookup == lsearch {
			key = keyOf(key)
		}
		folded := envelope.FoldDomain(key)
		if key != "" && !strings.HasSuffix(key, ".") && !strings.ContainsAny(key, "*!#\\ \t") && (lookup == lsearch || folded == key) {
			s.Domains[folded] = true
		}
	}
}

// keyOf is the key in a line of a file for lsearch: a quoted string, or what is before a colon or white
// space. It is empty in a line that goes on with the one before.
func keyOf(line string) string {
	if quoted, is := strings.CutPrefix(line, `"`); is {
		key, _, _ := strings.Cut(quoted, `"`)
		return key
	}
	if end := strings.IndexAny(line, ": \t\n\v\f\r"); end >= 0 {
		return line[:end]
	}
	return line
}

// add adds an entry; *.example.com is for all subdomains of example.com.
func (s Set) add(entry string) {
	if name := envelope.FoldDomain(entry); strings.HasPrefix(name, "*.") {
		s.Parents[name[1:]] = true
	} else {
		s.Domains[name] = true
	}
}

// Has reports whether a domain is in the set, by itself or as a subdomain.
func (s Set) Has(domain string) bool {
	whole := domain
	for found := s.Domains[domain]; ; found = s.Parents[domain] {
		if found {
			return s.Not == nil || !s.Not.Has(whole)
		}
		rest := strings.TrimPrefix(domain, ".")
		dot := strings.IndexByte(rest, '.')
		if len(s.Parents) == 0 || dot < 0 {
			return false
		}
		domain = rest[dot:]
	}
}

// Empty reports whether no domain is in the set.
func (s Set) Empty() bool { return len(s.Domains)+len(s.Parents) == 0 }

// Owners is the owner map of a shared host: which account has which domains.
type Owners struct {
	Account map[string]string // of a domain
	Main    map[string]string // domain of an account: the main one, else the first
	domains map[string][]string
	homes   map[string]string // account of a home directory
	logins  map[string]string // name of a user id: the first, where several have it
	lent    []uidRange        // user ids that logins may take in namespaces of their own
	names   map[string]bool   // of all logins
}

// A uidRange is user ids that are lent to a login: whoever has one of them is that login.
// With them it could have a limit for each of its rootless containers, and any number of them.
type uidRange struct {
	first, n uint64
	login    string
}

// OwnerFiles are where the owner map of a host is, and its logins.
type OwnerFiles struct {
	Owners string // cPanel's /etc/userdomains, DirectAdmin's domainowners: lines "domain: account"
	Main   string // main domains, likewise: /etc/trueuserdomains
	Passwd string // passwd(5): logins and home directories
	SubUID string // subuid(5): user ids that are lent to logins
}

// FollowOwners follows an owner map.
func FollowOwners(f OwnerFiles) *follow.Value[Owners] {
	return follow.New([]string{f.Owners, f.Main, f.Passwd, f.SubUID}, func(texts [][]byte) Owners {
		o := Owners{Account: map[string]string{}, Main: map[string]string{}, domains: map[string][]string{}, homes: map[string]string{},
			logins: map[string]string{}, names: map[string]bool{}}
		for domain, account := range ownerLines(texts[1]) {
			o.Main[account] = domain
		}
		for domain, account := range ownerLines(texts[0]) {
			if o.Account[domain] == "" {
				o.domains[account] = append(o.domains[account], domain)
			}
			o.Account[domain] = account
			if o.Main[account] == "" {
				o.Main[account] = domain
			}
		}
		for line := range bytes.Lines(texts[2]) {
			f := strings.Split(strings.TrimSpace(string(line)), ":")
			if len(f) >= 3 && f[0] != "" {
				o.names[f[0]] = true
				o.logins[f[2]] = cmp.Or(o.logins[f[2]], f[0])
			}
			if len(f) >= 6 && o.Main[f[0]] != "" && f[5] != "" && f[5] != "/" {
				o.homes[strings.TrimSuffix(f[5], "/")] = f[0]
			}
		}
		o.lend(texts[3])
		return o
	})
}

// lend takes in a subuid(5): lines "login:first:count", where the login may be its user id. What
// is lent to root is of containers that LXD runs, and not root's.
func (o *Owners) lend(subuid []byte) {
	for line := range bytes.Lines(subuid) {
		f := strings.Split(strings.TrimSpace(string(line)), ":")
		if len(f) != 3 {
			continue
		}
		first, err := strconv.ParseUint(f[1], 10, 32)
		n, err2 := strconv.ParseUint(f[2], 10, 32)
		if login := cmp.Or(o.logins[f[0]], f[0]); err == nil && err2 == nil && o.names[login] && login != o.logins["0"] {
			o.lent = append(o.lent, uidRange{first, n, login})
		}
	}
}

// ownerLines yields each domain with its account. It leaves out cPanel's last line, with
// the domain *.
func ownerLines(text []byte) iter.Seq2[string, string] {
	return func(yield func(domain, account string) bool) {
		for line := range bytes.Lines(text) {
			domain, account, found := strings.Cut(string(line), ":")
			domain, account = envelope.FoldDomain(strings.TrimSpace(domain)), strings.TrimSpace(account)
			good := found && domain != "" && account != "" && domain != "*" && domain[0] != '#'
			if good && !yield(domain, account) {
				return
			}
		}
	}
}

// Known reports whether there is an owner map.
func (o *Owners) Known() bool { return len(o.Account) > 0 }

// DomainsOf returns the domains of an account.
func (o *Owners) DomainsOf(account string) []string { return o.domains[account] }

// IsAccount reports whether a login name is an account: one that has a domain.
func (o *Owners) IsAccount(login string) bool { return o.Main[login] != "" }

// Caller is the login of whoever has run sendmail; empty if nothing tells.
func (o *Owners) Caller(r *sidecar.Request) string {
	if r.UID == "" {
		return r.Login
	}
	return cmp.Or(o.logins[r.UID], r.Login, o.Login(r.UID))
}

// User is the name of a user id; empty if there is no such user.
func (o *Owners) User(uid string) string { return o.logins[uid] }

// Login is the name of a user id, or of the login to which it is lent; the id itself if there
// is no such user.
func (o *Owners) Login(uid string) string {
	if name := o.logins[uid]; name != "" {
		return name
	}
	n, err := strconv.ParseUint(uid, 10, 32)
	for _, r := range o.lent {
		if err == nil && n >= r.first && n-r.first < r.n {
			return r.login
		}
	}
	return uid
}

// FoldLogin is a login as it is charged. Some ways to log in take names in any case, and MySQL
// those with spaces at the end.
func (o *Owners) FoldLogin(login string) string {
	login = strings.TrimSpace(login)
	if lower := strings.ToLower(login); lower != login && !o.IsAccount(login) && !o.names[login] {
		return lower
	}
	return login
}

// AccountAt is the account in whose home a directory is; empty if it is in no home.
func (o *Owners) AccountAt(directory string) string {
	for d := directory; d != ""; d = d[:max(0, strings.LastIndexByte(d, '/'))] {
		if account := o.homes[d]; account != "" {
			return account
		}
	}
	return ""
}
