package sidecar_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
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
