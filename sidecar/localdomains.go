package sidecar

import (
	"bytes"
	"path/filepath"
	"strings"
)

// A domainSet has domains, and .example.com for all subdomains of example.com.
type domainSet struct {
	domains, parents map[string]bool
}

// followDomains follows exim.local_domains: names, and files with a name a
// line.
func followDomains(entries []string) *followed[domainSet] {
	var names, files []string
	for _, e := range entries {
		if filepath.IsAbs(e) {
			files = append(files, e)
		} else {
			names = append(names, e)
		}
	}
	return follow(files, func(texts [][]byte) domainSet {
		s := domainSet{map[string]bool{}, map[string]bool{}}
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

// add takes in an entry; *.example.com is for all subdomains of example.com.
func (s domainSet) add(entry string) {
	if name := foldDomain(entry); strings.HasPrefix(name, "*.") {
		s.parents[name[1:]] = true
	} else {
		s.domains[name] = true
	}
}

func (s domainSet) has(domain string) bool {
	if s.domains[domain] {
		return true
	}
	for len(s.parents) > 0 {
		dot := strings.IndexByte(domain, '.')
		if dot < 0 {
			break
		}
		if s.parents[domain[dot:]] {
			return true
		}
		domain = domain[dot+1:]
	}
	return false
}

func (s domainSet) empty() bool { return len(s.domains)+len(s.parents) == 0 }
