package redisstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// The keys of the board that tell uses of at least half a limit, and resets.
const (
	useKey   = "use/"
	resetKey = "reset/"
)

func (k sightKey) key() string {
	return fmt.Sprintf("%s%d/%s", useKey, k.window.Milliseconds(), k.subject)
}

// runFeed shares twice a second which subjects have used half of a limit, and at
// once what has reached one or was reset. It reads what changed on the board: at
// once where Redis tells, and at the latest after half a second.
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
		case <-s.sights.urgent:
			s.feed(ctx)
		case <-tick.C:
			now := s.clock.now()
			s.sights.prune(now)
			s.board.prune(time.Now())
			s.arrears.counts.Horizon(now)
			s.arrears.counts.Sweep()
			s.feed(ctx)
		}
	}
}

// listen passes on that the board changed. A message that is missed costs no
// more than the time until the next poll.
func (s *Store) listen(ctx context.Context, told chan<- struct{}) {
	for ctx.Err() == nil {
		if l := s.servers.of(boardSlot); l != nil && l.alive() {
			s.listenTo(ctx, l, told)
		}
		select {
		case <-ctx.Done():
		case <-time.After(retryEvery):
		}
	}
}

func (s *Store) listenTo(ctx context.Context, l *link, told chan<- struct{}) {
	sub := l.client.Subscribe(ctx, boardKeys[0])
	defer sub.Close()
	messages := sub.Channel()
	for l.alive() {
		select {
		case <-ctx.Done():
			return
		case _, open := <-messages:
			if !open {
				return
			}
			select {
			case told <- struct{}{}:
			default:
			}
		case <-time.After(beatEvery):
		}
	}
}

// feed puts on the board what was seen and reset since the last time, what is
// urgent first.
func (s *Store) feed(ctx context.Context) {
	l := s.servers.of(boardSlot)
	if l == nil || !l.alive() {
		return
	}
	news, resets := s.sights.takeNews()
	now := s.clock.now()
	var args []any
	for subject, r := range resets {
		// Until Redis has it, time passes: better it is taken for older than it is.
		age := now.Sub(r.at) + s.options.Timeout
		value := fmt.Sprintf("%d %s %d", (removedFor + age).Milliseconds(), s.options.Node, r.epoch)
		args = append(args, resetKey+subject, value, removedFor.Milliseconds())
	}
	for key, v := range news {
		args = append(args, key.key(), v.String(), max(1, v.till.Sub(now).Milliseconds()))
	}
	for len(args) > 0 {
		n := min(len(args), 3*boardPage)
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		_, errs := l.run(short, []call{boardCall("put", args[:n]...)})
		cancel()
		if errs[0] != nil {
			s.sights.putBack(news, resets)
			return
		}
		args = args[n:]
	}
}

// learnUse takes over what another node saw.
func (s *Store) learnUse(key string, e entry) {
	length, subject, _ := strings.Cut(strings.TrimPrefix(key, useKey), "/")
	var ms int64
	if _, err := fmt.Sscan(length, &ms); err != nil {
		return
	}
	v := sight{till: s.clock.now().Add(time.Until(e.Till))}
	v.parse(string(e.Value))
	if s.sights.learn(sightKey{subject, time.Duration(ms) * time.Millisecond}, v) {
		s.turned(subject)
	}
}

// learnReset takes over that another node has reset a subject. The entry lives
// for a known time, so that its age is by Redis's clock.
func (s *Store) learnReset(subject string, e entry) {
	var ms, epoch int64
	var node string
	if _, err := fmt.Sscan(string(e.Value), &ms, &node, &epoch); err != nil || node == s.options.Node {
		return
	}
	now := s.clock.now()
	age := max(0, time.Duration(ms)*time.Millisecond-time.Until(e.Till))
	// Ages are not exact, and after a start the whole board is news.
	if known := time.UnixMilli(s.ledger.Standing(now, subject).Epoch); now.Add(-age).Sub(known) < 2*time.Second {
		return
	}
	s.arrears.counts.ResetAsOf(now, subject, age)
	s.sights.forget(subject, epoch)
	s.ledger.ResetAsOf(now, subject, age)
	s.turned(subject)
}

func (s *Store) turned(subjects ...string) {
	if s.options.Turned == nil {
		return
	}
	for _, subject := range subjects {
		s.options.Turned(subject)
	}
}
