package sidecar

import (
	"crypto/sha256"
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// An Author is who sends: of all who send at the expense of one Payer, the one whose mail it
// is. The envelope sender and the From header, which anybody can choose, are no part of it.
type Author struct {
	// Key names the author: a mailbox by its address, all others by one of the prefixes below.
	// It is printable ASCII. Empty: nobody who is known here, as of mail from elsewhere.
	Key     string
	Proof   Proof
	Account string // the account that the author belongs to; empty if unknown
	Login   string // of a script: the key of the login that runs it, which may do so in any directory
}

// Clone copies the strings, so that the request they are parts of can be freed.
func (a Author) Clone() Author {
	a.Key, a.Account, a.Login = strings.Clone(a.Key), strings.Clone(a.Account), strings.Clone(a.Login)
	return a
}

// Keys of authors that are not a mailbox begin with one of these; or they are Loopback, or
// begin with ServicePrefix or ForwardPrefix like the subject, of the redirecting address.
const (
	LoginPrefix  = "login:"  // who ran sendmail, or owns the other end of a local connection
	ScriptPrefix = "script:" // the directory in which sendmail was run
	ClientPrefix = "client:" // a client for which the mail server relays: address, or network for IPv6
)

// Blamed is an author that Sluice itself has stopped in place of a subject, of whose mail too
// much was deferred or failed.
type Blamed struct {
	Key, Subject string
	Node         string // that has stopped it
	Since        time.Time
}

// A Proof is how certain it is that an Author is who the key says.
type Proof uint8

// The proofs.
const (
	Unproven Proof = iota // nobody in particular: a web server's login, the loopback
	Claimed               // by the program that sends, as its directory: it may lie
	Proven                // by a password, by the kernel, or by our own router
)

// String is the word for a proof in JSON and on the screen.
func (p Proof) String() string { return [...]string{"none", "claimed", "proven"}[p] }

const (
	MaxAuthorKey = 200 // bytes of an author's key
	maxKeyDomain = 120 // of those, of a mailbox's @ and domain where the key is cut
)

// Kind is what an author is: mailbox, script, login, forward, client, service or loopback.
func (a Author) Kind() string {
	for _, prefix := range [...]string{ScriptPrefix, LoginPrefix, ForwardPrefix, ClientPrefix, ServicePrefix} {
		if strings.HasPrefix(a.Key, prefix) {
			return prefix[:len(prefix)-1]
		}
	}
	if a.Key == Loopback {
		return Loopback
	}
	return "mailbox"
}

// CanBeCleaned reports whether sluice clean does anything about authors of a kind: what a forward or a
// client sends is not of this host, and a service or the loopback is everybody.
func CanBeCleaned(kind string) bool { return kind == "mailbox" || kind == "script" || kind == "login" }

// IsAuthor reports whether a scope names an author that is no payer too.
func IsAuthor(scope string) bool {
	for _, prefix := range [...]string{LoginPrefix, ScriptPrefix, ClientPrefix} {
		if strings.HasPrefix(scope, prefix) {
			return true
		}
	}
	return IsMailbox(scope) // one that forwards, too
}

// AuthorKey is the key of an author of a kind, of which the name is as its sender, script or
// tenant has chosen it. Bytes that are not printable ASCII are written \xNN, and so is the
// backslash; a long one is cut, and has a hash of the whole in place of what is left out. So
// different names have different keys.
func AuthorKey(prefix, name string) string {
	odd := func(b byte) bool { return b < ' ' || b > '~' || b == '\\' }
	n := 0
	for n < len(name) && !odd(name[n]) {
		n++
	}
	if n == len(name) && len(prefix)+n <= MaxAuthorKey { // nearly always
		return prefix + name
	}
	var b strings.Builder
	b.WriteString(prefix)
	for i := range len(name) {
		if odd(name[i]) {
			fmt.Fprintf(&b, `\x%02x`, name[i])
		} else {
			b.WriteByte(name[i])
		}
	}
	key := b.String()
	if len(key) <= MaxAuthorKey {
		return key
	}
	hash, end := sha256.Sum256([]byte(key)), ""
	if at := strings.LastIndexByte(key, '@'); at >= 0 && prefix != ScriptPrefix {
		end = key[max(at, len(key)-maxKeyDomain):] // or a long mailbox could begin like one of another domain
	}
	return fmt.Sprintf("%s~%x%s", key[:MaxAuthorKey-17-len(end)], hash[:8], end)
}

// PlainAddress is an address without what matters only to the socket that it was read from:
// the zone of an interface, and that IPv6 brought an address of IPv4.
func PlainAddress(ip netip.Addr) netip.Addr { return ip.Unmap().WithZone("") }

// NetworkOf names the network of a client: of IPv4 its address, of IPv6 the /64, for a host
// there has as many addresses as it likes.
func NetworkOf(client netip.Addr) string {
	client = PlainAddress(client)
	if client.Is4() {
		return client.String()
	}
	network, _ := client.Prefix(64) // 64 is no more than the address has
	return network.String()
}
