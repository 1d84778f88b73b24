package sidecar

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
)

// A domainList is exim.local_domains: names, and files with a name a line
// that are followed as they change.
type domainList struct {
	names domainSet
	files []string
	read  atomic.Pointer[fileDomains]
}

// fileDomains is what the files held when they were read.
type fileDomains struct {
	names  domainSet
	stamps []fileStamp
}

// A domainSet has domains, and .example.com for all subdomains of example.com.
type domainSet struct {
	domains, parents map[string]bool
}

func newDomainSet() domainSet { return domainSet{map[string]bool{}, map[string]bool{}} }

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

// A fileStamp changes with a file; the zero one is that of a missing file.
type fileStamp struct {
	size, modified int64
}

func newDomainList(entries []string) *domainList {
	l := &domainList{names: newDomainSet()}
	for _, e := range entries {
		if filepath.IsAbs(e) {
			l.files = append(l.files, e)
		} else {
			l.names.add(e)
		}
	}
	l.read.Store(&fileDomains{stamps: make([]fileStamp, len(l.files))})
	return l
}

// has tells whether a domain is local.
func (l *domainList) has(domain string) bool {
	return l.names.has(domain) || l.read.Load().names.has(domain)
}

// refresh reads the files again if one has changed. A file that is not there
// has no domains; one that cannot be read keeps those that were read last.
func (l *domainList) refresh() error {
	old := l.read.Load()
	stamps := make([]fileStamp, len(l.files))
	changed := false
	for i, path := range l.files {
		if info, err := os.Stat(path); err == nil {
			stamps[i] = fileStamp{info.Size(), info.ModTime().UnixNano()}
		}
		changed = changed || stamps[i] != old.stamps[i]
	}
	if !changed {
		return nil
	}
	names := newDomainSet()
	for _, path := range l.files {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for line := range bytes.Lines(text) {
			name, _, _ := strings.Cut(string(line), "#")
			if name = strings.TrimSpace(name); name != "" {
				names.add(name)
			}
		}
	}
	l.read.Store(&fileDomains{names, stamps})
	return nil
}

// empty tells whether no domain is local as far as the list knows.
func (l *domainList) empty() bool { return l.names.empty() && l.read.Load().names.empty() }
