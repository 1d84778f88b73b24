package panel

import (
	"path/filepath"
	"strings"

	"sluice/sidecar/typed"
)

// These are the files of DirectAdmin. A limit is per day, 0 is unlimited, and its file has
// nothing but the number.
const (
	daOwners       = "/etc/virtual/domainowners"
	daLimit        = "/etc/virtual/limit"      // of each account
	daUserLimits   = "/etc/virtual/limit_*"    // of one account
	daMailboxLimit = "/etc/virtual/user_limit" // of each mailbox
	daMailboxes    = "/etc/virtual/*/passwd"   // the mailboxes of a domain
	daSingleLimits = "/etc/virtual/*/limit/*"  // of one mailbox
	daDomains      = "/etc/virtual/domains"    // what Exim delivers itself
	unknownUser    = "unknown"                 // limit_unknown is for no particular account
	daUserPrefix   = "limit_"
)

// number yields the first line, where a file has only a number.
func (t text) number(yield func(place, value string) bool) {
	for place, line := range t.lines {
		yield(place, line)
		return
	}
}

// readDirectAdmin reads all of DirectAdmin's files.
func (r *parser) readDirectAdmin(files map[string][]text) {
	for _, t := range files[daLimit] {
		for place, value := range t.number {
			for owner := range r.owners {
				r.set(place, account(owner), "daily", value)
			}
		}
	}
	for _, t := range files[daUserLimits] {
		if user := strings.TrimPrefix(t.base(), daUserPrefix); user != unknownUser {
			for place, value := range t.number {
				r.set(place, account(user), "daily", value)
			}
		}
	}
	for _, limit := range files[daMailboxLimit] {
		for place, value := range limit.number {
			for _, t := range files[daMailboxes] {
				r.eachMailbox(place, t, value)
			}
		}
	}
	for _, t := range files[daSingleLimits] {
		domain := filepath.Base(filepath.Dir(filepath.Dir(t.path)))
		for place, value := range t.number {
			r.mailbox(place, t.base()+"@"+domain, value)
		}
	}
}

// eachMailbox limits each mailbox of a domain's passwd, "user:hash:...".
func (r *parser) eachMailbox(place string, passwd text, value string) {
	domain := filepath.Base(filepath.Dir(passwd.path))
	for _, line := range passwd.lines {
		user, _, _ := strings.Cut(line, ":")
		r.mailbox(place, user+"@"+domain, value)
	}
}

func (r *parser) mailbox(place, name, value string) {
	scope, err := typed.Scope(name)
	if err != nil {
		r.warn(place, "%v", err)
		return
	}
	r.set(place, scope, "daily", value)
}
