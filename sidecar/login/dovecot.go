package login

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
)

// DeniedFile has the logins that Dovecot denies, one a line. Dovecot has to be told of it: see
// Host.Dovecot.
const DeniedFile = "/etc/sluice/denied-logins"

// dovecot suspends logins by a passdb of Dovecot's that denies whoever is in it (Dovecot's
// documentation, "Password databases": deny). The extra field nologin would not do: it has IMAP
// and POP3 refuse a login, but Exim, which asks Dovecot whether a password is right, does not
// look at it.
type dovecot struct {
	doveadm, doveconf string // paths of the programs
	denied            denied
}

// settle is how long Dovecot may take to notice that the file has changed: it looks at most once
// in a second of the clock. A busy machine needs more.
const settle = 10 * time.Second

// Exit codes of doveadm (sysexits.h).
const (
	doveadmDone   = 0
	doveadmNoUser = 67
	doveadmNobody = 68 // kick: nobody is logged in
)

// Name implements Adapter.
func (d *dovecot) Name() string { return "dovecot" }

// admin runs doveadm. Its error is that doveadm did not end with one of the exit codes.
func (d *dovecot) admin(ctx context.Context, codes []int, args ...string) (result, error) {
	r, err := program{path: d.doveadm, args: args, most: maxAnswer}.run(ctx)
	if err != nil {
		return r, err
	}
	for _, code := range codes {
		if r.code == code {
			return r, nil
		}
	}
	return r, fmt.Errorf("doveadm %s: exit code %d: %s", strings.Join(args[:2], " "), r.code, r.said)
}

// State implements Adapter.
func (d *dovecot) State(ctx context.Context, l Login) (State, error) {
	name, err := dovecotName(l)
	if err != nil {
		return "", err
	}
	if is, err := d.denied.has(deniedLine(name)); err != nil || is {
		return Suspended, err
	}
	if knows, err := d.knows(ctx, name); err != nil || knows {
		return Active, err
	}
	return d.unknown(ctx, name)
}

// knows reports whether Dovecot finds a login among its passwords, and does not deny it.
func (d *dovecot) knows(ctx context.Context, name string) (bool, error) {
	r, err := d.admin(ctx, []int{doveadmDone, doveadmNoUser}, "auth", "lookup", "--", name)
	return err == nil && r.code == doveadmDone, err
}

// unknown is the state of a login that is not among the passwords that Dovecot can look up: it is
// denied, or checked elsewhere, as by PAM, or there is none.
func (d *dovecot) unknown(ctx context.Context, name string) (State, error) {
	if is, err := d.disabled(ctx, name); err != nil || is {
		return Suspended, err
	}
	r, err := d.admin(ctx, []int{doveadmDone, doveadmNoUser, 75}, "user", "--", name)
	if err != nil || r.code != doveadmDone {
		return Absent, err
	}
	return Active, nil
}

// disabled reports whether Dovecot refuses a login whatever the password is. Dovecot lets whoever
// fails wait for two seconds.
func (d *dovecot) disabled(ctx context.Context, name string) (bool, error) {
	r, err := d.admin(ctx, []int{doveadmDone, 77}, "auth", "test", "--", name, NewPassword())
	return strings.Contains(string(r.out), "code=user_disabled"), err
}

// Suspend implements Adapter.
func (d *dovecot) Suspend(ctx context.Context, l Login) error {
	name, err := dovecotName(l)
	if err == nil {
		err = d.ready(ctx)
	}
	if err != nil {
		return err
	}
	known, err := d.knows(ctx, name)
	if err != nil {
		return err
	}
	if err := d.write(ctx, name, d.denied.add); err != nil {
		return err
	}
	return d.await(ctx, "Dovecot still lets "+name+" log in", func() (bool, error) {
		if known { // the quick way
			knows, err := d.knows(ctx, name)
			return !knows, err
		}
		return d.disabled(ctx, name)
	})
}

// Resume implements Adapter.
func (d *dovecot) Resume(ctx context.Context, l Login) error {
	name, err := dovecotName(l)
	if err == nil {
		err = d.write(ctx, name, d.denied.remove)
	}
	if err != nil {
		return err
	}
	return d.await(ctx, "Dovecot still denies "+name+", though it is not in "+DeniedFile, func() (bool, error) {
		if knows, err := d.knows(ctx, name); err != nil || knows {
			return knows, err
		}
		is, err := d.disabled(ctx, name)
		return !is, err
	})
}

// write changes the file, and has Dovecot forget what it knows of the login.
func (d *dovecot) write(ctx context.Context, name string, change func(name, reader string) error) error {
	user, err := d.authUser(ctx)
	if err != nil {
		return err
	}
	if err := change(deniedLine(name), user); err != nil {
		return err
	}
	_, err = d.admin(ctx, []int{doveadmDone}, "auth", "cache", "flush", "--", name)
	return err
}

// await waits until something is so.
func (d *dovecot) await(ctx context.Context, otherwise string, is func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, settle)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if ok, err := is(); err != nil || ok {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s after %v: has it been reloaded since its configuration has the lines? (doveadm reload)", otherwise, settle)
		case <-tick.C:
		}
	}
}

// authUser is the login as which Dovecot reads its passwords.
func (d *dovecot) authUser(ctx context.Context) (string, error) {
	for _, key := range []string{"service/auth/user", "default_internal_user"} {
		r, err := program{path: d.doveconf, args: []string{"-h", key}, most: maxAnswer}.run(ctx)
		if err != nil {
			return "", err
		}
		if user := firstLine(r.out); r.code == 0 && user != "" && user[0] != '$' {
			return user, nil
		}
	}
	return "", errors.New("doveconf does not tell as whom Dovecot reads passwords (default_internal_user)")
}

// SetPassword implements Adapter.
func (d *dovecot) SetPassword(context.Context, Login, string) error {
	return WithoutPasswords(d)
}

// Kick implements Adapter.
func (d *dovecot) Kick(ctx context.Context, l Login) error {
	name, err := dovecotName(l)
	if err == nil && strings.ContainsAny(name, "*?") {
		err = fmt.Errorf("end the sessions of %s: doveadm kick would take the name for a pattern", name)
	}
	if err == nil {
		_, err = d.admin(ctx, []int{doveadmDone, doveadmNobody}, "kick", "--", name)
	}
	return err
}

// dovecotName is a login as Dovecot looks it up: in lower case.
func dovecotName(l Login) (string, error) {
	name := strings.ToLower(l.Name)
	odd := strings.ContainsFunc(name, func(r rune) bool { return r == ':' || r == unicode.ReplacementChar || !unicode.IsPrint(r) })
	if name == "" || odd || name[0] == '#' || strings.TrimSpace(name) != name || len(name) > 254 {
		return "", fmt.Errorf("%q is no login that Dovecot could have in a file of logins", l.Name)
	}
	return name, nil
}

// deniedLine is a login as Dovecot looks for it in a file: quotes and backslashes behind a backslash.
func deniedLine(name string) string {
	return strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(name)
}

var (
	passdbBegin = regexp.MustCompile(`^passdb( \S+)? \{$`)
	denyYes     = regexp.MustCompile(`(?m)^\s*(passdb_)?deny = yes$`)
)

// ready is an error unless Dovecot's configuration has the passdb that denies, before all others.
func (d *dovecot) ready(ctx context.Context) error {
	conf, err := d.conf(ctx)
	if err != nil {
		return err
	}
	for i, block := range passdbs(conf) {
		if !strings.Contains(block, DeniedFile+"\n") || !denyYes.MatchString(block) {
			continue
		}
		if i > 0 {
			return fmt.Errorf("Dovecot's passdb that denies the logins in %s is behind another one, which lets them in: put it first", DeniedFile)
		}
		return nil
	}
	return fmt.Errorf("Dovecot's configuration does not have the passdb that denies the logins in %s: sluice doctor shows the lines", DeniedFile)
}

// conf is Dovecot's configuration, as it is where it is not as built in.
func (d *dovecot) conf(ctx context.Context) (string, error) {
	r, err := program{path: d.doveconf, args: []string{"-n"}, most: 1 << 20}.run(ctx)
	if err == nil && r.code != 0 {
		err = fmt.Errorf("doveconf -n: exit code %d: %s", r.code, r.said)
	}
	return string(r.out), err
}

// passdbs are the blocks of the passdbs in what doveconf prints, in their order.
func passdbs(conf string) (blocks []string) {
	within := false
	for line := range strings.Lines(conf) {
		switch {
		case passdbBegin.MatchString(strings.TrimSuffix(line, "\n")):
			within = true
			blocks = append(blocks, "")
		case line == "}\n":
			within = false
		case within:
			blocks[len(blocks)-1] += line
		}
	}
	return blocks
}

// lines are what Dovecot's configuration needs, and how to put it in.
func (d *dovecot) lines(ctx context.Context) string {
	user, err := d.authUser(ctx)
	if err != nil {
		user = "dovecot"
	}
	begin, path := "passdb {", "args = username_format=%Lu "+DeniedFile
	if conf, err := d.conf(ctx); err == nil && newDovecot.MatchString(conf) {
		begin, path = "passdb denied-logins {", "passwd_file_path = "+DeniedFile
	}
	return "Make the file first: with these lines and without it nobody can log in.\n" +
		"  install -m 0640 -g " + user + " /dev/null " + DeniedFile + "\n" +
		"Put this before every other passdb (Debian: into /etc/dovecot/conf.d/05-sluice.conf), then: doveadm reload\n" +
		"  " + begin + "\n    driver = passwd-file\n    deny = yes\n    " + path + "\n  }"
}

// newDovecot matches the first line of configurations of the versions from which on settings have
// other names: "# 2.4.1-4 (7d8c0e5759): /etc/dovecot/dovecot.conf".
var newDovecot = regexp.MustCompile(`^# (2\.([4-9]|\d\d)|[3-9])`)
