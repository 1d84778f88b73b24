package policy

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
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

// sharing is what is needed to have authors leave room for others.
type sharing struct {
	sharer Sharer // nil: nobody does
	events event.Sink

	mu        sync.Mutex
	announced map[[2]string]time.Time // when it was, of an author, by domain and key
}

// maxAnnounced bounds them; beyond it some are announced again within a window.
const maxAnnounced = 10_000

// leaveRoom has the domain's hourly limit withhold from a Take what its author leaves to the
// others.
func (x *sharing) leaveRoom(q *question, t *ratelimit.Take) {
	s := x.find(q, t.Subjects)
	if s != nil && q.share.others > 0 && t.Ahead+int64(len(q.to)) > q.share.free {
		s.Limits = append(q.buffers.limits[:0], s.Limits...) // they are everybody's
		s.Limits[0].Withheld = q.share.others
	}
}

// find sets the share of a question's author, and returns the domain with the hourly
// limit that it is of; nil if there is none.
func (x *sharing) find(q *question, subjects []ratelimit.Subject) *ratelimit.Subject {
	if x.sharer == nil || q.who.Special != "" {
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
		q.share.free, q.share.others = x.sharer.Share(q.now, q.author, q.who.Domain, s.Limits[0].Max, most)
		return s
	}
	return nil
}

// ShareOf returns the share of an author as Sharer has it, with the limit of its domain that
// it is of; others is 0 if it leaves no room to anybody.
func (p *Policy) ShareOf(now time.Time, a sidecar.Author, who sidecar.Payer) (free, others, max int64) {
	q := &question{Settings: p.Settings(), now: now, who: who, author: a}
	if s := p.sharing.find(q, q.AppendSubjects(nil, who)); s != nil && q.share.others > 0 {
		return q.share.free, q.share.others, s.Limits[0].Max
	}
	return 0, 0, 0
}

// announce emits an event, once in a window, that an author is refused for what it leaves to others.
func (x *sharing) announce(q *question, r *refusal) {
	of := [2]string{q.who.Domain, q.author.Key}
	x.mu.Lock()
	at, again := x.announced[of]
	if again = again && q.now.Sub(at).Abs() < q.Window; !again {
		if x.announced == nil || len(x.announced) >= maxAnnounced {
			x.announced = map[[2]string]time.Time{}
		}
		x.announced[[2]string{strings.Clone(of[0]), strings.Clone(of[1])}] = q.now
	}
	x.mu.Unlock()
	if !again {
		x.events.Emit(event.Event{Kind: event.Share, Domain: of[0], Attrs: event.Attrs("scope", of[1],
			"sent", sidecar.Ratio(r.attempted, max(0, r.use.Limit.Max-r.use.Limit.Withheld)), "left_to_others", r.use.Limit.Withheld)})
	}
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
		return sidecar.Ratio(u.Used+int64(len(q.to)), u.Limit.Max-u.Limit.Withheld)
	}
	return sidecar.Ratio(u.Used+u.Refused, u.Limit.Max)
}

// textWithheld words the refusal of an author that has to leave room for the others of its
// domain.
func (r *refusal) textWithheld(node string) sidecar.RefusalText {
	limit := r.use.Limit
	left, room := max(0, limit.Max-limit.Withheld), "room as its own sends leave the window"
	if !r.frees.IsZero() {
		room += ", at the latest at " + r.frees.Format("2006-01-02 15:04:05 -0700")
	}
	return sidecar.RefusalText{
		Text:  fmt.Sprintf(textHourly, r.title, r.per, sidecar.Ratio(r.attempted, left), reattempted),
		Why:   fmt.Sprintf("%d is %d of %s less %d that its other senders usually send; %s", left, limit.Max, r.use.Subject, limit.Withheld, room),
		Where: fmt.Sprintf("limit from %s; sluice on %s", r.origin, node),
	}
}
