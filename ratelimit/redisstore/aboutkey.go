package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/ratelimit/redisurl"
)

// Some answers of a server are about the keys of one call, and say nothing against the
// server, which decides all else. A Cluster may have moved the slot of the keys; then the
// call is made where they are now. Otherwise these keys alone are decided without Redis,
// and what is accepted for them waits in the outbox.

// elsewhere has how the answers begin with which a Cluster does not run a call at all (Redis
// Cluster specification, "Redirection and resharding"). While a slot is on the way from one
// master to another, neither has all of its keys, so that ASK and TRYAGAIN are not followed.
// go-redis's client for Clusters, which is not used here, follows ASK: where the records of
// some sends had not moved yet, it had them charged twice, and then they could not be moved.
var elsewhere = []string{"MOVED", "ASK", "TRYAGAIN", "CROSSSLOT", "CLUSTERDOWN Hash slot not served"}

// unusable has how the answers begin with which no call with these keys will ever succeed:
// somebody else has written there. A script that meets what it cannot read fails in
// "user_script:LINE".
var unusable = []string{"WRONGTYPE", "CROSSSLOT", "user_script"}

// moving is what a script answers that meets a key that has just gone to another master.
const moving = "Script attempted to access a non local key"

// keyRetryEvery is after how long something is merged again that failed by its keys.
const keyRetryEvery = time.Second

// badKeyFor is for how long Status has a key that could not be used.
const badKeyFor = time.Minute

func beginsWith(err error, codes ...string) bool {
	return slices.ContainsFunc(codes, func(code string) bool { return redis.HasErrorPrefix(err, code) })
}

// aboutKey reports whether an error is about the keys of a call, and not about the
// server. One that is no Cluster but tells of slots is none that can be used.
func (l *link) aboutKey(err error) bool {
	return beginsWith(err, unusable...) || l.kind == redisurl.Cluster && beginsWith(err, append(elsewhere, moving)...)
}

// explain adds to an error what was asked of whom.
func (l *link) explain(c *call, err error) error {
	keys := strings.Join(slices.Compact(slices.Sorted(slices.Values(c.keys))), " and ")
	switch {
	case l.kind == redisurl.Cluster && beginsWith(err, elsewhere...):
		return fmt.Errorf("ask %s about %s: %w: %w", l.name, keys, errUnsent, err)
	case l.aboutKey(err):
		return fmt.Errorf("ask %s about %s: %w", l.name, keys, err)
	case beginsWith(err, elsewhere...):
		return fmt.Errorf("ask %s: it is one server of a Redis Cluster: write redis-cluster:// in store.url: %w", l.name, err)
	}
	return askError(l.name, l.timeout, l.serverNow() == "", err)
}

// keyFailed has the layout of the Cluster read anew, or tells operators of a key that cannot
// be used.
func (s *Store) keyFailed(l *link, err error) {
	if !beginsWith(err, unusable...) {
		signal(s.servers.stale)
		return
	}
	l.mu.Lock()
	l.badKey, l.badKeyAt = err, time.Now()
	l.mu.Unlock()
	s.report.RedisKeyUnusable(l.name, err)
}

// follow makes a call once more after err, if the slot of its keys has moved to another
// master that decides.
func (s *Store) follow(deadline time.Time, st *step, c call, err error) (any, error) {
	if st.link.kind != redisurl.Cluster || !beginsWith(err, "MOVED") {
		return nil, err
	}
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	if s.servers.refreshUnless(ctx, func() bool { return s.linkOfStep(st) != st.link }) != nil {
		return nil, err
	}
	if l := s.linkOfStep(st); l != nil && l != st.link && l.ready.Load() {
		st.link = l
		return l.do(deadline, c)
	}
	return nil, err
}

// linkOfStep is where the subjects of a step are now.
func (s *Store) linkOfStep(st *step) *link { return s.servers.linkOf(slotOf(st.subjects[0].Name)) }
