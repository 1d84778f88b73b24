package deferfail

import (
	"time"

	"sluice/sidecar/cluster"
)

// Of a subject that sends over several nodes each knows only its own bad sends. So before one
// of them has the subject trip, or somebody in its place, all tell the others what they have.

// patience is how long the first node waits for the others. Who is missing then has sent nothing
// that is known. The next nodes wait twice as long, in case the first has not noticed.
const patience = 2 * time.Second

// decides reports whether this node is to decide now what follows from the bad sends of a
// subject that is over its percentage. Of all nodes the first by name is.
func (d *Breaker) decides(now time.Time, subject string) bool {
	at, asked := d.asked[subject]
	if !asked {
		at = now
		d.asked[subject] = at
		d.Others.Ask(now, subject)
	}
	if d.Others.First() {
		return d.Others.Answered(now, subject, at) || now.Sub(at) >= patience
	}
	return now.Sub(at) >= 2*patience
}

// reconcileAsked has the subjects reconciled about which others were asked: until this node has
// decided, or has left out its bad sends of whom another has stopped.
func (d *Breaker) reconcileAsked() {
	for subject := range d.asked {
		d.Reconciler.ReconcileAtTick(subject)
	}
}

// addOthers adds what is bad of sends over other nodes.
func addOthers(blames map[string]*blame, told []cluster.Report) {
	for i := range told {
		for _, a := range told[i].Authors {
			if a.Held == 0 {
				continue
			}
			x := blames[a.Key]
			if x == nil {
				x = &blame{}
				blames[a.Key] = x
			}
			x.bad, x.against = x.bad+a.Held, x.against+a.Against
		}
	}
}

// spare is the Rate of a subject without what other nodes have of those who are stopped in its
// place. These are about to leave that out.
func (d *Breaker) spare(now time.Time, subject string, f Rate) Rate {
	if told := d.Others.Of(now, subject); len(told) > 0 {
		blames := map[string]*blame{}
		addOthers(blames, told)
		for _, key := range d.blamed(now, subject) {
			if x := blames[key]; x != nil {
				f.Bad = max(0, f.Bad-x.bad)
			}
		}
	}
	return f
}

// AddHeld adds to what other nodes are told of a subject what is bad of its authors.
func (d *Breaker) AddHeld(subject string, r *cluster.Report) {
	blames := d.badSends.blames(subject)
	for i := range r.Authors {
		if x := blames[r.Authors[i].Key]; x != nil {
			r.Authors[i].Held, r.Authors[i].Against = x.bad, x.against
		}
	}
}
