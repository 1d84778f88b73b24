package eximconfig_test

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// What a site would have set and added, in its own files.
const (
	siteMacros = `
MAIN_HOST_LOOKUP =
tls_advertise_hosts =
.include_if_exists /etc/exim4/host_macros
CHECK_DATA_LOCAL_ACL_FILE = /etc/exim4/site_data_acl
`
	siteDataACL = `
  deny  condition = ${if match{$h_Subject:}{forbidden by the site}}
        message   = the site does not like this
`
	// Anybody may log in with the password "secret".
	siteAuth = `
site_plain:
  driver = plaintext
  public_name = PLAIN
  server_prompts = :
  server_condition = ${if eq{$auth3}{secret}}
  server_set_id = $auth2
  server_advertise_condition = yes
`
	// The file sinks names a mail server for each domain, or for * all others.
	siteRouter = `
site_remote:
  driver = manualroute
  domains = ! +local_domains
  route_data = ${lookup{$domain}lsearch*{/etc/exim4/sinks}}
  self = send
  transport = remote_smtp
`
	siteAliases = `
forward: someone@far.example
list: one@far.example, two@far.example, three@far.example
`
	siteMailname = "here.example\n"
)

// furnish fills the host's folder. from is as for bootHost.
func (h *host) furnish(t testing.TB, from string) {
	t.Helper()
	if err := os.Chmod(h.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, folder := range []string{"usr-local", "lib", "spool", "log", "mail", "actions", "run", "run/sluice", "run/email_send_limits",
		"run/home", "run/home/alice", "run/home/bob", "run/home/web"} {
		if err := os.Mkdir(filepath.Join(h.dir, folder), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.own(t, "Debian-exim", "spool", "log")
	h.own(t, "mail", "mail")
	if from != "" {
		for _, own := range configFolders {
			copyAll(t, filepath.Join(from, own), filepath.Join(h.dir, own))
		}
		return
	}
	root := os.Getenv(otherRootEnv)
	copyAll(t, root+"/etc", filepath.Join(h.dir, "etc"))
	if root == "" {
		copyAll(t, "/var/lib/exim4", filepath.Join(h.dir, "lib"))
	}
	for _, unused := range []string{"ssl", "java*", "fonts", "systemd", "apt", "X11"} { // half of the files
		matches, _ := filepath.Glob(filepath.Join(h.dir, "etc", unused))
		for _, dir := range matches {
			removeAll(t, dir)
		}
	}
	h.write(t, "/etc/passwd", readFile(t, "/etc/passwd")+userLines("%[1]s:x:%[2]d:%[2]d::/run/home/%[1]s:/bin/sh\n"))
	h.write(t, "/etc/group", readFile(t, "/etc/group")+userLines("%[1]s:x:%[2]d:\n"))
	h.write(t, "/etc/subuid", fmt.Sprintf("%s:%d:65536\n", alice.name, subordinate))
	h.write(t, "/etc/mailname", siteMailname)
	h.write(t, "/etc/aliases", siteAliases)
}

// configureSite makes Debian's configuration that of a site.
func (h *host) configureSite(t testing.TB) {
	t.Helper()
	h.configureDebian(t, "true")
	conf := "/etc/exim4/conf.d/"
	h.write(t, conf+"main/000_localmacros", siteMacros)
	h.write(t, conf+"auth/10_site", siteAuth)
	h.write(t, conf+"router/150_site", siteRouter)
	h.write(t, "/etc/exim4/site_data_acl", siteDataACL)
	h.run(t, "update-exim4.conf")
}

// configureDebian writes what Debian's package configuration asks for.
func (h *host) configureDebian(t testing.TB, split string) {
	t.Helper()
	h.write(t, "/etc/exim4/update-exim4.conf.conf", `
dc_eximconfig_configtype='internet'
dc_other_hostnames='here.example;also.example'
dc_local_interfaces='127.0.0.1'
dc_relay_domains=''
dc_relay_nets=''
dc_minimaldns='false'
dc_use_split_config='`+split+`'
dc_localdelivery='mail_spool'
CFILEMODE='644'
`)
}

// sinkFor sends the mail for a domain to another port.
func (h *host) sinkFor(t testing.TB, domain string, port int) {
	t.Helper()
	h.write(t, "/etc/exim4/sinks", h.read("/etc/exim4/sinks")+domain+": "+route(port)+"\n")
}

// route is a port of this machine as a manualroute router names it.
func route(port int) string { return fmt.Sprintf("127.0.0.1::%d", port) }

// addMacros adds to the site's macros and options. Exim reads them when it starts:
// the file is included, so that nothing has to be made anew.
func (h *host) addMacros(t testing.TB, text string) {
	t.Helper()
	file := "/etc/exim4/host_macros"
	h.write(t, file, h.read(file)+text+"\n")
}

func userLines(format string) string {
	var b strings.Builder
	for _, u := range []login{alice, bob, web, proxy, filter, mailman} {
		fmt.Fprintf(&b, format, u.name, u.id)
	}
	return b.String()
}

// own gives folders of the host to a group, and to the user of that name if
// there is one.
func (h *host) own(t testing.TB, name string, folders ...string) {
	t.Helper()
	g, err := user.LookupGroup(name)
	if err != nil {
		t.Fatal(err)
	}
	gid, _ := strconv.Atoi(g.Gid)
	uid := 0
	if u, err := user.Lookup(name); err == nil && name != "mail" {
		uid, _ = strconv.Atoi(u.Uid)
	}
	for _, folder := range folders {
		dir := filepath.Join(h.dir, folder)
		if err := os.Chown(dir, uid, gid); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(dir, 0o775|os.ModeSetgid); err != nil {
			t.Fatal(err)
		}
	}
}

// sharedDir is a folder for what tests make once for all.
var sharedDir = sync.OnceValue(func() string {
	dir, err := os.MkdirTemp("", "sluice-shared-")
	if err == nil {
		err = os.Chmod(dir, 0o755) // Exim runs what is in it
	}
	if err != nil {
		panic(err)
	}
	return dir
})

// copyAll copies a folder with owners and modes.
func copyAll(t testing.TB, from, to string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-aT", from, to).CombinedOutput(); err != nil {
		t.Fatalf("copy %s: %v\n%s", from, err, out)
	}
}

func readFile(t testing.TB, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
