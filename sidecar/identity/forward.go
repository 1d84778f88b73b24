package identity

import (
	"strings"

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

// Redirected is the domain of the address that an alias or list redirected. It is empty if
// the address was only changed in case or quotes, and for a bounce that returns along SRS.
func Redirected(r *sidecar.Request) string {
	original, redirected := redirectedFrom(r)
	if !redirected || r.Sender == "" && returnsTo(original.Local, envelope.FoldRouted(r.Recipient)) {
		return ""
	}
	return original.Domain
}

// IsMade reports whether an alias or list has made the recipient of another address, which
// may also be that of a bounce that returns along SRS: it was not there when the message came.
func IsMade(r *sidecar.Request) bool { _, made := redirectedFrom(r); return made }

// redirectedFrom returns the address that was redirected; false if it was only changed in
// case or quotes.
func redirectedFrom(r *sidecar.Request) (envelope.Address, bool) {
	if r.Original == "" {
		return envelope.Address{}, false
	}
	recipient, original := envelope.FoldRouted(r.Recipient), envelope.FoldRouted(r.Original)
	return original, original != recipient && envelope.Fold(r.Original) != recipient
}

// returnsTo reports whether a local part is one of the Sender Rewriting Scheme that returns
// bounces to a recipient: SRS0=HASH=TIME=DOMAIN=LOCAL, or of mail that two hosts have passed
// on SRS1=HASH=HOST==HASH=TIME=DOMAIN=LOCAL. Behind SRS0 and SRS1 there may be + or - too.
// The mail server has checked the hash, or it would not have redirected.
func returnsTo(local string, recipient envelope.Address) bool {
	if len(local) < len("srs0=") || local[:3] != "srs" || strings.IndexByte("=+-", local[4]) < 0 {
		return false
	}
	parts := strings.SplitN(local[5:], "=", 4)
	switch {
	case local[3] == '0' && len(parts) == 4:
		return envelope.FoldDomain(parts[2]) == recipient.Domain && parts[3] == recipient.Local
	case local[3] == '1' && len(parts) >= 3:
		return envelope.FoldDomain(parts[1]) == recipient.Domain && recipient.Local == "srs0"+strings.Join(parts[2:], "=")
	}
	return false
}
