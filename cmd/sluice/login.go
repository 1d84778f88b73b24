package main

import (
	"errors"
	"fmt"

	"sluice/sidecar/action"
	"sluice/sidecar/login"
	"sluice/sidecar/remedy"
)

type loginCmd struct {
	State    loginStateCmd    `cmd:"" help:"Show whether somebody can log in to a mailbox."`
	Suspend  loginSuspendCmd  `cmd:"" help:"Let nobody log in to a mailbox, by SMTP, IMAP or POP3."`
	Resume   loginResumeCmd   `cmd:"" help:"Let its owner log in to a mailbox again."`
	Password loginPasswordCmd `cmd:"" help:"Give a mailbox a new password, and show it once."`
	Kick     loginKickCmd     `cmd:"" help:"End the sessions in which a mailbox is read."`
}

// loginArg is whose login is meant.
type loginArg struct {
	Login string `arg:"" predictor:"scope" help:"As it is typed to log in: hacked@example.com."`
	jsonFlag
}

// shownLogin is what the commands print with --json.
type shownLogin struct {
	Login    string      `json:"login"`
	Account  string      `json:"account,omitempty"`
	Adapter  string      `json:"adapter"`
	State    login.State `json:"state,omitempty"`
	Changed  bool        `json:"changed"`
	Action   int         `json:"action,omitempty"`
	Undo     string      `json:"undo,omitempty"`
	Password string      `json:"password,omitempty"`
	Left     string      `json:"left,omitempty"`
}

// loginHow is the part of the help that says how a login is suspended.
const loginHow = `

How depends on the host: cPanel's uapi, Dovecot, or a program of yours in
/etc/sluice/adapters; docs/logins.md has what each needs. Where there is more than one,
adapter = "dovecot" in the section [clean] of sluice.toml chooses. serve need not run.
The exit code is 1 where the panel refuses, cannot do it, or has no such login.`

// loginFields are the remarks about the fields of shownLogin.
const loginFields = "state is active or suspended. Without changed it was so before; left is what could not be done beside it."

type loginStateCmd struct{ loginArg }

// Help is the long help.
func (loginStateCmd) Help() string {
	return `Shows whether a login is active or suspended, and changes nothing.` + loginHow + `

Examples:
  sluice login state hacked@example.com` + jsonHelp(shownLogin{}, loginFields)
}

func (c loginStateCmd) Run(t *terminal) error {
	return c.with(t, "state", func(a login.Adapter, s *shownLogin) error { return c.show(t, a, s) })
}

// show finds out and prints the state.
func (c loginStateCmd) show(t *terminal, a login.Adapter, s *shownLogin) (err error) {
	s.State, err = a.State(t.ctx, s.login())
	switch {
	case err != nil:
		return err
	case s.State == login.Absent:
		return fmt.Errorf("%w (%s)", login.ErrAbsent, s.Adapter)
	case !c.JSON:
		printf(t.stdout, "%s is %s (%s)\n", s.Login, s.State, s.Adapter)
	}
	return nil
}

type loginSuspendCmd struct {
	loginArg
	Why    string `placeholder:"TEXT" help:"Kept on record."`
	DryRun bool   `help:"Only say what would be done."`
}

// Help is the long help.
func (loginSuspendCmd) Help() string {
	return `Nobody gets into the mailbox any more, whatever the password; sessions in which mail is read
are ended. It still receives mail. The password stays, so sluice undo gives the login back as
it was. A login that is suspended already stays as it is, and undo never resumes it.
A session in which mail is sent goes on until it ends: sluice stop refuses its mail.` + loginHow + `

Examples:
  sluice login suspend hacked@example.com --why "stolen password, ticket 4711"` + jsonHelp(shownLogin{}, loginFields)
}

func (c loginSuspendCmd) Run(t *terminal) error {
	return c.change(t, login.Suspended, action.Action{Why: c.Why}, c.DryRun)
}

type loginResumeCmd struct {
	loginArg
	Why    string `placeholder:"TEXT" help:"Kept on record."`
	DryRun bool   `help:"Only say what would be done."`
}

// Help is the long help.
func (loginResumeCmd) Help() string {
	return `The login works again, with the password that it had: have its owner choose another one
first. What sluice has suspended is better given back by sluice undo, which looks whether
somebody else has suspended it since.` + loginHow + `

Examples:
  sluice login resume hacked@example.com` + jsonHelp(shownLogin{}, loginFields)
}

func (c loginResumeCmd) Run(t *terminal) error {
	return c.change(t, login.Active, action.Action{Why: c.Why}, c.DryRun)
}

type loginPasswordCmd struct {
	loginArg
	Why string `placeholder:"TEXT" help:"Kept on record. The password is not."`
	Yes bool   `help:"Do not ask."`
}

// Help is the long help.
func (loginPasswordCmd) Help() string {
	return `Makes a password of 20 characters, sets it, and shows it once; it is kept nowhere. It cannot
be taken back, so it asks. Prefer sluice login suspend: a new password has to reach somebody
whose mailbox is in the hands of a thief. Dovecot cannot set passwords. cPanel's uapi takes
them only as an argument, which whoever may list the processes of this host can read for a moment.` + loginHow + `

Examples:
  sluice login password hacked@example.com` + jsonHelp(shownLogin{}, "")
}

func (c loginPasswordCmd) Run(t *terminal) error {
	return c.with(t, "password", func(a login.Adapter, s *shownLogin) error {
		if !c.Yes {
			if err := t.confirm(fmt.Sprintf("Set a new password for %s (%s)? That cannot be taken back.", s.Login, s.Adapter)); err != nil {
				return err
			}
		}
		return c.set(t, a, s)
	})
}

// set sets a new password, and shows it: what was set also where that could not be recorded, for it
// is kept nowhere.
func (c loginPasswordCmd) set(t *terminal, a login.Adapter, s *shownLogin) error {
	p, err := t.host().NewPassword(t.ctx, a, s.login(), action.Action{Why: c.Why})
	s.Action, s.Changed, s.Password, s.Left = p.Action, p.Password != "", p.Password, p.Left
	if s.Changed && !c.JSON {
		printf(t.stdout, "the new password of %s, which is shown only now: %s\n", s.Login, p.Password)
		t.warn(s.Left)
	}
	return err
}

type loginKickCmd struct{ loginArg }

// Help is the long help.
func (loginKickCmd) Help() string {
	return `Ends the sessions of IMAP and POP3 of a login. Who knows the password logs in again: suspend
it first, which does this too.` + loginHow + `

Examples:
  sluice login kick hacked@example.com` + jsonHelp(shownLogin{}, "")
}

func (c loginKickCmd) Run(t *terminal) error {
	return c.with(t, "kick", func(a login.Adapter, s *shownLogin) error {
		err := a.Kick(t.ctx, s.login())
		if err == nil && !c.JSON {
			printf(t.stdout, "the sessions of %s are ended\n", s.Login)
		}
		return err
	})
}

// with finds the adapter for a login, has do ask or change it, and prints JSON if that is wanted.
func (c loginArg) with(t *terminal, verb string, do func(login.Adapter, *shownLogin) error) error {
	if err := needRoot("login " + verb); err != nil {
		return err
	}
	a, l, err := t.host().FindLogin(t.ctx, c.Login)
	s := shownLogin{Login: l.Name, Account: l.Account}
	if err == nil {
		s.Adapter = a.Name()
		err = do(a, &s)
	}
	return c.end(t, verb, s, err)
}

// end prints JSON if that is wanted: of what was done with an error too.
func (c loginArg) end(t *terminal, verb string, s shownLogin, err error) error {
	if c.JSON && (err == nil || s.Changed) {
		err = errors.Join(err, printJSON(t.stdout, s))
	}
	switch {
	case errors.Is(err, login.ErrRefused), errors.Is(err, login.ErrNotSupported), errors.Is(err, login.ErrAbsent):
		return no{fmt.Errorf("login %s %s: %w", verb, s.Login, err)}
	case err != nil:
		return fmt.Errorf("login %s %s: %w", verb, s.Login, err)
	}
	return nil
}

func (s *shownLogin) login() login.Login { return login.Login{Name: s.Login, Account: s.Account} }

// change brings a login into a state, unless it is in it, and says how to take that back.
func (c loginArg) change(t *terminal, to login.State, a action.Action, dryRun bool) error {
	verb := map[login.State]string{login.Suspended: "suspend", login.Active: "resume"}[to]
	return c.with(t, verb, func(adapter login.Adapter, s *shownLogin) error {
		change := login.NewChange(adapter, s.login(), to)
		needed, err := change.Needed(t.ctx)
		if err != nil {
			return err
		}
		told := "is %s already, and stays so (%s)"
		switch {
		case needed && dryRun:
			told = "would be %s (%s)"
		case needed:
			node, err := t.node()
			if err != nil {
				return err
			}
			if s.Action, s.Left, err = t.host().ChangeLogin(t.ctx, change, a); err != nil {
				return err
			}
			s.Changed, s.Undo = true, remedy.UndoCommand(node, s.Action)
			told = "is %s (%s); to take it back: " + s.Undo
		}
		if !dryRun {
			s.State = to
		}
		if !c.JSON {
			printf(t.stdout, "the login %s "+told+"\n", s.Login, to, s.Adapter)
			t.warn(s.Left)
		}
		return nil
	})
}
