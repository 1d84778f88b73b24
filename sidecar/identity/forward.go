package identity

import (
	"sluice/sidecar"
	"sluice/sidecar/envelope"
)

// redirected finds who is charged for a recipient that an alias, forwarder or list of a
// domain has made, of a message of who's. Strangers choose how much a forwarder gets: what
// they cause is not charged to the domain itself, or its own mail would wait for theirs.
func (s *Rules) redirected(who sidecar.Payer, domain string) sidecar.Payer {
	if domainOf(domain) == "" || s.ownRedirect(who, domain) {
		return who
	}
	return s.payerOfSpecial(sidecar.ForwardPrefix + domain)
}

// ownRedirect reports whether mail of a payer is redirected by an address of its own: of
// the same domain or account, or for what the system itself sends, of nobody's.
func (s *Rules) ownRedirect(who sidecar.Payer, domain string) bool {
	if who.Class != sidecar.Charged {
		return false
	}
	owner := s.OwnerMap.Get().Account[domain]
	switch {
	case who.Special == sidecar.System:
		return owner == ""
	case domain == who.Domain:
		return true
	}
	return owner != "" && owner == who.Account
}

// Redirected is the domain of the address that an alias or list redirected.
// It is empty if the address was only changed in case or quotes.
func Redirected(r *sidecar.Request) string {
	if r.Original == "" {
		return ""
	}
	recipient, original := envelope.FoldRouted(r.Recipient), envelope.FoldRouted(r.Original)
	if original == recipient || envelope.Fold(r.Original) == recipient {
		return ""
	}
	return original.Domain
}
