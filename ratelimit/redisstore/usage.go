package redisstore

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
)

// sights are the uses that were last seen in Redis: of all limits of which at
// least half is used, here or on another node.
type sights struct {
	urgent chan struct{} // something was reset, or is full

	mu     sync.Mutex
	uses   map[sightKey]sight
	news   map[sightKey]sight   // seen here since the last feed
	resets map[string]resetNews // subjects that were reset here since
	epochs map[string]int64     // of subjects, by Redis's clock, where they are not 0
}

// A resetNews is a reset that others are to be told of.
type resetNews struct {
	at    time.Time
	epoch int64 // by Redis's clock, as far as this node knows
}

type sightKey struct {
	subject string
	window  time.Duration
}

type sight struct {
	used int64
	full bool
	at   int64     // by Redis's clock, milliseconds
	till time.Time // when all of it has left the window
}

// String is the use, when that was, and whether it is the limit: "15 1700000000000"
// or "20 1700000000000 full". The use is 0 for less than half.
func (v sight) String() string {
	text := fmt.Sprintf("%d %d", v.used, v.at)
	if v.full {
		text += " full"
	}
	return text
}

func (v *sight) parse(text string) {
	fmt.Sscan(text, &v.used, &v.at)
	v.full = strings.HasSuffix(text, " full")
}

// before tells whether a sight is overtaken by another one. Those of one
// millisecond only grow.
func (v sight) before(o sight) bool { return v.at < o.at || v.at == o.at && v.used < o.used }

func newSights() *sights {
	return &sights{urgent: make(chan struct{}, 1), uses: map[sightKey]sight{}, news: map[sightKey]sight{}, resets: map[string]resetNews{}, epochs: map[string]int64{}}
}

// see takes over what Redis answered. turned are the subjects that by now have
// reached a limit, or are below it again.
func (s *sights) see(now time.Time, r ratelimit.Result) (turned []string) {
	for _, u := range r.Uses {
		if s.seeOne(now, r.At.UnixMilli(), u, u.Limit.Max > 0 && 2*u.Used >= u.Limit.Max, u.Limit.Max > 0 && u.Used >= u.Limit.Max) {
			turned = append(turned, u.Subject)
		}
	}
	return turned
}

// merged takes over the uses of what was just merged: without that, a node that
// is cut off again at once would have the same share once more. The limits are
// not known then, and each use may have reached its own.
func (s *sights) merged(now time.Time, r ratelimit.Result) (turned []string) {
	for _, u := range r.Uses {
		if s.seeOne(now, r.At.UnixMilli(), u, u.Used > 0, u.Used > 0) {
			turned = append(turned, u.Subject)
		}
	}
	return turned
}

// seeOne takes over one use, and tells whether it has turned. Answers may come
// out of their order.
func (s *sights) seeOne(now time.Time, at int64, u ratelimit.Use, half, full bool) (turned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if u.Epoch > s.epochs[u.Subject] {
		s.epochs[strings.Clone(u.Subject)] = u.Epoch // a clone, for it may be a part of a request
	}
	key := sightKey{u.Subject, u.Limit.Window}
	old, had := s.uses[key]
	if !half && !had || half && had && old.used == u.Used && old.full == full || had && (sight{used: u.Used, at: at}).before(old) {
		return false
	}
	v := sight{at: at, till: now.Add(u.Limit.Window + u.Limit.Window/60)}
	if half {
		v.used, v.full = u.Used, full
	}
	key.subject = strings.Clone(key.subject)
	s.set(key, v)
	s.news[key] = v
	turned = v.turned(old)
	if turned && v.full {
		s.hurry()
	}
	return turned
}

// hurry has others told at once.
func (s *sights) hurry() {
	select {
	case s.urgent <- struct{}{}:
	default:
	}
}

// turned tells whether a use is full that was not, or the other way round. One
// that is fuller than it was may have been below its limit in between, or have
// been taken for full before it was.
func (v sight) turned(old sight) bool {
	return v.full != old.full || v.full && v.used != old.used
}

// set keeps a sight, or forgets it. mu is held.
func (s *sights) set(key sightKey, v sight) {
	if v.used > 0 {
		s.uses[key] = v
	} else {
		delete(s.uses, key)
	}
}

// learn takes over what another node saw, and tells whether it changes anything
// for the subject's locks. Where this node saw more since, and only told it
// before that node did, it tells so again.
func (s *sights) learn(key sightKey, v sight) (turned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, had := s.uses[key]
	if had && v.before(old) {
		s.news[key] = old
		return false
	}
	s.set(key, v)
	return v.turned(old)
}

// takeNews takes off what is to be told others.
func (s *sights) takeNews() (news map[sightKey]sight, resets map[string]resetNews) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news, resets = s.news, s.resets
	s.news, s.resets = map[sightKey]sight{}, map[string]resetNews{}
	return news, resets
}

// putBack keeps what could not be told, unless there is something newer.
func (s *sights) putBack(news map[sightKey]sight, resets map[string]resetNews) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(news, s.news)
	maps.Copy(resets, s.resets)
	s.news, s.resets = news, resets
}

// forget forgets what was used by a subject up to its reset.
func (s *sights) forget(subject string, epoch int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := func(key sightKey, v sight) bool { return key.subject == subject && v.at <= epoch }
	maps.DeleteFunc(s.uses, before)
	maps.DeleteFunc(s.news, before)
}

// reset notes that a subject was reset here, and has others told.
func (s *sights) reset(now time.Time, subject string, epoch int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.resets[subject] = resetNews{now, epoch}
	s.epochs[subject] = max(s.epochs[subject], epoch)
	s.hurry()
}

// setEpoch notes which epoch Redis has.
func (s *sights) setEpoch(subject string, epoch int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.epochs[subject] = epoch
}

func (s *sights) epoch(subject string) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.epochs[subject]
}

// used is the use last seen of a limit, 0 if it was below half.
func (s *sights) used(subject string, window time.Duration) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses[sightKey{subject, window}].used
}

// subjects are those of which something was seen.
func (s *sights) subjects() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := map[string]bool{}
	for key := range s.uses {
		all[key.subject] = true
	}
	return all
}

// prune forgets sights of what has left the window.
func (s *sights) prune(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.uses, func(_ sightKey, v sight) bool { return now.After(v.till) })
}
