package card

import (
	"cmp"
	"fmt"
	"os"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/printable"
	"sluice/sidecar/stop"
)

// A Step is what can be done, with the command for it as it may be typed.
type Step struct{ What, Command string }

// Next is what can be done on this host, whose files are below root.
func (c *Card) Next(root string) (next []Step) {
	add := func(what, command, name string) {
		if typed := printable.Command(command, name); typed != "" {
			next = append(next, Step{what, typed})
		}
	}
	_, notStopped := stop.Canonical(c.Culprit.Author)
	switch {
	case !c.Open() || notStopped != nil:
	case c.IsStopped():
		add("let it send again", "sluice start", c.Culprit.Author)
	default:
		add("stop only this one", "sluice stop", c.Culprit.Author)
	}
	if sidecar.CanBeCleaned(c.Culprit.Kind) && c.Open() {
		add("clean up after it", "sluice clean", c.ID.String())
	}
	if c.Domain == "" {
		next = append(next, Step{"how the node is", "sluice doctor"})
	} else {
		add("who sends now", "sluice who", c.Domain)
		add("all that happened to it", "sluice events", c.Domain)
		add("what Exim has logged", "sluice log", cmp.Or(c.Culprit.Author, c.Domain))
	}
	if c.Culprit.Kind == "script" {
		add("who called the script", grepPosts(c.Began()), accessLog(root, c.Domain))
		add("what runs of its account", "ps -o pid,lstart,args -u", c.Culprit.Account)
	}
	return next
}

// grepPosts finds what was posted to a site in the first three minutes of an incident: that is
// how a script is told to send.
func grepPosts(from time.Time) string {
	var minutes []string
	for n := range 3 {
		minutes = append(minutes, from.Add(time.Duration(n)*time.Minute).Local().Format("02/Jan/2006:15:04"))
	}
	return fmt.Sprintf(`grep -E '(%s).*"POST '`, strings.Join(minutes, "|"))
}

// accessLog is where the web server's log of a domain is on this host; empty: it is not known.
func accessLog(root, domain string) string {
	if !sidecar.IsDomain(domain) {
		return ""
	}
	for _, dir := range []string{
		"etc/apache2/logs/domlogs/DOMAIN", "usr/local/apache/domlogs/DOMAIN", // cPanel
		"var/log/httpd/domains/DOMAIN.log",                 // DirectAdmin
		"var/www/vhosts/system/DOMAIN/logs/access_ssl_log", // Plesk
		"var/log/virtualmin/DOMAIN_access_log",             // Virtualmin
		"var/log/apache2/DOMAIN.log", "var/log/nginx/DOMAIN.log",
	} {
		path := root + strings.ReplaceAll(dir, "DOMAIN", domain)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() {
			return path
		}
	}
	return ""
}
