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

// ageSlack is by how much the ages of one reset may differ that is heard of twice.
const ageSlack = 100 * time.Millisecond

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
	args, err := s.resetArgs(ctx, l, resets)
	if err != nil {
		s.sights.putBack(news, resets)
		return
	}
	for key, v := range news {
		args = append(args, key.key(), v.String(), max(1, v.till.Sub(s.clock.now()).Milliseconds()))
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

// resetArgs are what tells others of resets. An entry ends a known time after the
// reset, so that each node reads its age by Redis's clock, also on another server:
// to within two round trips, and rather as older than it is.
func (s *Store) resetArgs(ctx context.Context, l *link, resets map[string]resetNews) (args []any, err error) {
	if len(resets) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.options.Timeout)
	defer cancel()
	reply, err := l.runOne(ctx, boardCall("time"))
	if err != nil {
		return nil, err
	}
	times, err := integers(reply)
	if err != nil || len(times) != 1 {
		return nil, errReply
	}
	now := s.clock.now()
	for subject, r := range resets {
		till := times[0] + (removedFor - now.Sub(r.at)).Milliseconds()
		args = append(args, resetKey+subject, fmt.Sprintf("%s %d", s.options.Node, r.epoch), -till)
	}
	return args, nil
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

// learnReset takes over that another node has reset a subject.
func (s *Store) learnReset(subject string, e entry) {
	var node string
	var epoch int64
	if _, err := fmt.Sscan(string(e.Value), &node, &epoch); err != nil || node == s.options.Node {
		return
	}
	now := s.clock.now()
	age := max(0, removedFor-time.Until(e.Till))
	// Ages are not exact, and after a start the whole board is news.
	if known := time.UnixMilli(s.ledger.Standing(now, subject).Epoch); now.Add(-age).Sub(known) < ageSlack {
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
