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
	names map[string]bool
	files []string
	read  atomic.Pointer[fileDomains]
}

// fileDomains is what the files held when they were read.
type fileDomains struct {
	names  map[string]bool
	stamps []fileStamp
}

// A fileStamp changes with a file; the zero one is that of a missing file.
type fileStamp struct {
	size, modified int64
}

func newDomainList(entries []string) *domainList {
	l := &domainList{names: map[string]bool{}}
	for _, e := range entries {
		if filepath.IsAbs(e) {
			l.files = append(l.files, e)
		} else {
			l.names[foldDomain(e)] = true
		}
	}
	l.read.Store(&fileDomains{stamps: make([]fileStamp, len(l.files))})
	return l
}

// has tells whether a domain is local. An entry *.example.com is for all
// subdomains of example.com.
func (l *domainList) has(domain string) bool {
	read := l.read.Load()
	if l.names[domain] || read.names[domain] {
		return true
	}
	for {
		dot := strings.IndexByte(domain, '.')
		if dot < 0 {
			return false
		}
		if wild := "*" + domain[dot:]; l.names[wild] || read.names[wild] {
			return true
		}
		domain = domain[dot+1:]
	}
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
	names := map[string]bool{}
	for _, path := range l.files {
		text, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for line := range bytes.Lines(text) {
			name, _, _ := strings.Cut(string(line), "#")
			if name = strings.TrimSpace(name); name != "" {
				names[foldDomain(name)] = true
			}
		}
	}
	l.read.Store(&fileDomains{names, stamps})
	return nil
}

// empty tells whether no domain is local as far as the list knows.
func (l *domainList) empty() bool { return len(l.names) == 0 && len(l.read.Load().names) == 0 }
