package clean

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/incident"
	"sluice/sidecar/limit"
	"sluice/sidecar/printable"
	"sluice/sidecar/remedy"
	"sluice/sidecar/stop"
	"sluice/sidecar/typed"
)

// Oldest is how far back a clean may reach: what is older was given up by Exim.
const Oldest = 35 * limit.Day

// These are how long before an incident was opened, or before now where there is none, the
// mail may have come that is to be cleaned up. An incident is opened by what was sent in an hour.
const (
	beforeIncident = time.Hour
	withoutOne     = 24 * time.Hour
)

// An Unproven says that nobody may be cleaned up after without a word from an operator.
type Unproven struct {
	Domain string // of which it may be shown who sends; empty: of none
	Why    string
}

// Error implements error.
func (u Unproven) Error() string { return u.Why }

// A Wanted is what an operator has typed.
type Wanted struct {
	Which string        // number of an incident, an author, or a domain
	Since time.Duration // so long ago what is to be cleaned up begins; 0: as the case has it
	All   bool          // also what was sent before the case

	// Logs finds by logs alone for whom an author has sent; nil: the running sluice is asked.
	Logs func(author string) (domain string, err error)
}

// Find finds out what is to be cleaned up: by an incident, or by who was typed.
func (w Wanted) Find(ctx context.Context, h *remedy.Host, now time.Time) (Case, error) {
	var found Case
	of, err := w.incident(ctx, h)
	switch author, notAuthor := stop.Canonical(w.Which); {
	case of != nil:
		found, err = caseOf(now, of)
	case err != nil && (notAuthor != nil || !errors.Is(err, admin.ErrUnreachable)):
		return found, err
	case notAuthor != nil:
		return found, fmt.Errorf("%q is no number of an incident, no domain with an open one, and nobody who sends: %w", w.Which, notAuthor)
	default:
		found, err = caseOfAuthor(now, author)
	}
	if err == nil && w.Logs != nil {
		domain, err := w.Logs(found.Author.Key)
		if err != nil {
			return found, err
		}
		found.Domain = cmp.Or(found.Domain, domain)
	}
	if err != nil {
		return found, err
	}
	if found.All = w.All; w.Since > 0 {
		found.Since = now.Add(-w.Since)
	}
	found.Account, err = accountOf(h, found)
	return found, err
}

// incident is the one that was meant: that of a number, or the open one of a domain or author; nil
// if there is none.
func (w Wanted) incident(ctx context.Context, h *remedy.Host) (*incident.Incident, error) {
	if w.Logs != nil {
		return nil, nil // without the running sluice
	}
	all, err := remedy.Ask(h, "find an incident", func(a *admin.Client) ([]incident.Incident, error) { return a.Incidents(ctx, w.Which) })
	if err != nil && !errors.Is(err, typed.ErrNotFound) {
		return nil, err
	}
	node, err := h.Node()
	if err != nil {
		return nil, err
	}
	byNumber := func(i incident.Incident) bool {
		return strings.EqualFold(i.ID.String(), w.Which) || strings.EqualFold(i.ID.String(), node+"-"+w.Which)
	}
	if n := slices.IndexFunc(all, byNumber); n >= 0 && incident.IsName(w.Which) {
		return &all[n], nil
	}
	if n := slices.IndexFunc(all, func(i incident.Incident) bool { return i.Open() && isOf(i, w.Which) }); n >= 0 {
		return &all[n], nil
	}
	if sidecar.IsDomain(w.Which) {
		return nil, Unproven{w.Which, "there is no open incident of that number or name, so nobody is known to clean up after; `sluice who` shows who sends, and each of them can be named"}
	}
	return nil, nil
}

// isOf reports whether an incident is of the domain that was typed, or the author has caused it.
// The program that was asked for it may answer with anything.
func isOf(i incident.Incident, which string) bool {
	domain, noScope := typed.Scope(which)
	author, notAuthor := stop.Canonical(which)
	return noScope == nil && (i.Domain == domain || i.Domain == sidecar.ForwardPrefix+domain) ||
		notAuthor == nil && i.Culprit.Author == author
}

// caseOf is the case of an incident. What an incident says comes from a program that talks with
// everybody and from other nodes, and here root acts on it: it is taken for nothing that does
// not look exactly as it should.
func caseOf(now time.Time, i *incident.Incident) (c Case, err error) {
	id := i.ID.String()
	switch {
	case !incident.IsName(id):
		return c, fmt.Errorf("the incident says that its number is %q", id)
	case i.Domain == "":
		return c, Unproven{"", fmt.Sprintf("incident %s is about this node and nobody's mail: sluice incident %s", id, id)}
	case !isDomain(strings.TrimPrefix(i.Domain, sidecar.ForwardPrefix)):
		return c, fmt.Errorf("incident %s is of %q, which is no domain", id, i.Domain)
	case i.Culprit.Author == "":
		return c, Unproven{i.Domain, "it is not known who has sent most of it"}
	case !i.Culprit.Stopped && i.Culprit.Count*2 <= i.Culprit.Of:
		return c, Unproven{i.Domain, fmt.Sprintf("%s has sent most, but no more than half of it", i.Culprit.Author)}
	case i.Opened.After(now) || now.Sub(i.Opened) > Oldest:
		return c, fmt.Errorf("incident %s was opened at %s, which is not within the last %d days", id, printable.DateTime(i.Opened), Oldest/limit.Day)
	}
	if c, err = caseOfAuthor(now, i.Culprit.Author); err != nil {
		return c, err
	}
	if kind := c.Author.Kind(); kind == "forward" || kind == "client" {
		return c, Unproven{i.Domain, fmt.Sprintf("%s only passes on what others send", i.Culprit.Author)}
	}
	c.Incident, c.Domain, c.Since = id, i.Domain, i.Opened.Add(-beforeIncident)
	return c, nil
}

// isDomain reports whether a text is a domain as it is written everywhere here.
func isDomain(text string) bool {
	domain, err := typed.Domain(text)
	return err == nil && domain == text && sidecar.IsDomain(text)
}

// caseOfAuthor is the case of an author, with the proof that there is of its kind.
func caseOfAuthor(now time.Time, key string) (c Case, err error) {
	scope, err := stop.Canonical(key)
	if err != nil || scope != key || printable.Command("sluice stop", key) == "" {
		return c, fmt.Errorf("%q is nobody who sends", key)
	}
	if strings.HasPrefix(key, sidecar.AccountPrefix) {
		return c, Unproven{"", key + " has many who send"}
	}
	c = Case{Author: sidecar.Author{Key: key}, Domain: stop.DomainOf(key), Since: now.Add(-withoutOne)}
	switch c.Author.Kind() {
	case "mailbox", "login":
		c.Author.Proof = sidecar.Proven
	case "script", "forward", "client":
		c.Author.Proof = sidecar.Claimed // or a stranger sends, by them
	default:
		return c, Unproven{"", key + " is everybody who sends by it"}
	}
	return c, nil
}

// accountOf finds the account of a case in what root can read on this host, and not by what an
// incident says.
func accountOf(h *remedy.Host, c Case) (string, error) {
	if login, is := strings.CutPrefix(c.Author.Key, sidecar.LoginPrefix); is {
		return login, nil
	}
	domain := cmp.Or(stop.DomainOf(c.Author.Key), strings.TrimPrefix(c.Domain, sidecar.ForwardPrefix))
	if domain == "" {
		return "", nil
	}
	return h.Account(domain)
}
