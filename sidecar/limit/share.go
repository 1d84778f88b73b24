package limit

import "sluice/sidecar"

// minShared is the least hourly limit of which anything is left to others: a percentage of
// less is hardly a send.
const minShared = 20

// OthersShare is how much of a domain's hourly limit of max sends an author leaves at most to
// the others of the domain, if it sends more than usual: 0 if it need not. It is asked with
// nearly every question.
func (t *Table) OthersShare(who sidecar.Payer, max int64) int64 {
	if max < minShared {
		return 0
	}
	percent := t.share
	if t.sharers > 0 {
		percent = t.percentForOthers(who)
	}
	return max * percent / 100
}

// percentForOthers is OthersShare in percent of the limit.
func (t *Table) percentForOthers(who sidecar.Payer) int64 {
	if InForce(t, who, func(t *Thresholds) *Culprit { return t.Culprit }) != CulpritStop {
		return 0
	}
	return InForce(t, who, func(t *Thresholds) *int64 { return t.OthersShare })
}
