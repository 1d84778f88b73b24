package engine_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
)

// A panel that writes on a full disk leaves its files empty. What follows from that
// is told, once, and nothing is told of a file that comes back.
func TestFilesOfOwnersAndLocalDomainsThatGoAreTold(t *testing.T) {
	dir := t.TempDir()
	owners, local := filepath.Join(dir, "userdomains"), filepath.Join(dir, "localdomains")
	s := newSite(t, limit20+"[identity]\nowners = \""+owners+"\"\n")
	s.config.Exim.LocalDomains = []string{local}
	put := func(ownersText, localText string) {
		t.Helper()
		for file, text := range map[string]string{owners: ownersText, local: localText} {
			if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		for range 3 { // a file is believed when it has stood still
			s.now = s.now.Add(time.Second)
			s.Tend(s.now)
		}
	}
	put("a.example: alice\n", "local.example\n")
	s.restart()
	before := s.log.String()
	for _, step := range []struct{ owners, local, told string }{
		{"", "local.example\n", "owner map is gone or empty"},
		{"a.example: alice\n", "", "no local domain is known"},
		{"a.example: alice\n", "local.example\n", ""},
	} {
		put(step.owners, step.local)
		log := s.log.String()
		told := strings.TrimPrefix(log, before)
		before = log
		if got := strings.Count(told, "level=WARN"); !strings.Contains(told, step.told) || (got == 1) != (step.told != "") {
			t.Errorf("owners %q, local domains %q: %q", step.owners, step.local, told)
		}
	}
}

// Which domain is an account's main one, and which are local, follows an edit within
// two seconds, and nothing else changes.
func TestEditsOfMainAndLocalDomainsAreFollowed(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	s := newSite(t, limit20+"[identity]\nowners = \""+path("userdomains")+"\"\nmain_domains = \""+path("trueuserdomains")+"\"\n")
	s.config.Exim.LocalDomains = []string{path("localdomains")}
	edit := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(path(name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			s.now = s.now.Add(time.Second)
			s.Tend(s.now)
		}
	}
	edit("userdomains", "a.example: alice\nb.example: alice\nc.example: carl\n")
	edit("trueuserdomains", "a.example: alice\nc.example: carl\n")
	edit("localdomains", "local.example\n")
	s.restart()
	for _, step := range []struct {
		file, text string
		a, b, c    int64
	}{
		{"", "", 1, 0, 1},
		{"trueuserdomains", "b.example: alice\nmalformed\nc.example: carl\n", 1, 1, 2},
		{"localdomains", "local.example\nfar.example\n", 1, 1, 2},
		{"localdomains", "local.example\n", 1, 2, 3},
		{"trueuserdomains", "a.example: alice\nc.example: carl\n", 2, 2, 4},
	} {
		if step.file != "" {
			edit(step.file, step.text)
		}
		for _, login := range []string{"alice", "carl"} {
			s.want(s.Ask(context.Background(), s.now, sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(s.now), Submitter: sidecar.Submitter{Login: login},
				Sender: "x@elsewhere.example", Recipients: login + "@far.example"}), sidecar.Accept, "")
		}
		s.sent("a.example", step.a)
		s.sent("b.example", step.b)
		s.sent("c.example", step.c)
	}
}
