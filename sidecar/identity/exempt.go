package identity

import (
	"net/netip"
	"slices"
	"strings"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
)

// An Exemption is mail for which nobody is charged: that of some senders, if somebody sends
// it who may say so. Anybody can write a sender, so that alone exempts nobody.
type Exemption struct {
	Sender string       // pattern, folded: a * stands for any text; <> is the null sender
	Login  string       // login of a program on this host; empty for none
	Auth   string       // authenticated id, in any form that logs in; empty for none
	Hosts  netip.Prefix // hosts, not of this host; invalid for none
}

// exempt reports whether nobody is charged for a message. What an alias or list has
// redirected is exempt only if its own address is like the senders too.
func (s *Rules) exempt(from source, r *sidecar.Request) bool {
	if len(s.Exempt) == 0 && len(s.ExemptLogins) == 0 {
		return false
	}
	redirected := Redirected(r) != ""
	if from.origin == byLogin && !redirected && slices.Contains(s.ExemptLogins, from.id) {
		return true
	}
	sender := folded(r.Sender)
	return slices.ContainsFunc(s.Exempt, func(e Exemption) bool {
		return s.allows(e, from) && matches(e.Sender, sender) && (!redirected || matches(e.Sender, folded(r.Original)))
	})
}

// allows reports whether a source is one that an exemption names.
func (s *Rules) allows(e Exemption, from source) bool {
	switch from.origin {
	case byLogin:
		return e.Login != "" && e.Login == from.id
	case byAuth:
		return e.Auth != "" && s.foldLogin(e.Auth) == s.foldLogin(from.id)
	case byRelay, outside:
		return e.Hosts.IsValid() && from.client.IsValid() && e.Hosts.Contains(from.client) && !s.isOwn(from.client)
	}
	return false
}

// foldLogin is an authenticated id in the one form in which it is compared.
func (s *Rules) foldLogin(id string) string {
	if mailbox, is := s.mailboxOf(id); is {
		return mailbox.String()
	}
	return s.OwnerMap.Get().FoldLogin(id)
}

// folded is a sender as patterns have it.
func folded(sender string) string {
	if sender == "" {
		return "<>"
	}
	return envelope.Fold(sender).String()
}

// matches reports whether a text is like a pattern, in which a * stands for any text.
func matches(pattern, text string) bool {
	first, rest, wild := strings.Cut(pattern, "*")
	if !wild {
		return pattern == text
	}
	text, ok := strings.CutPrefix(text, first)
	for ok && wild {
		if first, rest, wild = strings.Cut(rest, "*"); !wild {
			return strings.HasSuffix(text, first)
		}
		_, text, ok = strings.Cut(text, first)
	}
	return ok
}
