package main

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"

	"sluice/sidecar/exim"
	"sluice/sidecar/policyd"
)

// What doctor finds out by asking Exim itself.

// eximUses are Exim's options and the ACL of ours that each has to ask first.
var eximUses = []struct{ option, ours string }{
	{"acl_smtp_rcpt", "acl_sluice_rcpt"},
	{"acl_smtp_data", "acl_sluice_data"},
	{"acl_not_smtp", "acl_sluice_not_smtp"},
}

const reinstall = "Run exim-config/install and have Exim reload; it names the line of yours that is in the way."

// checkEximIs tells whether there is an Exim that loads its configuration.
func (d *doctor) checkEximIs() bool {
	if _, err := os.Stat(d.exim.Binary); err != nil {
		if _, none := exec.LookPath("postconf"); none == nil {
			d.add("Exim", notable, "", "%s is not installed; Postfix is, and its configuration is not looked at", d.exim.Binary)
		} else {
			d.add("Exim", wrong, "Install Exim, or set exim.binary.", "%v", err)
		}
		return false
	}
	said, err := d.exim.Run(d.ctx, "", "-bV")
	if err != nil {
		d.add("Exim", wrong, "Mend Exim's configuration.", "%s does not load its configuration: %v", d.exim.Binary, err)
		return false
	}
	version, _, _ := strings.Cut(said, " #")
	d.add("Exim", healthy, "", "%s, %s, its user is %s", d.exim.Binary, version, d.exim.User)
	return true
}

// checkWiring looks whether Exim's ACLs and routers are ours.
func (d *doctor) checkWiring() {
	text, err := d.exim.Run(d.ctx, "", "-bP", "config")
	if err != nil {
		d.add("ACLs", wrong, "", "Exim does not show its configuration: %v", err)
		return
	}
	var missing []string
	for _, use := range eximUses {
		if acl, asks := d.exim.AsksFirst(d.ctx, text, use.option, use.ours); !asks {
			missing = append(missing, fmt.Sprintf("%s is %q, which does not ask %s first", use.option, acl, use.ours))
		}
	}
	if len(missing) > 0 {
		d.add("ACLs", wrong, reinstall, "%s", strings.Join(missing, "; "))
	} else {
		d.add("ACLs", healthy, "", "acl_smtp_rcpt, acl_smtp_data and acl_not_smtp ask Sluice first")
	}
	routers, err := d.exim.Run(d.ctx, "", "-bP", "router_list")
	first := strings.Fields(routers)
	first = first[:min(2, len(first))]
	if err != nil || !slices.Equal(first, []string{"sluice", "sluice_hold"}) {
		d.add("routers", wrong, reinstall, "the first routers are %q, but sluice and sluice_hold must come first: what others route is not charged or held", first)
	} else {
		d.add("routers", healthy, "", "sluice and sluice_hold come first")
	}
}

// askNobody is a question that charges nobody and is no refusal: it has no recipient.
const askNobody = "${acl{acl_sluice_ask}{rcpt}}"

// checkAsking has Exim ask as its own user, all the way to the running sluice
// and back. Where that fails it looks where the way ends.
func (d *doctor) checkAsking() {
	said, err := d.exim.Expand(d.ctx, d.exim.User, askNobody)
	switch {
	case err == nil && strings.HasPrefix(said, "action="):
		d.add("asking", healthy, "", "Exim asks as %s, and sluice answers", d.exim.User)
		return
	case err != nil:
		d.add("asking", wrong, reinstall, "Exim cannot ask: %v", err)
		return
	case d.running.err != nil:
		d.add("asking", notable, "", "not tried: no sluice answers")
		return
	}
	if tcp, ok := d.exim.Macro(d.ctx, "SLUICE_TCP"); ok {
		d.checkTCP(tcp)
		return
	}
	d.checkSocket()
}

// checkSocket finds out why Exim gets no answer on a unix socket.
func (d *doctor) checkSocket() {
	path, known := d.exim.Macro(d.ctx, "SLUICE_SOCKET")
	ours, err := unixSocket(d.config.Listen.Policy)
	switch {
	case !known:
		d.add("asking", wrong, reinstall, "Exim's macros have no SLUICE_SOCKET: it does not ask")
		return
	case err != nil:
		d.add("asking", wrong, "Give listen.policy \"unix:"+path+"\".", "Exim asks at %s, and %v", path, err)
		return
	case path != ours && !sameFile(path, ours):
		d.add("asking", wrong, "Set SLUICE_SOCKET = "+ours+" in Exim's macros, or listen.policy.",
			"Exim asks at %s, and sluice listens at %s", path, ours)
		return
	}
	if err := d.askAs(d.exim.User, path); err != nil {
		d.add("asking", wrong, "Let "+d.exim.User+" reach the socket: its directories need x for all, the socket rw for all "+
			"(who may ask is told by the user, not by modes); if it does, restart sluice, which learns at its start who Exim's user is.",
			"%s gets no answer at %s: %v", d.exim.User, path, err)
		return
	}
	if said, err := d.exim.Expand(d.ctx, d.exim.User, "${perl{Sluice::loaded}}"); err != nil || said != "yes" {
		d.add("asking", wrong, "Have the Perl file that perl_startup loads do sluice.pl, see exim-config/install.",
			"sluice answers at %s, but Exim's Perl has not loaded sluice.pl: perl_startup is %q", path, d.exim.Option(d.ctx, "perl_startup"))
		return
	}
	d.add("asking", wrong, "Look at the log of sluice.", "%s gets answers at %s, but Exim gets none", d.exim.User, path)
}

// askAs asks at a unix socket as another user.
func (d *doctor) askAs(user, path string) error {
	question := base64.StdEncoding.EncodeToString([]byte("request=sluice\nstage=rcpt\n\n"))
	// Not by the path of the program: that user may not get there.
	c := exec.CommandContext(d.ctx, "/proc/self/exe", "check", "--socket", path, "--base64", question)
	c.Env, c.Dir = []string{}, "/"
	attr, err := exim.AsUser(user)
	if err != nil {
		return err
	}
	c.SysProcAttr = attr
	if out, err := c.CombinedOutput(); err != nil {
		first, _, _ := strings.Cut(string(bytes.TrimSpace(out)), "\n")
		return errors.New(strings.TrimPrefix(first, "sluice: check: "))
	}
	return nil
}

// checkTCP finds out why Exim gets no answer over TCP.
func (d *doctor) checkTCP(address string) {
	listens := false
	for _, l := range d.config.Listen.Policy {
		listens = listens || l.Network() == "tcp" && l.Address() == address
	}
	if !listens {
		d.add("asking", wrong, "Give listen.policy \"tcp:"+address+"\", or set SLUICE_TCP in Exim's macros.",
			"Exim asks at %s, where sluice does not listen", address)
		return
	}
	token, err := d.exim.Expand(d.ctx, d.exim.User, `${extract{1}{\n}{${readfile{SLUICE_TOKEN_FILE}}}}`)
	tokens, _ := policyd.ReadTokens(d.config.Listen.TokenFile)
	if err != nil || token == "" || strings.HasPrefix(token, "Failed") {
		d.add("asking", wrong, "chgrp to Exim's group and chmod 640 the file.", "%s cannot read the token file: %s %v", d.exim.User, token, err)
	} else if !slices.Contains(tokens, token) {
		d.add("asking", wrong, "Point SLUICE_TOKEN_FILE at "+d.config.Listen.TokenFile+", and restart sluice.", "the token that Exim sends is not in %s", d.config.Listen.TokenFile)
	} else {
		d.add("asking", wrong, "Restart sluice: it reads tokens when it starts. Else look at its log.", "Exim gets no answer at %s", address)
	}
}

// checkTransports looks whether the transports that speak SMTP count as remote.
func (d *doctor) checkTransports() {
	names, err := d.exim.SMTPTransports(d.ctx)
	if err != nil {
		d.add("transports", wrong, "", "Exim does not list its transports: %v", err)
		return
	}
	missed := slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return slices.ContainsFunc(d.config.Exim.RemoteTransports, func(glob string) bool {
			is, _ := path.Match(glob, name)
			return is
		})
	})
	if len(missed) > 0 {
		d.add("transports", wrong, "Add them to exim.remote_transports, unless they deliver to this host's own mailboxes.",
			"what becomes of mail sent by %s is not counted: exim.remote_transports is %q", strings.Join(missed, ", "), d.config.Exim.RemoteTransports)
		return
	}
	d.add("transports", healthy, "", "all %d that speak SMTP count as remote", len(names))
}
