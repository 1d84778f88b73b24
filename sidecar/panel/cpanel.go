package panel

import (
	"regexp"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/typed"
)

// These are the files of cPanel and WHM. What Follower.parse reads later wins:
// /etc/email_send_limits is compiled from the others, and may be older than they are.
const (
	cpanelConfig    = "/var/cpanel/cpanel.config"
	cpanelUsers     = "/var/cpanel/users/*"
	cpanelLimits    = "/etc/email_send_limits"
	cpanelOwners    = "/etc/userdomains"
	cpanelHold      = "/etc/outgoing_mail_hold_users"
	cpanelSuspended = "/etc/outgoing_mail_suspended_users"
	cpanelContacts  = "/etc/wwwacct.conf"
)

// unlimited turns a limit of cPanel's into one of ours: what means no limit becomes 0.
func unlimited(value string) string {
	switch strings.ToLower(value) {
	case "", "unlimited":
		return "0"
	}
	return value
}

// readConfig reads cpanel.config, "key=value". A key that is missing is left to
// sluice.toml; an empty value means what WHM shows for it: unlimited, or off.
func (r *parser) readConfig(t text) {
	mailman := true
	for place, line := range t.lines {
		key, value, _ := strings.Cut(line, "=")
		switch key, value = strings.TrimSpace(key), strings.TrimSpace(value); key {
		case "maxemailsperhour":
			r.set(place, sidecar.DefaultScope, "hourly", unlimited(value))
		case "email_send_limits_max_defer_fail_percentage":
			r.set(place, sidecar.DefaultScope, "deferfail_percent", unlimited(value))
		case "email_send_limits_min_defer_fail_to_trigger_protection":
			r.set(place, sidecar.DefaultScope, "deferfail_min", value)
		case "email_send_limits_defer_cutoff":
			r.set(place, sidecar.DefaultScope, "defer_cutoff", value)
		case "email_send_limits_count_mailman":
			if value != "0" && value != "1" && value != "" {
				r.warn(place, "%s is %q, it must be 0 or 1", key, value)
			}
			mailman = value != "1"
		}
	}
	if mailman {
		// "mailman" is the user that cPanel's mailing lists send as.
		r.ExemptLogins = append(r.ExemptLogins, "mailman")
	}
}

// readLimits reads /etc/email_send_limits, "domain: MAXHOUR,PERCENT,MIN" with "*" for all
// others. An empty field is left to lower layers.
func (r *parser) readLimits(t text) {
	for place, line := range t.lines {
		name, fields, found := strings.Cut(line, ":")
		values := strings.Split(fields, ",")
		if !found || len(values) != 3 {
			r.warn(place, "%q is not \"domain: MAXHOUR,PERCENT,MIN\"", line)
			continue
		}
		scope, ok := sidecar.DefaultScope, true
		if name = strings.TrimSpace(name); name != "*" {
			scope, ok = r.domain(place, name)
		}
		for i, key := range []string{"hourly", "deferfail_percent", "deferfail_min"} {
			if value := strings.TrimSpace(values[i]); ok && value != "" {
				r.set(place, scope, key, unlimited(value))
			}
		}
	}
}

// userName matches the names that cPanel allows for accounts: other files in its directory
// are locks and backups.
var userName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]*$`)

// readUser reads /var/cpanel/users/USER. As in cPanel, what is set for the user applies to
// each domain of the user that has no value of its own.
func (r *parser) readUser(t text) {
	user := t.base()
	if !userName.MatchString(user) || user == "system" {
		return
	}
	own := &cpanelUser{parser: r, scope: account(user), domains: r.owners[user]}
	for place, line := range t.lines {
		key, value, found := strings.Cut(line, "=")
		if !found {
			r.warn(place, "%q is not \"KEY=VALUE\"", line)
			continue
		}
		own.read(place, strings.TrimSpace(key), strings.TrimSpace(value))
	}
	for _, set := range own.last {
		set()
	}
}

// A cpanelUser is the file of one user while it is read.
type cpanelUser struct {
	*parser
	scope   string
	domains []string
	last    []func() // settings for single domains win, wherever in the file they are
}

func (u *cpanelUser) read(place, key, value string) {
	name, domain, single := strings.Cut(key, "-")
	fallsThrough := value == "" || strings.EqualFold(value, "default")
	switch {
	case name == "MAX_EMAIL_PER_HOUR" && !fallsThrough && single:
		u.forDomain(place, domain, "hourly", value)
	case name == "MAX_EMAIL_PER_HOUR" && !fallsThrough:
		for _, d := range u.domains {
			u.set(place, d, "hourly", unlimited(value))
		}
	case name == "MAX_DEFER_FAIL_PERCENTAGE" && !fallsThrough && single:
		u.forDomain(place, domain, "deferfail_percent", value)
	case name == "MAX_DEFER_FAIL_PERCENTAGE" && !fallsThrough:
		for _, d := range u.domains { // wins over what was compiled for the domain
			u.set(place, d, "deferfail_percent", unlimited(value))
		}
	case name == "OUTGOING_MAIL_SUSPENDED" && value == "1":
		u.block(place, u.scope, true)
	case name == "OUTGOING_MAIL_HOLD" && value == "1":
		u.block(place, u.scope, false)
	}
}

func (u *cpanelUser) forDomain(place, name, key, value string) {
	if d, ok := u.domain(place, name); ok {
		u.last = append(u.last, func() { u.set(place, d, key, unlimited(value)) })
	}
}

// readBlocked reads a list of accounts and mailboxes, one per line.
func (r *parser) readBlocked(t text, suspended bool) {
	for place, line := range t.lines {
		switch scope, err := typed.Scope(line); {
		case err == nil && strings.Contains(line, "@"):
			r.block(place, scope, suspended)
		case userName.MatchString(line):
			r.block(place, account(line), suspended)
		default:
			r.warn(place, "%q is neither an account nor a mailbox", line)
		}
	}
}
