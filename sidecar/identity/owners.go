package identity

import (
	"bytes"
	"strings"

	"sluice/sidecar/envelope"
	"sluice/sidecar/follow"
)

// owners is the owner map of a shared host: whose the domains are.
type Owners struct {
	Account map[string]string // of a domain
	Main    map[string]string // domain of an account: the main one, else the first
	homes   map[string]string // account by its home directory
}

// followOwners follows the owner map (cPanel's /etc/userdomains, DirectAdmin's
// domainowners), the main domains (/etc/trueuserdomains), both with a line
// "domain: account" each, and the home directories of passwd(5).
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

// ownerLines yields each domain with its account. cPanel's last line, for all
// other domains, is none.
func ownerLines(text []byte) func(yield func(domain, account string) bool) {
	return func(yield func(domain, account string) bool) {
		for line := range bytes.Lines(text) {
			domain, account, found := strings.Cut(string(line), ":")
			domain, account = envelope.FoldDomain(strings.TrimSpace(domain)), strings.TrimSpace(account)
			if !found || domain == "" || account == "" || domain == "*" || domain[0] == '#' {
				continue
			}
			if !yield(domain, account) {
				return
			}
		}
	}
}

// known tells whether there is an owner map.
func (o *Owners) Known() bool { return len(o.Account) > 0 }

// isAccount tells whether a login is that of an account, which has a domain.
func (o *Owners) IsAccount(login string) bool { return o.Main[login] != "" }

// of is the account in whose home a directory is, empty if in nobody's.
func (o *Owners) of(directory string) string {
	for d := directory; d != ""; d = d[:strings.LastIndexByte(d, '/')] {
		if account := o.homes[d]; account != "" {
			return account
		}
		if !strings.Contains(d, "/") {
			break
		}
	}
	return ""
}
