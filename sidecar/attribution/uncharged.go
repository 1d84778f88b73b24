package attribution

import (
	"time"

	"sluice/sidecar"
	"sluice/sidecar/envelope"
	"sluice/sidecar/senders"
)

// everybody is the name of the subject of all that nobody pays for, whoever sends it.
const everybody = ""

// An uncharged is how many sends nobody has paid for in a pane.
type uncharged struct {
	pane int64
	n    [sidecar.Notice]int64 // by class
}

// Uncharged takes in that a message was accepted for which nobody pays, for a reason; of the
// router, that one recipient of it was, which counts once however often it is tried.
func (a *Attribution) Uncharged(now time.Time, why sidecar.Class, m *Message) {
	if why <= sidecar.Charged || why >= sidecar.Notice {
		return
	}
	a.locked(func() {
		all, number := a.subject(now, everybody)
		n := int64(len(m.To))
		if m.Request.Stage == sidecar.StageRoute && !all.mark(envelope.Mark(m.Request.ID, m.To[0])) {
			return
		}
		all.uncharge(number, why, n)
		if m.Subject != everybody {
			s, _ := a.subject(now, m.Subject)
			s.uncharge(number, why, n)
		}
	})
}

// uncharge counts sends in a pane.
func (s *subject) uncharge(pane int64, why sidecar.Class, n int64) {
	last := len(s.uncharged) - 1
	if last < 0 || s.uncharged[last].pane != pane {
		s.uncharged, last = append(s.uncharged, uncharged{pane: pane}), last+1
	}
	s.uncharged[last].n[why] += n
}

// Uncounted lists the sends of a subject that nobody has paid for, or all for "".
func (a *Attribution) Uncounted(now time.Time, name string) []senders.Unpaid {
	var n [sidecar.Notice]int64
	a.look(now, name, func(s *subject, from int64) {
		for _, u := range s.uncharged {
			for why := range n {
				if u.pane >= from {
					n[why] += u.n[why]
				}
			}
		}
	})
	list := []senders.Unpaid{}
	for why, word := range [...]string{sidecar.Exempt: "exempt", sidecar.Inbound: "from elsewhere", sidecar.Nobody: "bounces and warnings"} {
		if n[why] > 0 {
			list = append(list, senders.Unpaid{Name: word, Sent: n[why]})
		}
	}
	return list
}
