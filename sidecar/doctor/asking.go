package doctor

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io/fs"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"sluice/sidecar/config"
	"sluice/sidecar/exim"
	"sluice/sidecar/policyd"
)

// askNobody is a question that charges nobody and is no refusal: it has no recipient.
const askNobody = "${acl{acl_sluice_ask}{rcpt}}"

// checkAsking has Exim ask as its own user, all the way to the running sluice
// and back. If that fails, it finds out how far the question gets.
func (d *doctor) checkAsking() {
	reply, err := d.exim.Expand(d.ctx, d.exim.User, askNobody)
	switch {
	case err == nil && strings.HasPrefix(reply, "action="):
		d.ok("asking", "Exim asks as %s, and sluice answers", d.exim.User)
	case err != nil:
		d.wrong("asking", reinstall, "Exim cannot ask: %v", err)
	case d.running.err != nil:
		d.note("asking", "", "not tried: no sluice answers")
	default:
		if address, ok := d.exim.Macro(d.ctx, "SLUICE_TCP"); ok {
			d.checkTCP(address)
		} else {
			d.checkSocket()
		}
	}
}

// checkSocket finds out why Exim gets no answer on a unix socket.
func (d *doctor) checkSocket() {
	path, known := d.exim.Macro(d.ctx, "SLUICE_SOCKET")
	ours, err := config.UnixSocket(d.config.Listen.Policy)
	switch {
	case !known:
		d.wrong("asking", reinstall, "Exim's macros have no SLUICE_SOCKET: it does not ask")
		return
	case err != nil:
		d.wrong("asking", "Give listen.policy \"unix:"+path+"\".", "Exim asks at %s, and %v", path, err)
		return
	case path != ours && !sameFile(path, ours):
		d.wrong("asking", "Set SLUICE_SOCKET = "+ours+" in Exim's macros, or listen.policy.",
			"Exim asks at %s, and sluice listens at %s", path, ours)
		return
	}
	if err := d.askAs(d.exim.User, path); err != nil {
		d.wrong("asking", "Let "+d.exim.User+" reach the socket: its directories need x for all; if they have it, restart sluice, "+
			"which learns at its start who Exim's user is, and lets it connect.",
			"%s gets no answer at %s: %v", d.exim.User, path, err)
		return
	}
	if loaded, err := d.exim.Expand(d.ctx, d.exim.User, "${perl{Sluice::loaded}}"); err != nil || loaded != "yes" {
		d.wrong("asking", "Have the Perl file that perl_startup loads do sluice.pl, or run: sluice exim install.",
			"sluice answers at %s, but Exim's Perl has not loaded sluice.pl: perl_startup is %q", path, d.exim.Option(d.ctx, "perl_startup"))
		return
	}
	d.wrong("asking", "Look at the log of sluice.", "%s gets answers at %s, but Exim gets none", d.exim.User, path)
}

// checkSockets looks who may connect where mail servers ask, and whether it is known whose
// the programs on this host are that do it without AUTH.
func (d *doctor) checkSockets() {
	for _, l := range d.config.Listen.Policy {
		if l.Network() == "unix" {
			d.checkConnectors(l.Address())
		}
	}
	if s := d.running.status.Totals.Sockets; d.running.err == nil && s != "ok" {
		d.wrong("programs on this host", "Let the unit have AF_NETLINK (RestrictAddressFamilies=, see cmd/sluice/systemd/sluice.service), and restart sluice.",
			"those that send over SMTP without AUTH share one budget, that of the loopback: %s", s)
	}
}

// checkConnectors names who may connect to a socket.
func (d *doctor) checkConnectors(path string) {
	who, err := policyd.MayConnect(path)
	if errors.Is(err, fs.ErrNotExist) {
		return // see checkServe
	}
	names := []string{"root"}
	for _, uid := range who.Users {
		names = append(names, nameOf(uid))
	}
	groups := make([]string, len(who.Groups))
	for i, gid := range who.Groups {
		groups[i] = strconv.Itoa(gid)
		if g, err := user.LookupGroupId(groups[i]); err == nil {
			groups[i] = g.Name
		}
	}
	const do = "Restart sluice, which lets only root and the users of Exim and Postfix connect; if that does not help, put the socket into /run."
	switch {
	case err != nil:
		d.wrong("socket", "", "%v", err)
	case who.Everybody:
		d.wrong("socket", do, "everybody may connect to %s, and can keep Exim from an answer by connecting in a loop", path)
	case len(groups) > 0:
		d.wrong("socket", do, "whoever is in the group %s may connect to %s, and can keep Exim from an answer by connecting in a loop", strings.Join(groups, " or "), path)
	default:
		d.ok("socket", "%s: may connect to %s", strings.Join(names, ", "), path)
	}
}

// nameOf is the name of a user.
func nameOf(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// askAs runs `sluice check` as another user, to ask at a unix socket.
func (d *doctor) askAs(user, path string) error {
	question := base64.StdEncoding.EncodeToString([]byte("request=sluice\nstage=rcpt\n\n"))
	// Not by the path of the program: that user may not be able to reach it.
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
		d.wrong("asking", "Give listen.policy \"tcp:"+address+"\", or set SLUICE_TCP in Exim's macros.",
			"Exim asks at %s, where sluice does not listen", address)
		return
	}
	token, err := d.exim.Expand(d.ctx, d.exim.User, `${extract{1}{\n}{${readfile{SLUICE_TOKEN_FILE}}}}`)
	tokens, _ := policyd.ReadTokens(d.config.Listen.TokenFile)
	if err != nil || token == "" || strings.HasPrefix(token, "Failed") {
		d.wrong("asking", "chgrp to Exim's group and chmod 640 the file.", "%s cannot read the token file: %s %v", d.exim.User, token, err)
	} else if !slices.Contains(tokens, token) {
		d.wrong("asking", "Point SLUICE_TOKEN_FILE at "+d.config.Listen.TokenFile+", and restart sluice.", "the token that Exim sends is not in %s", d.config.Listen.TokenFile)
	} else {
		d.wrong("asking", "Restart sluice: it reads tokens when it starts. Else look at its log.", "Exim gets no answer at %s", address)
	}
}
