package redisstore

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	beatEvery = time.Second

	// replayWait is how long a new server waits for the nodes that have not
	// told it yet what they accepted.
	replayWait = 3 * time.Second

	noteServer = "redis/server/"
)

// Run keeps the store in touch with Redis until ctx is done: it gives signs of
// life, finds out when Redis answers again, and then tells it what it missed.
func (s *Store) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	all.Go(func() { s.runMerge(ctx) })
	all.Go(func() { s.runFeed(ctx) })
	running := map[*link]bool{}
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	next := time.Time{}
	for {
		if now := time.Now(); s.servers.one == nil && now.After(next) {
			short, cancel := context.WithTimeout(ctx, s.options.Timeout)
			if err := s.servers.refresh(short); err == nil {
				next = now.Add(beatEvery)
			}
			cancel()
		}
		for _, l := range s.servers.masters() {
			if !running[l] {
				running[l] = true
				all.Go(func() { s.runLink(ctx, l) })
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// kick has what is to be told looked at now.
func (s *Store) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Store) linkChanged(l *link) { s.kick() }

// runLink keeps in touch with one master.
func (s *Store) runLink(ctx context.Context, l *link) {
	tick := time.NewTicker(retryEvery)
	defer tick.Stop()
	var last time.Time
	for {
		if now := time.Now(); !l.ready.Load() || now.Sub(last) >= beatEvery {
			last = now
			s.announce(l, s.tend(ctx, l))
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

// announce tells operators that a master decides again, or no longer. err is
// why it does not, if that is known.
func (s *Store) announce(l *link, err error) {
	now := time.Now()
	switch ready := l.ready.Load(); {
	case l.said && !ready:
		l.said = false
		l.turned(now)
		s.changes.Add(1)
		s.report.RedisLost(l.name, string(s.options.Outage), l.reason(err))
	case !l.said && ready:
		l.said, l.joined = true, true
		s.changes.Add(1)
		s.report.RedisBack(l.name, now.Sub(l.turned(now)))
	}
}

// tend gives a sign to one master; where that works and the node does not yet
// work with it, it catches up.
func (s *Store) tend(ctx context.Context, l *link) error {
	short, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	epoch := l.epoch.Load()
	server := l.serverNow()
	if _, err := s.beat(short, l, s.replayed(server)); err != nil {
		if l.epoch.Load() == epoch { // not only that it is another server now
			return err
		}
		server = l.serverNow()
	}
	s.checkEviction(short, l)
	if l.ready.Load() {
		return s.widen(ctx)
	}
	if l.alive() {
		s.merge(ctx)
		return nil
	}
	if l.joined {
		s.announce(l, nil)
	}
	if !s.replayed(server) {
		if err := s.replay(ctx, l, server); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.caught = server
	l.mu.Unlock()
	s.merge(ctx)
	return nil
}

// checkEviction asks what the server does when its memory is full, each time anew:
// an operator who is told to change that does so while it runs.
func (s *Store) checkEviction(ctx context.Context, l *link) {
	info, err := l.client.Info(ctx, "memory").Result()
	if err != nil {
		return // the signs of life tell whether it answers
	}
	policy := fieldsOf(info)["maxmemory_policy"]
	l.mu.Lock()
	l.policy = policy
	l.mu.Unlock()
	if evicts(policy) && l.warned != policy {
		s.report.RedisEvicts(l.name, policy)
	}
	l.warned = policy
}

// rejoin makes the link ready, if the server is still the one that was told all.
func (l *link) rejoin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == "" || l.caught != l.server || l.open.Load() || l.refuses.Load() {
		return
	}
	l.ready.Store(true)
	if l.open.Load() || l.refuses.Load() { // since a moment ago
		l.ready.Store(false)
	}
}

// alive tells whether the server answers and was told what was accepted before
// it was met.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server != "" && l.caught == l.server && !l.open.Load() && !l.refuses.Load()
}

func (l *link) serverNow() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server
}

// turned notes since when the link is as it is, and returns what it was before.
func (l *link) turned(at time.Time) (before time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	before, l.since = l.since, at
	return before
}

// reason is why the link is not ready.
func (l *link) reason(err error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil || errors.Is(err, errUnsent) && l.trouble != nil {
		err = l.trouble
	}
	if err == nil {
		err = errors.New("it is another server, which does not know the counts yet")
	}
	return err
}
