package identity

import (
	"bytes"
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
