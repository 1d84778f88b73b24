package limit

import "sluice/sidecar"

// minShared is the least hourly limit of which anything is left to others: a percentage of
// less is hardly a send.
const minShared = 20

// OthersShare is how much of a domain's hourly limit of max sends an author leaves at most to
// the others of the domain, if it sends more than usual: 0 if it need not. It is asked with
// nearly every question, and makes no list of scopes.
func (t *Table) OthersShare(who sidecar.Payer, max int64) int64 {
	if max < minShared {
		return 0
	}
	var culprit *Culprit
	var percent *int64
	see := func(scope *scoped) {
		if scope != nil && culprit == nil {
			culprit = scope.Culprit
		}
		if scope != nil && percent == nil {
			percent = scope.OthersShare
		}
	}
	see(t.Scope(who.Mailbox))
	see(t.Scope(who.Domain))
	if who.Account != "" && t.HasAccounts {
		see(t.Scope(sidecar.AccountPrefix + who.Account))
	}
	see(t.Scope(sidecar.DefaultScope))
	if culprit == nil || *culprit != CulpritStop || percent == nil {
		return 0
	}
	return max * *percent / 100
}

// MostShare is the greatest percentage of an hourly limit that anybody leaves to others.
func (t *Table) MostShare() (percent int64) {
	for _, scope := range t.Scopes() {
		if scope.OthersShare != nil {
			percent = max(percent, *scope.OthersShare)
		}
	}
	return percent
}
