package redisstore

import (
	"context"
	"fmt"
	"sluice/ratelimit"
	"strings"
	"sync"
	"time"
)

// sights are the uses that were last seen in Redis: of all limits of which at
// least half is used, here or on another node.
type sights struct {
	mu   sync.Mutex
	uses map[sightKey]sight
	news map[sightKey]sight // seen here since the last feed
}

type sightKey struct {
	subject string
	window  time.Duration
}

type sight struct {
	used int64
	till time.Time // when all of it has left the window
}

// see takes over what Redis answered.
func (s *sights) see(now time.Time, uses []ratelimit.Use) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, u := range uses {
		key := sightKey{u.Subject, u.Limit.Window}
		old, had := s.uses[key]
		half := u.Limit.Max > 0 && 2*u.Used >= u.Limit.Max
		if !half && !had || half && had && old.used == u.Used {
			continue
		}
		fresh := sight{used: u.Used, till: now.Add(u.Limit.Window + u.Limit.Window/60)}
		s.set(key, fresh, half)
		if s.news == nil {
			s.news = map[sightKey]sight{}
		}
		if !half {
			fresh.used = 0
		}
		s.news[key] = fresh
	}
}

// merged takes over the uses of what was just merged: without that, a node that
// is cut off again at once would have the same share once more.
func (s *sights) merged(now time.Time, uses []ratelimit.Use) {
	for i := range uses {
		uses[i].Limit.Max = max(1, uses[i].Used) // the limits are not known here: take them for used up
	}
	s.see(now, uses)
}

// set keeps a sight, or forgets it. mu is held.
func (s *sights) set(key sightKey, v sight, keep bool) {
	if s.uses == nil {
		s.uses = map[sightKey]sight{}
	}
	if keep {
		s.uses[key] = v
	} else {
		delete(s.uses, key)
	}
}

// used is the use last seen of a limit, 0 if it was below half.
func (s *sights) used(subject string, window time.Duration) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.uses[sightKey{subject, window}].used
}

// prune forgets sights of what has left the window.
func (s *sights) prune(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, v := range s.uses {
		if now.After(v.till) {
			delete(s.uses, key)
		}
	}
}

// useKey begins the keys of the board that tell uses of at least half a limit.
const useKey = "use/"

func (k sightKey) key() string {
	return fmt.Sprintf("%s%d/%s", useKey, k.window.Milliseconds(), k.subject)
}

// runFeed shares once a second which subjects have used half of a limit, and
// reads what changed on the board: at once where Redis tells, and at the latest
// once a second.
func (s *Store) runFeed(ctx context.Context) {
	told := make(chan struct{}, 1)
	var listener sync.WaitGroup
	defer listener.Wait()
	listener.Go(func() { s.listen(ctx, told) })
	tick := time.NewTicker(beatEvery / 2)
	defer tick.Stop()
	for {
		short, cancel := context.WithTimeout(ctx, 2*s.options.Timeout)
		s.poll(short)
		cancel()
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-tick.C:
			now := s.clock.now()
			s.sights.prune(now)
			s.board.prune(time.Now())
			s.arrears.counts.Horizon(now)
			s.arrears.counts.Sweep()
			s.feed(ctx, now)
		}
	}
}

// listen passes on that the board changed. A message that is missed costs no
// more than the time until the next poll.
func (s *Store) listen(ctx context.Context, told chan<- struct{}) {
	for ctx.Err() == nil {
		if l := s.servers.of(boardSlot); l != nil && l.alive() {
			sub := l.client.Subscribe(ctx, boardKeys[0])
			messages := sub.Channel()
			for open := true; open && l.alive(); {
				select {
				case <-ctx.Done():
					open = false
				case _, open = <-messages:
					select {
					case told <- struct{}{}:
					default:
					}
				case <-time.After(beatEvery):
				}
			}
			sub.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

// feed puts on the board what was seen since the last time.
func (s *Store) feed(ctx context.Context, now time.Time) {
	l := s.servers.of(boardSlot)
	if l == nil || !l.alive() {
		return
	}
	var args []any
	for key, v := range s.sights.takeNews() {
		args = append(args, key.key(), useValue(v.used), -1, max(1, v.till.Sub(now).Milliseconds()))
	}
	for len(args) > 0 {
		n := min(len(args), 4*boardPage)
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		l.run(short, []call{boardCall("put", args[:n]...)}) // what is lost is seen again
		cancel()
		args = args[n:]
	}
}

func useValue(used int64) string {
	if used == 0 {
		return ""
	}
	return fmt.Sprint(used)
}

func (s *sights) takeNews() map[sightKey]sight {
	s.mu.Lock()
	defer s.mu.Unlock()
	news := s.news
	s.news = nil
	return news
}

// learn takes over what another node saw.
func (s *sights) learn(now time.Time, e Entry) {
	var ms int64
	if _, err := fmt.Sscanf(strings.TrimPrefix(e.Key, useKey), "%d/", &ms); err != nil {
		return
	}
	_, subject, _ := strings.Cut(strings.TrimPrefix(e.Key, useKey), "/")
	v := sight{till: now.Add(time.Until(e.Till))}
	fmt.Sscan(string(e.Value), &v.used)
	key := sightKey{subject, time.Duration(ms) * time.Millisecond}
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, had := s.uses[key]; had && v.used > 0 && old.used > v.used {
		return // seen here since
	}
	s.set(key, v, v.used > 0)
}
