package attribution

import (
	"strings"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/logline"
)

// noteBad keeps a send that has gone wrong.
func (t *table) noteBad(s *subject, now time.Time, o *logline.Outcome) {
	number := t.number(now, o.When)
	before, known := s.badSends[o.Token]
	switch {
	case number < s.last-parts:
		return
	case known && strings.Contains(o.Entry.Text, "retry timeout exceeded"): // Exim gave up, for the reason of the earlier attempts
		return
	case !known && len(s.badSends) >= maxBadSends && t.length > 0:
		return
	}
	id := before.author
	if !known {
		if id = t.admit(s, now, o.Author); id == 0 {
			return
		}
		t.authors.use(id)
	}
	if s.badSends == nil {
		s.badSends = map[ratelimit.Token]badSend{}
	}
	s.badSends[o.Token] = badSend{author: id, pane: number, cause: o.Cause}
	s.spam = s.spam.And(o)
	t.changed(s, now)
}

// forgive forgets that a send has gone wrong.
func (t *table) forgive(s *subject, token ratelimit.Token) {
	if b, known := s.badSends[token]; known {
		delete(s.badSends, token)
		t.release(b.author)
	}
}

// MostBad returns the author of a subject of whose sends most have gone wrong by what speaks
// against whoever sends, no such address or called spam; and how many of how many that are
// bad. Without a key there is none.
func (a *Attribution) MostBad(now time.Time, name string) (who sidecar.Author, bad, of int64) {
	var c candidates
	others := a.others(now, name)
	a.look(now, name, func(s *subject, from int64) {
		for _, b := range s.badSends {
			if b.pane < from {
				continue
			}
			if of++; b.cause == sidecar.NoSuchUser || b.cause == sidecar.CalledSpam {
				c.add(&a.authors.all[b.author].Author, 1)
			}
		}
	})
	for i := range others {
		for j := range others[i].Authors {
			x := &others[i].Authors[j]
			for _, n := range x.Causes {
				of += n
			}
			c.add(&sidecar.Author{Key: x.Key, Proof: x.Proof, Account: x.Account}, x.Causes[sidecar.NoSuchUser]+x.Causes[sidecar.CalledSpam])
		}
	}
	who, bad = c.most()
	return who, bad, of
}
