package settings

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/identity"
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
	s, err := New(Sources{Config: config.Default()}, "node1", "exim", nil)
	if err != nil {
		t.Fatal(err)
	}
	s.OwnerMap = identity.FollowOwners(path("userdomains"), path("trueuserdomains"), path("passwd"))
	if err := s.Refresh(); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNeitherTenantSpendsTheOthersBudget(t *testing.T) {
	s := twoTenants(t)
	local := func(login, sender, cwd string) sidecar.Request {
		return sidecar.Request{Submitter: sidecar.Submitter{Login: login, CWD: cwd}, Sender: sender}
	}
	auth := func(id, sender string) sidecar.Request {
		return sidecar.Request{Submitter: sidecar.Submitter{Auth: id, ClientAddress: "203.0.113.5"}, Sender: sender}
	}
	for name, c := range map[string]struct {
		request sidecar.Request
		want    string // domain, account, mailbox
	}{
		"own domain":                          {local("alice", "x@a.example", ""), "a.example alice "},
		"addon domain":                        {local("alice", "x@addon.example", ""), "addon.example alice "},
		"-f with another's domain":            {local("alice", "x@b.example", ""), "a.example alice "},
		"-f with nobody's domain":             {local("alice", "x@gmail.example", ""), "a.example alice "},
		"null sender":                         {local("alice", "", ""), "a.example alice "},
		"mailbox":                             {auth("news@addon.example", "x@addon.example"), "addon.example alice news@addon.example"},
		"AUTH with another's sender":          {auth("news@a.example", "x@b.example"), "a.example alice news@a.example"},
		"AUTH with a null sender":             {auth("news@a.example", ""), "a.example alice news@a.example"},
		"AUTH without domain":                 {auth("bob", "x@b.example"), "b.example bob "},
		"AUTH without domain, another's":      {auth("bob", "x@a.example"), "b.example bob "},
		"web server, in alice's home":         {local("www", "x@a.example", "/home/alice/public_html/shop"), "a.example alice "},
		"web server, in bob's home, as alice": {local("www", "x@a.example", "/home2/bob"), "b.example bob "},
		"web server, nowhere, as alice":       {local("www", "x@a.example", "/srv/www"), "node1 www "},
		"web server, nowhere, null sender":    {local("www", "", "/srv/www"), "node1 www "},
		"root, in the host's name":            {local("root", "root@host.example", "/root"), "node1 root "},
		"root, in a tenant's name":            {local("root", "x@a.example", "/root"), "node1 root "},
		"loopback":                            {sidecar.Request{Submitter: sidecar.Submitter{ClientAddress: "127.0.0.1"}, Sender: "x@a.example"}, "node1  "},
		"forward":                             {sidecar.Request{Submitter: sidecar.Submitter{ClientAddress: "203.0.113.5"}, Sender: "x@else.example", Original: "f@addon.example"}, "addon.example alice "},
	} {
		who := s.Payer(&c.request)
		if got := fmt.Sprintf("%s %s %s", who.Domain, who.Account, who.Mailbox); who.Class != sidecar.Charged || got != c.want {
			t.Errorf("%s: charged %q (%d), want %q", name, got, who.Class, c.want)
		}
	}
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
	f := identity.FollowOwners(file, "", "")
	if err := f.Refresh(); err != nil || f.Get().Main["carl"] != "one.example" {
		t.Fatalf("%v, %+v", err, f.Get())
	}
}
