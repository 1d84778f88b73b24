package login

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"sluice/sidecar/printable"
)

// cPanel suspends logins by cPanel's own API for accounts, UAPI, on the command line (cPanel's
// documentation, UAPI, Email). Only the login is suspended, never outgoing mail: that makes what
// is already queued fail.
type cPanel struct {
	uapi    string // path of the program
	held    string // path of cPanel's list of whose outgoing mail is held
	holds   bool   // clean.hold_outgoing
	dovecot *dovecot
}

// maxList is how much a list of the mailboxes of an account may have, in bytes: a hundred thousand
// of them.
const maxList = 16 << 20

// Name implements Adapter.
func (cPanel) Name() string { return "cpanel" }

// accountName is what cPanel takes as the name of an account.
var accountName = regexp.MustCompile(`^[a-z0-9][a-z0-9_-]{0,31}$`)

// call calls a function of UAPI's module Email for the account of a login, and puts its data into
// into, unless that is nil.
func (c cPanel) call(ctx context.Context, l Login, into any, function string, values ...[2]string) error {
	if !accountName.MatchString(l.Account) {
		return fmt.Errorf("the account of cPanel that %s belongs to is not known (%q): identity.owners must be the file with the owner of each domain, /etc/userdomains", l.Name, l.Account)
	}
	args := []string{"--output=json", "--user=" + l.Account, "Email", function}
	for _, v := range values {
		args = append(args, v[0]+"="+percentEncoded(v[1]))
	}
	r, err := program{path: c.uapi, args: args, most: maxList}.run(ctx)
	if err != nil {
		return fmt.Errorf("cPanel's Email::%s: %w", function, err)
	}
	var answer struct {
		Result struct {
			Status json.Number     `json:"status"`
			Errors []string        `json:"errors"`
			Data   json.RawMessage `json:"data"`
		} `json:"result"`
	}
	if err := json.Unmarshal(r.out, &answer); err != nil {
		return fmt.Errorf("cPanel's Email::%s: no JSON (%w), exit code %d: %s", function, err, r.code, printable.Of(r.said))
	}
	if answer.Result.Status != "1" {
		return fmt.Errorf("cPanel's Email::%s: %w: %s", function, ErrRefused, printable.Of(strings.Join(answer.Result.Errors, "; ")))
	}
	if into == nil {
		return nil
	}
	if err := json.Unmarshal(answer.Result.Data, into); err != nil {
		return fmt.Errorf("cPanel's Email::%s: its data: %w", function, err)
	}
	return nil
}

// percentEncoded is a value as uapi takes it: all but letters, digits and @ . _ - as %XX.
func percentEncoded(value string) string {
	var b strings.Builder
	for i := range len(value) {
		c := value[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("@._-", c) >= 0 {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// State implements Adapter.
func (c cPanel) State(ctx context.Context, l Login) (State, error) {
	var all []struct {
		Email     string `json:"email"`
		Suspended any    `json:"suspended_login"` // 0 or 1, in some versions as a text
	}
	if err := c.call(ctx, l, &all, "list_pops"); err != nil {
		return "", err
	}
	for _, m := range all {
		if !strings.EqualFold(m.Email, l.Name) {
			continue
		}
		switch fmt.Sprint(m.Suspended) {
		case "0":
			return Active, nil
		case "1":
			return Suspended, nil
		}
		return "", fmt.Errorf("cPanel's Email::list_pops: whether %s is suspended is %q, which is neither 0 nor 1", l.Name, fmt.Sprint(m.Suspended))
	}
	return Absent, nil
}

// Suspend implements Adapter. cPanel ends the sessions of the login too.
func (c cPanel) Suspend(ctx context.Context, l Login) error {
	return c.change(ctx, l, "suspend_login", Suspended)
}

// Resume implements Adapter.
func (c cPanel) Resume(ctx context.Context, l Login) error {
	return c.change(ctx, l, "unsuspend_login", Active)
}

// change calls a function, and asks whether it has had its effect: cPanel answers "done" also
// where it had none.
func (c cPanel) change(ctx context.Context, l Login, function string, want State) error {
	if err := c.call(ctx, l, nil, function, [2]string{"email", l.Name}); err != nil {
		return err
	}
	return becomes(ctx, c, l, want)
}

// mayHold implements holder.
func (c cPanel) mayHold(_ context.Context, l Login) (bool, error) {
	if !c.holds {
		return false, nil
	}
	is, err := c.isHeld(l)
	return err == nil && !is, err
}

// isHeld reports whether cPanel holds what a login sends. Its list has a mailbox or an account a line.
func (c cPanel) isHeld(l Login) (bool, error) {
	text, err := os.ReadFile(c.held)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, err
	}
	for line := range strings.Lines(string(text)) {
		if strings.EqualFold(strings.TrimSpace(line), l.Name) {
			return true, nil
		}
	}
	return false, nil
}

// hold implements holder: Exim then keeps in its queue what the login sends. What somebody else has
// released meanwhile stays so.
func (c cPanel) hold(ctx context.Context, l Login, hold bool) error {
	is, err := c.isHeld(l)
	if err != nil || is == hold {
		return err
	}
	function := map[bool]string{true: "hold_outgoing", false: "release_outgoing"}[hold]
	if err := c.call(ctx, l, nil, function, [2]string{"email", l.Name}); err != nil {
		return err
	}
	if is, err = c.isHeld(l); err == nil && is != hold {
		err = fmt.Errorf("cPanel's Email::%s says that it is done, but %s does not", function, c.held)
	}
	return err
}

// released implements holder.
func (c cPanel) released(l Login) (by string) {
	if is, err := c.isHeld(l); err != nil || !is {
		return ""
	}
	return printable.Command("uapi --user="+l.Account+" Email release_outgoing", "email="+l.Name)
}

// SetPassword implements Adapter. uapi takes a password only as an argument, which others on this
// host can read while it runs.
func (c cPanel) SetPassword(ctx context.Context, l Login, password string) error {
	return c.call(ctx, l, nil, "passwd_pop", [2]string{"email", l.Name}, [2]string{"password", password})
}

// Kick implements Adapter, by cPanel's Dovecot.
func (c cPanel) Kick(ctx context.Context, l Login) error {
	if c.dovecot == nil {
		return errors.New("there is no doveadm to end sessions with; cPanel has ended those of a login that it suspends")
	}
	return c.dovecot.Kick(ctx, l)
}
