package deferfail

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/limit"
	"sluice/sidecar/settings"
)

// Authors is how a Breaker learns who sends at a subject's expense, and stops some of them in
// place of the whole subject.
type Authors interface {
	// Sent returns who has sent in the window, and how many sends are by nobody that is known.
	Sent(now time.Time, subject string) (by []AuthorSent, unknown int64)
	// Culprit returns whose sends have gone wrong most.
	Culprit(now time.Time, subject string) sidecar.Culprit
	// Blame has the mail of an author held that a subject pays for, on all nodes, until
	// Forgive. Operators are told why, and clients text.
	Blame(ctx context.Context, now time.Time, key, subject, why, text string)
	// Forgive ends what Blame has begun.
	Forgive(ctx context.Context, now time.Time, key, subject string)
	// Blamed returns whom Blame has stopped, and neither Forgive nor somebody has started since.
	Blamed(now time.Time) []sidecar.Blamed
	// LastBlame returns when Blame was last called of an author; zero: not in the last weeks.
	LastBlame(key, subject string) time.Time
}

// AuthorSent is how much an author has sent at a subject's expense.
type AuthorSent struct {
	Key     string
	Sent    int64 // in the window, at most
	AtLeast int64 // likewise
	Known   bool  // it has sent on an earlier day too
}

const (
	maxCulprits    = 3  // of a subject that are stopped at one time
	othersSettled  = 3  // sends of the others of which it must be known what became of them
	unknownPercent = 10 // of a subject's sends; if more of them are nobody's, nobody is to blame
)

// A blame is what is bad of an author's sends.
type blame struct {
	bad     int64 // and held against the subject
	against int64 // of bad: for a cause that speaks against who has sent, and nobody else
	sends   []ratelimit.Token
}

// speaksAgainst reports whether a send is bad by whom it was sent to, or what it said.
// Whatever else goes wrong could happen to everybody.
func (s *badSend) speaksAgainst() bool {
	return s.Cause == sidecar.NoSuchUser || s.Cause == sidecar.CalledSpam
}

// blames returns what is bad of the authors of a subject, by their keys.
func (b *badSends) blames(subject string) map[string]*blame {
	all := map[string]*blame{}
	b.mu.Lock()
	defer b.mu.Unlock()
	d := b.subjects[subject]
	if d == nil {
		return all
	}
	for token, s := range d.Sends {
		if s.Excused || s.Author == "" {
			continue
		}
		x := all[s.Author]
		if x == nil {
			x = &blame{}
			all[s.Author] = x
		}
		x.bad++
		x.sends = append(x.sends, token)
		if s.speaksAgainst() {
			x.against++
		}
	}
	return all
}

// culprits returns those authors of a subject that is over its percentage who are over it by
// themselves, if without them it is not, and there are others whose mail it is about. Nobody
// is to blame where that is not proven. Those who are blamed already count in nothing but in
// how many there may be.
func culprits(f Rate, by []AuthorSent, unknown int64, blames map[string]*blame, settled int64, blamed []string) (out []AuthorSent) {
	if unknown*100 > unknownPercent*f.sent {
		return nil
	}
	others := by[:0:0]
	for _, a := range by {
		if slices.Contains(blamed, a.Key) {
			f, settled = f.without(a, blames[a.Key]), settled-a.Sent
		} else {
			others = append(others, a)
		}
	}
	for _, a := range suspects(f, others, blames) {
		if len(blamed)+len(out) == maxCulprits {
			return nil
		}
		f, settled = f.without(a, blames[a.Key]), settled-a.Sent
		out = append(out, a)
		if !f.Over() {
			break
		}
	}
	known := slices.ContainsFunc(others, func(a AuthorSent) bool {
		return a.Known && !slices.ContainsFunc(out, func(o AuthorSent) bool { return o.Key == a.Key })
	})
	if f.Over() || settled < othersSettled || !known {
		return nil
	}
	return out
}

// suspects returns those authors who are over the percentage of f by themselves, the worst first.
func suspects(f Rate, by []AuthorSent, blames map[string]*blame) (all []AuthorSent) {
	for _, a := range by {
		if x := blames[a.Key]; x != nil && stoppable(a.Key) && f.of(a.Sent, x.against).Over() {
			all = append(all, a)
		}
	}
	slices.SortFunc(all, func(a, b AuthorSent) int {
		return cmp.Or(cmp.Compare(blames[b.Key].bad, blames[a.Key].bad), cmp.Compare(a.Key, b.Key))
	})
	return all
}

// without is the Rate of all sends but an author's, of which x is bad; x may be nil.
func (r Rate) without(a AuthorSent, x *blame) Rate {
	r.sent -= a.AtLeast
	if x != nil {
		r.Bad -= x.bad
	}
	return r
}

// stoppable reports whether a machine may stop an author: one that is proven, or a script, of
// which only the domain's own mail is stopped. Whoever else sends by the same web server,
// loopback, relay or forwarder has done nothing.
func stoppable(key string) bool {
	kind := sidecar.Author{Key: key}.Kind()
	return kind == "mailbox" || kind == "login" || kind == "script"
}

// leaveOut stops those who are to blame for too many bad sends of a subject in its place, and
// has the store not count their bad ones. It reports whether it did.
func (d *Breaker) leaveOut(ctx context.Context, now time.Time, s *settings.Settings, f Rate, standing ratelimit.Standing) bool {
	subject := standing.Name
	culprit := limit.InForce(s.Table, s.PayerOfScope(subject), func(t *limit.Thresholds) *limit.Culprit { return t.Culprit })
	if culprit != limit.CulpritStop {
		return false
	}
	by, unknown := d.Authors.Sent(now, subject)
	blames := d.badSends.blames(subject)
	addOthers(blames, d.Others.Of(now, subject))
	out := culprits(f, by, unknown, blames, settledIn(standing, s.Window), d.blamed(now, subject))
	for _, a := range out {
		ratio := f.of(a.Sent, blames[a.Key].against).ratio()
		text := fmt.Sprintf(textDeferfailHeld, sidecar.TitleOfAuthor(a.Key), ratio)
		d.Authors.Blame(ctx, now, a.Key, subject, fmt.Sprintf("%s of its sends deferred or failed, of all of %s %s", ratio, subject, f.ratio()), text)
	}
	if len(out) > 0 { // other nodes leave out theirs
		d.excuse(ctx, now, subject)
	}
	return len(out) > 0
}

// of is the Rate of a part of a subject's sends, with the same limits.
func (r Rate) of(sent, bad int64) Rate {
	r.sent, r.Bad = sent, bad
	return r
}

// settledIn returns of how many sends in the window it is known what became of them.
func settledIn(standing ratelimit.Standing, window time.Duration) (n int64) {
	for _, w := range standing.Windows {
		if w.Window == window {
			n = w.Delivered + w.Deferred + w.Failed
		}
	}
	return n
}

// blamed returns the keys of those who are stopped in place of a subject.
func (d *Breaker) blamed(now time.Time, subject string) (keys []string) {
	for _, b := range d.Authors.Blamed(now) {
		if b.Subject == subject {
			keys = append(keys, b.Key)
		}
	}
	return keys
}

// startCalm lets those send again who were stopped in place of a subject, and who would trip
// no more by themselves, as a trip ends. What went wrong is known to the node that has stopped
// them; the others wait until all of it has left the window, in case that node is gone.
func (d *Breaker) startCalm(ctx context.Context, now time.Time) {
	for _, b := range d.Authors.Blamed(now) {
		s := d.Settings()
		wait := s.Window / 60
		if b.Node != s.Node {
			wait += s.Window
		}
		by, _ := d.Authors.Sent(now, b.Subject)
		f := rateOf(s, d.Store.Standing(d.Clock.Store(now), b.Subject))
		bad := d.badSends.against(b.Subject, b.Key)
		d.Others.KeepPublishing(now, b.Subject)
		for _, r := range d.Others.Of(now, b.Subject) {
			if a := r.Of(b.Key); a != nil {
				bad += a.Causes[sidecar.NoSuchUser] + a.Causes[sidecar.CalledSpam]
			}
		}
		if now.Sub(b.Since) > wait && f.of(sentBy(by, b.Key), bad).calm() {
			d.Authors.Forgive(ctx, now, b.Key, b.Subject)
		}
	}
}

func sentBy(by []AuthorSent, key string) int64 {
	for _, a := range by {
		if a.Key == key {
			return a.Sent
		}
	}
	return 0
}

// against returns how many sends of an author are bad for a cause that speaks against it,
// whether they are held against the subject or not.
func (b *badSends) against(subject, key string) (n int64) {
	b.each(subject, func(s badSend) {
		if s.Author == key && s.speaksAgainst() {
			n++
		}
	})
	return n
}
