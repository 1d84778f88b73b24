package settings

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/domains"
)

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// twoTenants are the settings of a host with the accounts alice and bob, of
// whom alice has an addon domain, and a web server's user www.
func twoTenants(t *testing.T) *Settings {
	t.Helper()
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	write(t, path("userdomains"), "a.example: alice\nAddon.example: alice\nb.example: bob\n# c\nmalformed\n*: nobody\n")
	write(t, path("trueuserdomains"), "a.example: alice\nb.example: bob\n")
	write(t, path("passwd"), "root:x:0:0::/root:/bin/sh\nwww:x:33:33::/srv:/bin/false\n"+
		"alice:x:1000:1000::/home/alice:/bin/sh\nbob:x:1001:1001::/home2/bob/:/bin/sh\n")
	s, err := New(Sources{Config: config.Default()}, Host{Node: "node1", EximUser: "exim"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.OwnerMap = domains.FollowOwners(domains.OwnerFiles{Owners: path("userdomains"), Main: path("trueuserdomains"), Passwd: path("passwd")})
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	return s
}

// A file is read again when it is the same at two refreshes: one that is being rewritten
// is empty, or incomplete, for a moment.
func TestOwnersAreFollowed(t *testing.T) {
	s := twoTenants(t)
	file := s.OwnerMap.Paths[0]
	for i, step := range []struct{ text, owner string }{
		{"", "alice"}, // rewriting begins
		{"a.example: bob\n", "alice"},
		{"a.example: bob\nb.example: bob\n", "alice"},
		{"a.example: bob\nb.example: bob\n", "bob"},
		{"", "bob"},
		{"", ""}, // it was meant
	} {
		write(t, file, step.text)
		stamp := time.Date(2026, 3, 1, 12, 0, len(step.text), 0, time.UTC) // as different as the text
		if err := os.Chtimes(file, stamp, stamp); err != nil {
			t.Fatal(err)
		}
		if err := s.Refresh(); err != nil || s.OwnerMap.Get().Account["a.example"] != step.owner {
			t.Fatalf("refresh %d: %v, %+v, want a.example to be %q's", i, err, s.OwnerMap.Get(), step.owner)
		}
	}
	write(t, file, "a.example: alice\n")
	for range 2 {
		if err := s.Refresh(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	for i, known := range []bool{true, false} {
		if err := s.Refresh(); err != nil || s.OwnerMap.Get().Known() != known {
			t.Fatalf("refresh %d after the file went: %v, %+v", i, err, s.OwnerMap.Get())
		}
	}
}

// DirectAdmin has no file of main domains: the first domain is the main one.
func TestWithoutMainDomainsTheFirstIsTheMainOne(t *testing.T) {
	file := filepath.Join(t.TempDir(), "domainowners")
	write(t, file, "one.example: carl\ntwo.example: carl\n")
	f := domains.FollowOwners(domains.OwnerFiles{Owners: file})
	if err := f.Refresh(); err != nil || f.Get().Main["carl"] != "one.example" {
		t.Fatalf("%v, %+v", err, f.Get())
	}
}
