package login

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"sluice/sidecar"
)

// A Login is what somebody logs in to a mailbox with.
type Login struct {
	Name    string `json:"login"`             // as it is typed: "hacked@example.com"
	Account string `json:"account,omitempty"` // of the panel, which the mailbox belongs to; empty if unknown
}

// A State is whether somebody can log in.
type State string

// The states.
const (
	Active    State = "active"
	Suspended State = "suspended"
	Absent    State = "absent" // there is no such login
)

// An Adapter is a way in which logins are suspended. Errors say which program said what.
type Adapter interface {
	// Name is by what clean.adapter names it.
	Name() string
	State(ctx context.Context, l Login) (State, error)
	// Suspend has every later attempt to log in refused. When it returns that is so.
	Suspend(ctx context.Context, l Login) error
	Resume(ctx context.Context, l Login) error
	SetPassword(ctx context.Context, l Login, password string) error
	// Kick ends the sessions in which mail is read. Those in which it is sent are not its: the mail
	// server asks for each message whether its author is stopped.
	Kick(ctx context.Context, l Login) error
}

// Errors of adapters.
var (
	ErrRefused      = errors.New("refused")
	ErrNotSupported = errors.New("not supported")
	ErrAbsent       = errors.New("there is no such login")
)

// WithoutPasswords is why an adapter can set no passwords; nil where it can, or that is known only
// when it is tried.
func WithoutPasswords(a Adapter) error {
	if _, is := a.(*dovecot); is {
		return fmt.Errorf("%w: Dovecot only reads passwords; change it where they are kept", ErrNotSupported)
	}
	return nil
}

// OfAuthor is the name with which the author of a key logs in. ok is false if there is none:
// for authors that are no mailbox, and for keys that stand for a name that cannot be told from
// them, as it is long or has odd bytes.
func OfAuthor(key string) (name string, ok bool) {
	const cut = 200 // bytes; so long a key is cut, see sidecar.AuthorKey
	a := sidecar.Author{Key: key}
	return key, a.Kind() == "mailbox" && sidecar.IsMailbox(key) && len(key) < cut && !strings.Contains(key, `\`)
}

// passwordSet has no characters that are taken for each other when they are read out.
const passwordSet = "ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnpqrstuvwxyz23456789"

// NewPassword makes a password of 20 characters, with a capital, a small letter and a digit, as
// panels want them. It has some 115 bits that nobody can guess.
func NewPassword() string {
	for {
		var b strings.Builder
		for b.Len() < 20 {
			var one [1]byte
			rand.Read(one[:])
			if n := int(one[0]); n < 256/len(passwordSet)*len(passwordSet) { // all equally often
				b.WriteByte(passwordSet[n%len(passwordSet)])
			}
		}
		text := b.String()
		if strings.ContainsAny(text, passwordSet[:24]) && strings.ContainsAny(text, passwordSet[24:48]) && strings.ContainsAny(text, passwordSet[48:]) {
			return text
		}
	}
}

// becomes asks an adapter whether a login is in a state, and is an error if
// it is not.
func becomes(ctx context.Context, a Adapter, l Login, want State) error {
	got, err := a.State(ctx, l)
	if err != nil {
		return fmt.Errorf("look whether %s is %s: %w", l.Name, want, err)
	}
	if got != want {
		return fmt.Errorf("%s says that it is done, but %s is %s", a.Name(), l.Name, got)
	}
	return nil
}
