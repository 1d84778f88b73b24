package identity

import (
	"bytes"
	"cmp"
	"iter"
	"path/filepath"
	"strings"

	"sluice/sidecar/envelope"
	"sluice/sidecar/follow"
)

// A DomainSet has domains, and in Parents .example.com for all subdomains of example.com.
type DomainSet struct {
	Domains, Parents map[string]bool
}

// followDomains follows exim.local_domains: names, and files with one name a line, in
// which # begins a comment.
func followDomains(entries []string) *follow.Value[DomainSet] {
	var names, files []string
	for _, e := range entries {
		if filepath.IsAbs(e) {
			files = append(files, e)
		} else {
			names = append(names, e)
		}
	}
	return follow.New(files, func(texts [][]byte) DomainSet {
		s := DomainSet{map[string]bool{}, map[string]bool{}}
		for _, name := range names {
			s.add(name)
		}
		for _, text := range texts {
			for line := range bytes.Lines(text) {
				name, _, _ := strings.Cut(string(line), "#")
				if name = strings.TrimSpace(name); name != "" {
					s.add(name)
				}
			}
		}
		return s
	})
}

// add adds an entry; *.example.com is for all subdomains of example.com.
func (s DomainSet) add(entry string) {
	if name := envelope.FoldDomain(entry); strings.HasPrefix(name, "*.") {
		s.Parents[name[1:]] = true
	} else {
		s.Domains[name] = true
	}
}

// Has reports whether a domain is in the set, by itself or as a subdomain.
func (s DomainSet) Has(domain string) bool {
	if s.Domains[domain] {
		return true
	}
	for len(s.Parents) > 0 {
		dot := strings.IndexByte(domain, '.')
		if dot < 0 {
			break
		}
		if s.Parents[domain[dot:]] {
			return true
		}
		domain = domain[dot+1:]
	}
	return false
}

// Empty reports whether no domain is in the set.
func (s DomainSet) Empty() bool { return len(s.Domains)+len(s.Parents) == 0 }

// Owners is the owner map of a shared host: which account has which domains.
type Owners struct {
	Account map[string]string // of a domain
	Main    map[string]string // domain of an account: the main one, else the first
	domains map[string][]string
	homes   map[string]string // account of a home directory
	logins  map[string]string // name of a user id: the first, where several have it
	names   map[string]bool   // of all logins
}

// FollowOwners follows the owner map (cPanel's /etc/userdomains, DirectAdmin's
// domainowners) and the main domains (/etc/trueuserdomains), which have lines
// "domain: account", and the logins and home directories in passwd(5).
func FollowOwners(ownersFile, mainFile, passwdFile string) *follow.Value[Owners] {
	return follow.New([]string{ownersFile, mainFile, passwdFile}, func(texts [][]byte) Owners {
		o := Owners{map[string]string{}, map[string]string{}, map[string][]string{}, map[string]string{}, map[string]string{}, map[string]bool{}}
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
		return o
	})
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

// login is the name of a user id; the id itself if there is no such user.
func (o *Owners) login(uid string) string { return cmp.Or(o.logins[uid], uid) }

// fold is a login as it is charged. Some ways to log in take names in any case, and MySQL
// those with spaces at the end.
func (o *Owners) fold(login string) string {
	login = strings.TrimSpace(login)
	if lower := strings.ToLower(login); lower != login && !o.IsAccount(login) && !o.names[login] {
		return lower
	}
	return login
}

// of is the account in whose home a directory is; empty if it is in no home.
func (o *Owners) of(directory string) string {
	for d := directory; d != ""; d = d[:max(0, strings.LastIndexByte(d, '/'))] {
		if account := o.homes[d]; account != "" {
			return account
		}
	}
	return ""
}
