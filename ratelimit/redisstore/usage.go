package redisstore

import (
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
)

// A usageCache has the uses last seen in Redis, by this or another node, of all limits
// of which at least half is used.
type usageCache struct {
	urgent chan struct{} // has an element if there is a reset or a full limit to publish

	mu     sync.Mutex
	uses   map[usageKey]usage
	unsent map[usageKey]usage    // seen by this node and not published yet
	resets map[string]localReset // subjects reset by this node and not published yet
	epochs map[string]int64      // of subjects that were reset, by Redis's clock
	again  map[string]bool       // subjects of which only a part was counted when they were seen
}

// A localReset is a reset to be published.
type localReset struct {
	at    time.Time
	epoch int64 // by Redis's clock, as far as this node knows it
}

type usageKey struct {
	subject string
	window  time.Duration
}

type usage struct {
	used int64
	full bool
	at   int64     // when it was seen, by Redis's clock, milliseconds
	till time.Time // when all of these sends will have left the window
}

// String is used, at, and whether the limit is reached, for the board:
// "15 1700000000000" or "20 1700000000000 full". Less than half of a limit is 0.
func (v usage) String() string {
	text := fmt.Sprintf("%d %d", v.used, v.at)
	if v.full {
		text += " full"
	}
	return text
}

func (v *usage) parse(text string) {
	fmt.Sscan(text, &v.used, &v.at)
	v.full = strings.HasSuffix(text, " full")
}

// olderThan reports whether another usage was seen later. Within a millisecond that is
// the larger one.
func (v usage) olderThan(o usage) bool { return v.at < o.at || v.at == o.at && v.used < o.used }

func newUsageCache() *usageCache {
	return &usageCache{urgent: make(chan struct{}, 1), uses: map[usageKey]usage{}, unsent: map[usageKey]usage{}, resets: map[string]localReset{},
		epochs: map[string]int64{}, again: map[string]bool{}}
}

// observe takes an answer of Redis. changed are the subjects that have reached a
// limit, or are below it again. What Redis has counted may not be complete yet: then only
// more than was seen before counts, and the subjects are to be looked at again.
func (c *usageCache) observe(now time.Time, r ratelimit.Result, complete bool) (changed []string) {
	for _, u := range r.Uses {
		half, full := u.Limit.Max > 0 && 2*u.Used >= u.Limit.Max, u.Limit.Max > 0 && u.Used >= u.Limit.Max
		if c.counts(u, complete) && c.observeUse(now, r.At.UnixMilli(), u, half, full) {
			changed = append(changed, u.Subject)
		}
	}
	return changed
}

// observeMerged takes the answer to a charge that was just merged: without it, a node
// that is cut off again at once would have the same share a second time. The answer
// has no limits, so that any use may be at its limit.
func (c *usageCache) observeMerged(now time.Time, r ratelimit.Result, complete bool) (changed []string) {
	for _, u := range r.Uses {
		if c.counts(u, complete) && c.observeUse(now, r.At.UnixMilli(), u, u.Used > 0, u.Used > 0) {
			changed = append(changed, u.Subject)
		}
	}
	return changed
}

// counts reports whether a use is to be observed. One that is not complete is noted in again.
func (c *usageCache) counts(u ratelimit.Use, complete bool) bool {
	if complete {
		return true
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.again[strings.Clone(u.Subject)] = true
	return u.Used >= c.uses[usageKey{u.Subject, u.Limit.Window}].used
}

// takeAgain returns and clears which subjects are to be looked at again.
func (c *usageCache) takeAgain() (names map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	names, c.again = c.again, map[string]bool{}
	return names
}

// putAgain has subjects looked at again after all.
func (c *usageCache) putAgain(names map[string]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(c.again, names)
}

// observeUse takes one use, and reports whether its limit was reached or has room
// again. Answers may come out of order.
func (c *usageCache) observeUse(now time.Time, at int64, u ratelimit.Use, half, full bool) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if u.Epoch > c.epochs[u.Subject] {
		c.epochs[strings.Clone(u.Subject)] = u.Epoch // cloned: the name may be part of a larger request
	}
	key := usageKey{u.Subject, u.Limit.Window}
	old, had := c.uses[key]
	if !half && !had || half && had && old.used == u.Used && old.full == full || had && (usage{used: u.Used, at: at}).olderThan(old) {
		return false
	}
	v := usage{at: at, till: now.Add(u.Limit.Window + u.Limit.Window/60)}
	if half {
		v.used, v.full = u.Used, full
	}
	key.subject = strings.Clone(key.subject)
	c.set(key, v)
	c.unsent[key] = v
	changed = v.changedFrom(old)
	if changed && v.full {
		signal(c.urgent)
	}
	return changed
}

// changedFrom reports whether a limit was reached, or has room again. If it is full as
// before with another use, it may have had room in between, or may not have been full
// before: observeMerged only assumes that.
func (v usage) changedFrom(old usage) bool {
	return v.full != old.full || v.full && v.used != old.used
}

// set sets a usage; 0 removes it. mu is held.
func (c *usageCache) set(key usageKey, v usage) {
	if v.used > 0 {
		c.uses[key] = v
	} else {
		delete(c.uses, key)
	}
}

// receive takes what another node has published, and reports whether a limit was
// reached or has room again. If this node has seen a later usage, it publishes that
// again, for the other node has overwritten it.
func (c *usageCache) receive(key usageKey, v usage) (changed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old, had := c.uses[key]
	if had && v.olderThan(old) {
		c.unsent[key] = old
		return false
	}
	c.set(key, v)
	return v.changedFrom(old)
}

// takeUnsent returns and clears what is to be published.
func (c *usageCache) takeUnsent() (unsent map[usageKey]usage, resets map[string]localReset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	unsent, resets = c.unsent, c.resets
	c.unsent, c.resets = map[usageKey]usage{}, map[string]localReset{}
	return unsent, resets
}

// putBack puts back what could not be published, unless there is something newer.
func (c *usageCache) putBack(unsent map[usageKey]usage, resets map[string]localReset) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.Copy(unsent, c.unsent)
	maps.Copy(resets, c.resets)
	c.unsent, c.resets = unsent, resets
}

// forget removes the uses of a subject that were seen up to its reset.
func (c *usageCache) forget(subject string, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := func(key usageKey, v usage) bool { return key.subject == subject && v.at <= epoch }
	maps.DeleteFunc(c.uses, before)
	maps.DeleteFunc(c.unsent, before)
}

// reset has a reset by this node published.
func (c *usageCache) reset(now time.Time, subject string, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.resets[subject] = localReset{now, epoch}
	c.epochs[subject] = max(c.epochs[subject], epoch)
	signal(c.urgent)
}

// setEpoch sets the epoch that Redis has.
func (c *usageCache) setEpoch(subject string, epoch int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.epochs[subject] = epoch
}

func (c *usageCache) epoch(subject string) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.epochs[subject]
}

// used is the use of a limit that was last seen; 0 if it was below half.
func (c *usageCache) used(subject string, window time.Duration) int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.uses[usageKey{subject, window}].used
}

// subjects returns the subjects of which half a limit is used.
func (c *usageCache) subjects() map[string]bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := map[string]bool{}
	for key := range c.uses {
		all[key.subject] = true
	}
	return all
}

// prune removes uses whose sends have left the window.
func (c *usageCache) prune(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	maps.DeleteFunc(c.uses, func(_ usageKey, v usage) bool { return now.After(v.till) })
}
