package redisstore

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	beatEvery = time.Second

	// replayWait is how long this node waits for the others to give a new server what they
	// accepted, before it lets the server decide.
	replayWait = 3 * time.Second

	noteServer = "redis/server/"
)

// Run keeps the store connected until ctx is done: it sends heartbeats, finds out when
// Redis answers again, and then merges the outbox.
func (s *Store) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.servers.stalls.run(ctx, s.options.Timeout) })
	all.Go(func() { s.runMerge(ctx) })
	all.Go(func() { s.runPublish(ctx) })
	running := map[*link]bool{}
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	var next, lost time.Time
	for ctx.Err() == nil {
		if now := time.Now(); s.servers.single == nil && now.After(next) && s.servers.refresh(ctx) == nil {
			next = now.Add(beatEvery)
		}
		if ctx.Err() == nil {
			lost = s.announceLayout(lost)
		}
		for _, l := range s.servers.masters() {
			if !running[l] {
				running[l] = true
				all.Go(func() { s.runLink(ctx, l) })
			}
		}
		select {
		case <-ctx.Done():
		case <-s.servers.stale:
			next = time.Time{}
		case <-tick.C:
		}
	}
	return nil
}

// announceLayout reports to operators what keeps the masters of a Cluster from being
// known, and when they are and all decide. lost is since when that is reported; zero: it
// is not.
func (s *Store) announceLayout(lost time.Time) (since time.Time) {
	since, trouble := s.servers.why()
	switch {
	case trouble != nil && lost.IsZero():
		s.modeChanges.Add(1)
		s.report.RedisLost(s.servers.name(), string(s.options.Outage), trouble)
		return since
	case trouble == nil && !lost.IsZero() && s.mode() == modeShared:
		s.modeChanges.Add(1)
		s.report.RedisBack(s.servers.name(), time.Since(lost))
		return time.Time{}
	}
	return lost
}

// wakeMerge has runMerge merge the outbox now.
func (s *Store) wakeMerge() { signal(s.wake) }

// signal puts an element in a channel of capacity 1, if there is none.
func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// runLink sends heartbeats to one master, and announces when it is lost or back.
func (s *Store) runLink(ctx context.Context, l *link) {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	var last time.Time
	for {
		if now := time.Now(); !l.ready.Load() || now.Sub(last) >= beatEvery {
			last = now
			s.announce(l, s.heartbeat(ctx, l))
		} else {
			s.announce(l, nil)
		}
		select {
		case <-ctx.Done():
			return
		case <-l.lost:
			s.announce(l, nil)
		case <-tick.C:
		}
	}
}

// announce reports to operators that a master decides again, or no longer. err is why
// it does not, if known.
func (s *Store) announce(l *link, err error) {
	now := time.Now()
	switch ready := l.ready.Load(); {
	case l.announcedReady && !ready:
		l.announcedReady = false
		l.setSince(now)
		s.modeChanges.Add(1)
		if !s.onlyNamesake([]step{{link: l}}) { // which is reported as such
			s.announceLost(l, l.reason(err))
		}
	case !ready && l.announcedVague && err != nil && !vague(l.reason(err)):
		s.announceLost(l, l.reason(err))
	case !l.announcedReady && ready:
		l.announcedReady, l.everReady = true, true
		s.modeChanges.Add(1)
		s.report.RedisBack(l.name, now.Sub(l.setSince(now)))
	}
}

// announceLost reports to operators why a master does not decide. If that is no more than
// that it was silent, and it says more later, that is reported too.
func (s *Store) announceLost(l *link, reason error) {
	l.announcedVague = vague(reason)
	s.report.RedisLost(l.name, string(s.options.Outage), reason)
}

// vague reports whether an error says only that there was no answer.
func vague(err error) bool {
	var late interface{ Timeout() bool }
	return errors.As(err, &late) && late.Timeout() && !isBlocked(err) || errors.Is(err, errUnsent)
}

// heartbeat sends a sign of life to one master. If that succeeds and the master does not
// decide, it catches up with it.
func (s *Store) heartbeat(ctx context.Context, l *link) error {
	short, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	changes := l.serverChanges.Load()
	_, err := s.beat(short, l)
	if err != nil && !l.aboutKey(err) && l.serverChanges.Load() == changes { // else it is another server now
		return err
	}
	s.checkEviction(short, l)
	if !l.ready.Load() {
		if err := s.catchUp(ctx, l); err != nil {
			return err
		}
	}
	return errors.Join(s.lookAgain(ctx), s.extendRetention(ctx))
}

// checkEviction asks what the server does when its memory is full. It asks with every
// heartbeat, because operators can change that while the server runs.
func (s *Store) checkEviction(ctx context.Context, l *link) {
	info, err := l.client.Info(ctx, "memory").Result()
	if err != nil {
		return // the next heartbeat will fail too
	}
	policy := fieldsOf(info)["maxmemory_policy"]
	l.mu.Lock()
	l.policy = policy
	l.mu.Unlock()
	if evicts(policy) && l.warnedPolicy != policy {
		s.report.RedisEvicts(l.name, policy)
	}
	l.warnedPolicy = policy
}

// rejoin makes the link ready, if what its server has counted is complete.
func (l *link) rejoin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stage < complete || !l.answers() {
		return
	}
	l.ready.Store(true)
	if !l.answers() { // it may have failed just now
		l.ready.Store(false)
	}
}

// alive reports whether the server answers and has had a replay, so that the outbox can
// be merged.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stage >= replayed && l.answers()
}

func (l *link) serverNow() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server
}

// setSince sets since when the link is in its state, and returns the time before.
func (l *link) setSince(at time.Time) (before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.since = l.since, at
	return before
}

// reason is why the link is not ready.
func (l *link) reason(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil || errors.Is(err, errUnsent) && l.lastError != nil {
		err = l.lastError
	}
	if err == nil {
		err = errors.New("it is another server, which does not know the counts yet")
	}
	return err
}
