package policy

import (
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/printable"
)

// A Sharer knows how much the authors of a domain usually send.
type Sharer interface {
	// Share returns how many more sends an author may make that leave no room for others, and
	// for how many it has to leave room beyond that, most at most: for what the other authors
	// of its domain usually still send. max is the domain's hourly limit. It is called with
	// nearly every question, and must not wait.
	Share(now time.Time, a sidecar.Author, domain string, max, most int64) (free, others int64)
}

// A share is the room that an author leaves to the others of its domain, if it sends more
// than it usually does in an hour. It only makes the domain's hourly limit tighter, so that a
// wrong one lets nobody over it.
type share struct{ free, others int64 } // as Sharer has them

// leaveRoom has the domain's hourly limit withhold from a Take what its author leaves to the
// others.
func (q *question) leaveRoom(by Sharer, t *ratelimit.Take) {
	s := q.findShare(by, t.Subjects)
	if s != nil && q.share.others > 0 && t.Ahead+int64(len(q.to)) > q.share.free {
		s.Limits = append(q.buffers.limits[:0], s.Limits...) // they are everybody's
		s.Limits[0].Withheld = q.share.others
	}
}

// findShare sets the share of a question's author, and returns the domain with the hourly
// limit that it is of; nil if there is none.
func (q *question) findShare(by Sharer, subjects []ratelimit.Subject) *ratelimit.Subject {
	if by == nil || q.who.Special != "" {
		return nil
	}
	for i := range subjects {
		s := &subjects[i]
		if s.Name != q.who.Domain || s.Limits[0].Window != q.Window {
			continue
		}
		most := q.OthersShare(q.who, s.Limits[0].Max)
		if most == 0 {
			return nil
		}
		q.share.free, q.share.others = by.Share(q.now, q.author, q.who.Domain, s.Limits[0].Max, most)
		return s
	}
	return nil
}

// ShareOf returns the share of an author as Sharer has it, with the limit of its domain that
// it is of; others is 0 if it leaves no room to anybody.
func (p *Policy) ShareOf(now time.Time, a sidecar.Author, who sidecar.Payer) (free, others, max int64) {
	q := &question{Settings: p.Settings(), now: now, who: who, author: a}
	if s := q.findShare(p.sharer, q.AppendSubjects(nil, who)); s != nil && q.share.others > 0 {
		return q.share.free, q.share.others, s.Limits[0].Max
	}
	return 0, 0, 0
}

// roomOf is how many sends in all a limit admits of this message, which was looked at with
// or without leaving room for others.
func (q *question) roomOf(u ratelimit.Use) int64 {
	room := u.Room()
	if q.share.others > 0 && u.Limit.Withheld == 0 && u.Subject == q.who.Domain && u.Limit.Window == q.Window {
		return max(min(room, q.share.free), room-q.share.others)
	}
	return room
}

// titleOf names who has no room in the limit of a use: whom it is for or, if it would have
// room but for what is left to others, the author.
func (q *question) titleOf(u ratelimit.Use) string {
	if u.Withheld && q.author.Key != "" {
		return sidecar.TitleOfAuthor(q.author.Key)
	}
	return sidecar.TitleOf(u.Subject)
}

// ratio shows what was attempted of the limit of a use.
func (q *question) ratio(u ratelimit.Use) string {
	if u.Withheld {
		return printable.Ratio(u.Used+int64(len(q.to)), u.Limit.Max-u.Limit.Withheld)
	}
	return printable.Ratio(u.Used+u.Refused, u.Limit.Max)
}
