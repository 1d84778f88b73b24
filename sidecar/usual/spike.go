package usual

// A Rule says how much more than usual is a spike.
type Rule struct {
	Least  int64 // sends in an hour: fewer are none
	Factor int64 // times the busiest hour of the last days

	// Expected is how many an operator has said are fine. 0: nothing was said.
	Expected int64
}

// Threshold returns beyond how many sends in an hour of a day an author has a spike, and how
// many its busiest hour had. An author that is new today has one beyond twice the least, and
// what all of the domain may have sent in an hour before. false: what is usual is not known,
// for the domain is known for less than 35 days, or strangers choose what the author sends.
func (d *Domain) Threshold(author string, day uint16, rule Rule) (most, busiest int64, known bool) {
	if !Has(author) || !d.knownFor(day, month) {
		return 0, 0, false
	}
	if r := d.find(author); r != nil && r.first < day {
		busiest = r.busiestUntil(day)
		return max(rule.Least, rule.Factor*busiest, rule.Expected), busiest, true
	}
	return max(2*rule.Least, d.busiest(day), rule.Expected), 0, true
}

// knownFor reports whether somebody has sent so many days ago.
func (d *Domain) knownFor(day, days uint16) bool {
	if d == nil {
		return false
	}
	for i := range d.rings {
		if d.rings[i].first+days <= day {
			return true
		}
	}
	return false
}

// busiestUntil is the busiest hour of the last days.
func (r *ring) busiestUntil(day uint16) int64 {
	var most uint8
	for d := day; d > 0 && day-d < month; d-- {
		if r.has(d) {
			most = max(most, r.busiest[d%month])
		}
	}
	return unpack(most)
}

// busiest is what all authors together have sent in an hour at most, on any of the last days.
func (d *Domain) busiest(day uint16) (most int64) {
	for on := day; on > 0 && day-on < month; on-- {
		sum := int64(0)
		for i := range d.rings {
			if r := &d.rings[i]; r.has(on) {
				sum += unpack(r.busiest[on%month])
			}
		}
		most = max(most, sum)
	}
	return most
}
