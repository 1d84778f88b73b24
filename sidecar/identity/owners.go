package identity

import (
	"bytes"
	"iter"
	"strings"

	"sluice/sidecar/envelope"
	"sluice/sidecar/follow"
)

// Owners is the owner map of a shared host: which account has which domains.
type Owners struct {
	Account map[string]string // of a domain
	Main    map[string]string // domain of an account: the main one, else the first
	homes   map[string]string // account of a home directory
}

// FollowOwners follows the owner map (cPanel's /etc/userdomains, DirectAdmin's
// domainowners) and the main domains (/etc/trueuserdomains), which have lines
// "domain: account", and the home directories in passwd(5).
func FollowOwners(ownersFile, mainFile, passwdFile string) *follow.Value[Owners] {
	return follow.New([]string{ownersFile, mainFile, passwdFile}, func(texts [][]byte) Owners {
		o := Owners{map[string]string{}, map[string]string{}, map[string]string{}}
		for domain, account := range ownerLines(texts[1]) {
			o.Main[account] = domain
		}
		for domain, account := range ownerLines(texts[0]) {
			o.Account[domain] = account
			if o.Main[account] == "" {
				o.Main[account] = domain
			}
		}
		for line := range bytes.Lines(texts[2]) {
			f := strings.Split(strings.TrimSpace(string(line)), ":")
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

// IsAccount reports whether a login name is an account: one that has a domain.
func (o *Owners) IsAccount(login string) bool { return o.Main[login] != "" }

// of is the account in whose home a directory is; empty if it is in no home.
func (o *Owners) of(directory string) string {
	for d := directory; d != ""; d = d[:max(0, strings.LastIndexByte(d, '/'))] {
		if account := o.homes[d]; account != "" {
			return account
		}
	}
	return ""
}
