package doctor

import (
	"errors"
	"strings"

	"sluice/sidecar/login"
)

// checkLogins says how the login of a stolen mailbox would be suspended. Nothing is said where
// there are neither mailboxes nor a panel.
func (d *doctor) checkLogins() {
	const check = "logins"
	h := login.Host{Root: d.Root, Chosen: d.config.Clean.Adapter}
	for _, doubt := range h.Doubts() {
		d.wrong("adapters", "Have it and every directory above it be root's, and writable by nobody else; or remove it.", "%v", doubt)
	}
	lines, why := h.Dovecot(d.ctx)
	a, err := h.Adapter(d.ctx)
	switch {
	case err == nil:
		d.ok(check, "sluice login suspends them by %s", a.Name())
		if a.Name() == "dovecot" && d.hasExim {
			d.checkAuthenticators()
		}
	case lines != "" && (h.Chosen == "" || h.Chosen == "dovecot"):
		d.note(check, lines, "the login of a stolen mailbox cannot be suspended: %v", why)
	case h.Chosen != "" || !errors.Is(err, login.ErrNone):
		d.note(check, "", "the login of a stolen mailbox cannot be suspended: %v", err)
	}
}

// checkAuthenticators looks whether Exim asks Dovecot who may log in: otherwise who is suspended
// there goes on sending.
func (d *doctor) checkAuthenticators() {
	others, err := d.exim.OwnAuthenticators(d.ctx)
	if err == nil && len(others) > 0 {
		d.note("authenticators", "Have them ask Dovecot (driver = dovecot), or whatever they ask know of "+login.DeniedFile+".",
			"who is suspended in Dovecot may still log in to Exim, by what does not ask Dovecot: %s", strings.Join(others, ", "))
	}
}
