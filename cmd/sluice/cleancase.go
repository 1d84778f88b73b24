package main

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/admin"
	"sluice/sidecar/clean"
	"sluice/sidecar/incident"
	"sluice/sidecar/limit"
	"sluice/sidecar/senders"
	"sluice/sidecar/settings"
	"sluice/sidecar/stop"
)

// oldestCase is how far back a clean may reach: what is older was given up by Exim.
const oldestCase = 35 * sidecar.Day

// caseSince is how long before an incident was opened, or before now where there is none, the
// mail may have come that is to be cleaned up. An incident is opened by what was sent in an hour.
const (
	beforeIncident = time.Hour
	withoutOne     = 24 * time.Hour
)

// incidentName is what a number of an incident looks like: mx1-42, or 42 of this node.
var incidentName = regexp.MustCompile(`^([A-Za-z0-9][A-Za-z0-9._-]{0,200}-)?[0-9]{1,18}$`)

// unproven says that nobody may be cleaned up after without a word from an operator.
type unproven struct {
	domain string
	why    string
}

// Error implements error.
func (u unproven) Error() string { return u.why }

// find finds out what is to be cleaned up: by an incident, or by who was typed.
func (c cleanCmd) find(t *terminal, now time.Time) (clean.Case, error) {
	var found clean.Case
	incident, err := c.incident(t)
	switch author, notAuthor := stop.Canonical(c.Which); {
	case incident != nil:
		found, err = caseOf(now, incident)
	case err != nil && (notAuthor != nil || !errors.Is(err, admin.ErrUnreachable)):
		return found, err
	case notAuthor != nil:
		return found, fmt.Errorf("%q is no number of an incident, no domain with an open one, and nobody who sends: %w", c.Which, notAuthor)
	default:
		found, err = caseOfAuthor(now, author)
	}
	if err == nil && len(c.Log) > 0 {
		err = c.inLogs(t, &found)
	}
	if err != nil {
		return found, err
	}
	if found.Since, err = c.since(now, found.Since); err != nil {
		return found, err
	}
	found.All = c.All
	found.Account, err = accountOf(t, found)
	return found, err
}

// inLogs finds by main logs alone for whom an author has sent, and shows what it has sent.
func (c cleanCmd) inLogs(t *terminal, found *clean.Case) error {
	of := false
	who, to, err := whoFromLogs(t, c.Log, foreignFlag{Foreign: &of})
	if err != nil {
		return err
	}
	sent := senders.Who{Now: to, Missing: []string{}, Domains: who.Scope(to, found.Author.Key, 1), Uncounted: []senders.Share{}}
	if len(sent.Domains) == 0 {
		return no{fmt.Errorf("%s has sent nothing in these logs", found.Author.Key)}
	}
	if found.Domain == "" {
		found.Domain = sent.Domains[0].Domain
	}
	if !c.JSON {
		printWho(t.stdout, sent, "author", 1, false)
	}
	return nil
}

// incident is the one that was meant: that of a number, or the open one of a domain or author; nil
// if there is none.
func (c cleanCmd) incident(t *terminal) (*incident.Incident, error) {
	if len(c.Log) > 0 {
		return nil, nil // without the running sluice
	}
	all, err := ask(t, "clean "+c.Which, func(a *admin.Client) ([]incident.Incident, error) { return a.Incidents(t.ctx, c.Which) })
	if err != nil && !errors.Is(err, limit.ErrNotFound) {
		return nil, err
	}
	node, err := t.node()
	if err != nil {
		return nil, err
	}
	byNumber := func(i incident.Incident) bool {
		return strings.EqualFold(i.ID.String(), c.Which) || strings.EqualFold(i.ID.String(), node+"-"+c.Which)
	}
	if n := slices.IndexFunc(all, byNumber); n >= 0 && incidentName.MatchString(c.Which) {
		return &all[n], nil
	}
	if n := slices.IndexFunc(all, func(i incident.Incident) bool { return i.Open() && isOf(i, c.Which) }); n >= 0 {
		return &all[n], nil
	}
	if sidecar.IsDomain(c.Which) {
		return nil, unproven{c.Which, "there is no open incident of it, so nobody is known to clean up after"}
	}
	return nil, nil
}

// isOf reports whether an incident is of the domain that was typed, or the author has caused it.
// The program that was asked for it may answer with anything.
func isOf(i incident.Incident, which string) bool {
	domain, noScope := limit.CanonicalScope(which)
	author, notAuthor := stop.Canonical(which)
	return noScope == nil && (i.Domain == domain || i.Domain == sidecar.ForwardPrefix+domain) ||
		notAuthor == nil && i.Culprit.Author == author
}

// caseOf is the case of an incident. What an incident says comes from a program that talks with
// everybody and from other nodes, and here root acts on it: it is taken for nothing that does
// not look exactly as it should.
func caseOf(now time.Time, i *incident.Incident) (c clean.Case, err error) {
	id := i.ID.String()
	switch {
	case !incidentName.MatchString(id):
		return c, fmt.Errorf("the incident says that its number is %q", id)
	case i.Domain == "":
		return c, no{fmt.Errorf("incident %s is about this node and nobody's mail: sluice incident %s", id, id)}
	case !isDomain(strings.TrimPrefix(i.Domain, sidecar.ForwardPrefix)):
		return c, fmt.Errorf("incident %s is of %q, which is no domain", id, i.Domain)
	case i.Culprit.Author == "":
		return c, unproven{i.Domain, "it is not known who has sent most of it"}
	case !i.Culprit.Stopped && i.Culprit.Count*2 <= i.Culprit.Of:
		return c, unproven{i.Domain, fmt.Sprintf("%s has sent most, but no more than half of it", i.Culprit.Author)}
	case i.Opened.After(now) || now.Sub(i.Opened) > oldestCase:
		return c, fmt.Errorf("incident %s was opened at %s, which is not within the last %d days", id, sidecar.DateTime(i.Opened), oldestCase/sidecar.Day)
	}
	if c, err = caseOfAuthor(now, i.Culprit.Author); err != nil {
		return c, err
	}
	if kind := c.Author.Kind(); kind == "forward" || kind == "client" {
		return c, unproven{i.Domain, fmt.Sprintf("%s only passes on what others send", i.Culprit.Author)}
	}
	c.Incident, c.Domain, c.Since = id, i.Domain, i.Opened.Add(-beforeIncident)
	return c, nil
}

// isDomain reports whether a text is a domain as it is written everywhere here.
func isDomain(text string) bool {
	domain, err := limit.CanonicalDomain(text)
	return err == nil && domain == text && sidecar.IsDomain(text)
}

// caseOfAuthor is the case of an author, with the proof that there is of its kind.
func caseOfAuthor(now time.Time, key string) (c clean.Case, err error) {
	scope, err := stop.Canonical(key)
	if err != nil || scope != key || sidecar.Command("sluice stop", key) == "" {
		return c, fmt.Errorf("%q is nobody who sends", key)
	}
	if strings.HasPrefix(key, sidecar.AccountPrefix) {
		return c, unproven{"", key + " has many who send"}
	}
	c = clean.Case{Author: sidecar.Author{Key: key}, Domain: stop.DomainOf(key), Since: now.Add(-withoutOne)}
	switch c.Author.Kind() {
	case "mailbox", "login":
		c.Author.Proof = sidecar.Proven
	case "script", "forward", "client":
		c.Author.Proof = sidecar.Claimed // or a stranger sends, by them
	default:
		return c, unproven{"", key + " is everybody who sends by it"}
	}
	return c, nil
}

// since is from when on mail is cleaned up: by --since, or as the case has it.
func (c cleanCmd) since(now, by time.Time) (time.Time, error) {
	ago, err := parseTime("--since", c.Since)
	switch {
	case err != nil:
		return by, err
	case ago > oldestCase:
		return by, fmt.Errorf("--since is %s, it can be %d days at most", c.Since, oldestCase/sidecar.Day)
	case ago > 0:
		return now.Add(-ago), nil
	}
	return by, nil
}

// accountOf finds the account of a case in what root can read on this host, and not by what an
// incident says.
func accountOf(t *terminal, c clean.Case) (string, error) {
	if login, is := strings.CutPrefix(c.Author.Key, sidecar.LoginPrefix); is {
		return login, nil
	}
	domain := cmp.Or(stop.DomainOf(c.Author.Key), strings.TrimPrefix(c.Domain, sidecar.ForwardPrefix))
	if domain == "" {
		return "", nil
	}
	s, err := t.hostSettings()
	if err != nil {
		return "", err
	}
	return s.PayerOfDomain(domain).Account, nil
}

// hostSettings are the settings by the files of this host, without the running sluice.
func (t *terminal) hostSettings() (*settings.Settings, error) {
	own := false
	o, _, err := foreignFlag{Foreign: &own}.settingsFor(t, nil)
	if err != nil {
		return nil, err
	}
	return settings.New(settings.Sources{Config: o.Config, Panel: o.Panel}, settings.Host{Node: o.Node, EximUser: o.EximUser, Own: o.Own}, nil)
}

// showUnproven prints who sends, and the commands with which an operator decides who it was.
func (t *terminal) showUnproven(u unproven) {
	if u.domain == "" {
		return
	}
	who, err := ask(t, "who "+u.domain, func(a *admin.Client) (senders.Who, error) { return a.WhoSends(t.ctx, u.domain, 10) })
	if err != nil {
		return
	}
	printWho(t.stdout, who, "author", 10, false)
	for _, r := range who.Domains {
		for _, a := range r.Authors {
			if _, err := stop.Canonical(a.Key); err == nil {
				printf(t.stdout, "  if it was %s:  %s\n", a.Key, sidecar.Command("sluice clean", a.Key))
			}
		}
	}
}
