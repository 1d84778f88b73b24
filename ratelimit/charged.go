package ratelimit

import "time"

// A Send is a charged send, with all that another store needs to charge it too.
type Send struct {
	Token    Token
	Age      time.Duration // since its date
	Subjects []Subject     // who was charged; Limits are the windows that are counted, Max is 0
	Outcome  Outcome
}

// Charged returns those sends that were charged and are still kept.
func (l *Ledger) Charged(now time.Time, tokens []Token) (all []Send) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	for _, t := range tokens {
		sh := l.sends.shard(t)
		if i := sh.find(t); i >= 0 && l.live(sh.slots[i], at) {
			all = append(all, l.sendOf(sh.slots[i], at))
		}
	}
	return all
}

// Sends calls f for each send that is kept, until f returns false. It may leave out
// what is charged meanwhile.
func (l *Ledger) Sends(now time.Time, f func(Send) bool) {
	for i := range l.sends {
		for _, s := range l.shardSends(now, i) {
			if !f(s) {
				return
			}
		}
	}
}

func (l *Ledger) shardSends(now time.Time, i int) (all []Send) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	for _, s := range l.sends[i].slots {
		if s.token != 0 && l.live(s, at) {
			all = append(all, l.sendOf(s, at))
		}
	}
	return all
}

func (l *Ledger) sendOf(s send, at int64) Send {
	date := s.date(at)
	sent := Send{Token: s.token, Age: time.Duration(at-date) * time.Millisecond, Outcome: s.payers.outcome()}
	l.groups.each(s.payers, func(id uint32) {
		if int(id/pageSize) >= len(l.subjects.pages) {
			return // the page was lost with a damaged file
		}
		who := l.subjects.get(id)
		if who.name == "" {
			return
		}
		sub := Subject{Name: who.name, Past: date <= who.epoch}
		for _, r := range l.subjects.open(id, at) {
			sub.Limits = append(sub.Limits, Limit{Window: time.Duration(r.window.length) * time.Microsecond})
		}
		sent.Subjects = append(sent.Subjects, sub)
	})
	return sent
}

// Kept returns how long sends will be kept once these subjects have been charged, and
// up to which age every charged send is known now.
func (l *Ledger) Kept(now time.Time, subjects []Subject) (keep, known time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := l.tick(now)
	span := l.keep
	for _, s := range subjects {
		for _, lim := range s.Limits {
			if lim.Max > 0 {
				span = max(span, newWindow(lim.Window).span())
			}
		}
	}
	return time.Duration(span) * time.Millisecond, time.Duration(min(l.keep, at-l.completeSince)) * time.Millisecond
}
