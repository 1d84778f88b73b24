package exim

import (
	"bufio"
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// What Exim's lists say is understood, or named as not understood, and never more than Exim means.
func TestListsOfExim(t *testing.T) {
	for _, c := range []struct {
		name, config   string
		items, unknown string // of local_domains, with spaces between them
	}{
		{"Debian's", "domainlist local_domains = @:localhost:shop.example", "mx.example localhost shop.example", ""},
		{"a panel's", "domainlist local_domains = lsearch;/etc/virtual/domains", "lsearch;/etc/virtual/domains", ""},
		{"files and directories", "domainlist local_domains = /etc/local : dsearch;/etc/mail.d : lsearch; /etc/more", "/etc/local dsearch;/etc/mail.d lsearch;/etc/more", ""},
		{"all below a name", "domainlist local_domains = *.shop.example", "*.shop.example", ""},
		{"everything", "domainlist local_domains = *", "", "*"},
		{"an ending", "domainlist local_domains = *shop.example", "", "*shop.example"},
		{"another separator", "domainlist local_domains = <; a.example ; b.example", "a.example b.example", ""},
		{"a doubled separator", "domainlist local_domains = a.example : d::e", "a.example", "d:e"},
		{"an exception", "domainlist local_domains = ! not.shop.example : *.shop.example", "!not.shop.example *.shop.example", ""},
		{"an exception in a file", "domainlist local_domains = !lsearch;/etc/not : *.shop.example", "!lsearch;/etc/not *.shop.example", ""},
		{"an exception that is not understood", "domainlist local_domains = a.example : !dbm;/etc/not : *.shop.example : b.example", "a.example", "!dbm;/etc/not *.shop.example b.example"},
		{"expansions", "domainlist local_domains = ${if exists{/etc/a}{b.example : c.example}{}} : a.example : ^x : /etc/$primary_hostname",
			"a.example", "${if exists{/etc/a}{b.example : c.example}{}} ^x /etc/$primary_hostname"},
		{"an expansion that does not end", "domainlist local_domains = a.example : ${if : b.example", "a.example", "${if : b.example"},
		{"a list in a list", "domainlist ours = a.example : !b.example\ndomainlist local_domains = +ours : *.example", "a.example !b.example *.example", ""},
		{"a list as an exception", "domainlist theirs = a.example : b.example\ndomainlist local_domains = !+theirs : *.example", "!a.example !b.example *.example", ""},
		{"a list with exceptions as an exception", "domainlist theirs = !a.example : *.shop.example\ndomainlist local_domains = !+theirs : *.example", "", "!+theirs *.example"},
		{"a list that is not there", "domainlist local_domains = +none : a.example", "a.example", "+none"},
		{"a list in itself", "domainlist local_domains = +local_domains", "", "+local_domains"},
		{"an exception of nothing", "domainlist local_domains = a.example : ! : b.example", "a.example", "! b.example"},
		{"addresses", "domainlist local_domains = @[] : a.example", "a.example", ""},
		{"a cached one", "domainlist_cache local_domains = a.example", "a.example", ""},
		{"a hidden one", "hide domainlist local_domains = a.example", "a.example", ""},
		{"none", "domainlist others = a.example\nbegin acl\ndomainlist local_domains = b.example", "", ""},
	} {
		found := listsOf(c.config, "mx.example").LocalDomains
		if items, unknown := strings.Join(found.Items, " "), strings.Join(found.Unknown, " "); items != c.items || unknown != c.unknown {
			t.Errorf("%s: %q, and not understood %q; want %q and %q", c.name, items, unknown, c.items, c.unknown)
		}
	}
}

// Of Exim's lookups only those are understood whose keys are names and nothing else. All others are
// named as what only Exim can look up.
func TestLookupsOfExim(t *testing.T) {
	for lookup, is := range map[string]bool{
		"lsearch": true, "dsearch": true,
		"lsearch*": false, "lsearch*@": false, "dsearch*": false, // a key * is everything
		"partial-lsearch": false, "partial1-lsearch": false, "partial(.)lsearch": false, "partial0-lsearch*": false, "partial-dsearch": false,
		"wildlsearch": false, "nwildlsearch": false, "partial-nwildlsearch": false,
		"iplsearch": false, "net-lsearch": false, "net24-iplsearch": false,
		"lsearch,ret=full": false, "dsearch,filter=dir": false, "lsearch ": false, "LSEARCH": false,
		"cdb": false, "dbm": false, "dbmjz": false, "dbmnz": false, "json": false, "lmdb": false, "sqlite": false, "mysql": false, "nis": false,
	} {
		item := lookup + ";/etc/x"
		found := listsOf("domainlist local_domains = a.example : "+item, "mx.example").LocalDomains
		want := List{Names: found.Names, Items: []string{"a.example"}, Unknown: []string{item}}
		if is {
			want.Items, want.Unknown = []string{"a.example", item}, nil
		}
		if diff := cmp.Diff(want, found); diff != "" {
			t.Errorf("%s: -want +got:\n%s", lookup, diff)
		}
	}
}

func TestRelaysOfExim(t *testing.T) {
	config := `# Exim Configuration (4.96)
# 1 "/etc/exim.conf"
primary_hostname = mx.example
# 3 "/etc/exim.more.conf"
domainlist relay_to_domains = backup.example : cdb;/etc/x
domainlist local_domains = shop.example
# 9 "/etc/exim.conf"
hostlist relay_from_hosts = : 127.0.0.1 : ::::1 : localhost : 192.0.2.9/24 : 2001::db8::::/32 : 0.0.0.0/0 : * : relay.example
hostlist others = 198.51.100.1
hostlist auth_relay_hosts = *
hostlist no_relay_hosts = 198.51.100.66
domainlist via_relay_domains = gmail.example
hostlist relay_hosts = <; 198.51.100.7 ; !198.51.100.9 ; 198.51.100.0/24
`
	want := Lists{
		Files:        []string{"/etc/exim.conf", "/etc/exim.more.conf"},
		LocalDomains: List{Names: []string{"local_domains"}, Items: []string{"shop.example"}},
		RelayDomains: List{Names: []string{"relay_to_domains"}, Items: []string{"backup.example"}, Unknown: []string{"cdb;/etc/x"}},
		RelayHosts: List{Names: []string{"relay_from_hosts", "relay_hosts"}, Items: []string{"192.0.2.0/24", "2001:db8::/32", "198.51.100.7"},
			Unknown: []string{"0.0.0.0/0", "*", "relay.example", "!198.51.100.9", "198.51.100.0/24"}},
	}
	if diff := cmp.Diff(want, listsOf(config, "mx.example"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A sluice that is confined has its helper ask; without one it asks itself. What the helper cannot
// find out is an error.
func TestListsByTheHelper(t *testing.T) {
	good := Exim{Binary: fakeExim(t, `case "$2" in config) echo 'domainlist local_domains = @' ;; *) echo mx.example ;; esac`)}
	bad := Exim{Binary: fakeExim(t, "echo 'a line is wrong' >&2; exit 1")}
	for _, c := range []struct {
		name           string
		helper, itself Exim
		want, err      string
	}{
		{"by the helper", good, bad, "mx.example", ""},
		{"the helper cannot", bad, good, "", "a line is wrong"},
		{"no helper", Exim{}, good, "mx.example", ""},
	} {
		e := c.itself
		if c.helper.Binary != "" {
			e.Helper = filepath.Join(t.TempDir(), "helper")
			l, err := net.Listen("unix", e.Helper)
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			go func() {
				conn, err := l.Accept()
				if err == nil {
					bufio.NewReader(conn).ReadString('\n') // sluice deliver reads who asks for what
					c.helper.ServeLists(context.Background(), conn)
					conn.Close()
				}
			}()
		}
		got, err := e.askLists(t.Context())
		if items := strings.Join(got.LocalDomains.Items, " "); items != c.want || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.name, items, err)
		}
	}
}
