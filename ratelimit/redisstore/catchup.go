package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"sluice/ratelimit"
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
	said := true // operators know it to be ready
	var since, last time.Time
	for {
		now := time.Now()
		var err error
		if !l.ready.Load() || now.Sub(last) >= beatEvery {
			err, last = s.tend(ctx, l), now
		}
		switch ready := l.ready.Load(); {
		case said && !ready:
			said, since = false, now
			l.turned(now)
			s.report.RedisLost(l.name, s.options.Outage, l.reason(err))
		case !said && ready:
			said = true
			l.turned(time.Now())
			s.report.RedisBack(l.name, time.Since(since))
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
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
		epoch, server = l.epoch.Load(), l.serverNow()
	}
	if l.ready.Load() {
		return nil
	}
	if l.alive() {
		s.merge(ctx)
		return nil
	}
	if !s.replayed(server) {
		if err := s.replay(ctx, l, server); err != nil {
			return err
		}
	}
	l.mu.Lock()
	l.caught = server
	policy := l.policy
	l.mu.Unlock()
	if evicts(policy) {
		s.report.RedisEvicts(l.name, policy)
	}
	s.merge(ctx)
	return nil
}

// replayed tells whether a server knows what this node accepted, but for the arrears.
func (s *Store) replayed(server string) (yes bool) {
	s.ledger.Notes(noteServer+server, func(string, []byte) { yes = server != "" })
	return yes
}

// replay tells a server all that this node keeps, and waits until the other
// nodes have done so.
func (s *Store) replay(ctx context.Context, l *link, server string) error {
	s.report.RedisReplaced(l.name)
	start := time.Now()
	now := s.clock.now()
	sends := 0
	if err := s.tellResets(ctx, l, now); err != nil {
		return err
	}
	var part []ratelimit.Send
	var err error
	s.ledger.Sends(now, func(send ratelimit.Send) bool {
		if part = append(part, send); len(part) >= replayPart {
			sends += len(part)
			err = s.tellSends(ctx, l, now, part)
			part = part[:0]
		}
		return err == nil && ctx.Err() == nil
	})
	if err == nil {
		sends += len(part)
		err = s.tellSends(ctx, l, now, part)
	}
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	told, err := s.awaitOthers(ctx, l, start)
	if err != nil {
		return err
	}
	s.report.RedisReplayed(l.name, sends, told, s.options.Nodes)
	return s.remember(l, server)
}

const replayPart = 4096

// awaitOthers waits until all nodes have told the server, or for replayWait.
func (s *Store) awaitOthers(ctx context.Context, l *link, start time.Time) (told int, err error) {
	for {
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		told, err = s.beat(short, l, true)
		cancel()
		if err != nil || told >= s.options.Nodes || time.Since(start) > replayWait {
			return told, err
		}
		select {
		case <-ctx.Done():
			return told, ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// remember notes that a server has been told, in place of those before.
func (s *Store) remember(l *link, server string) error {
	var old []string
	s.ledger.Notes(noteServer, func(key string, value []byte) {
		if string(value) == l.name {
			old = append(old, key)
		}
	})
	if err := s.ledger.Note(noteServer+server, []byte(l.name)); err != nil {
		return fmt.Errorf("note that %s was told: %w", l.name, err)
	}
	for _, key := range old {
		if key != noteServer+server {
			s.ledger.Forget(key)
		}
	}
	return nil
}

// tellResets tells a server of the resets that this node's ledger knows.
func (s *Store) tellResets(ctx context.Context, l *link, now time.Time) (err error) {
	s.ledger.Standings(now, func(st ratelimit.Standing) bool {
		if st.Epoch > 0 && s.servers.of(slotOf(st.Name)) == l {
			age := now.Sub(time.UnixMilli(st.Epoch))
			err = runAll(ctx, s.options.Timeout, []linkCall{{link: l, call: resetCall(s.terms(now, nil), st.Name, age, -1)}})
		}
		return err == nil
	})
	return err
}

func (s *Store) tellSends(ctx context.Context, l *link, now time.Time, sends []ratelimit.Send) error {
	var mine []linkCall
	for _, c := range s.puts(now, sends) {
		if c.link == l {
			mine = append(mine, c)
		}
	}
	return runAll(ctx, s.options.Timeout, mine)
}

// runAll runs calls to one master in pipelines, one after the other.
func runAll(ctx context.Context, timeout time.Duration, calls []linkCall) error {
	for len(calls) > 0 {
		n := min(len(calls), batch)
		var some []call
		for _, c := range calls[:n] {
			some = append(some, c.call)
		}
		short, cancel := context.WithTimeout(ctx, timeout)
		_, errs := calls[0].link.run(short, some)
		cancel()
		if err := errors.Join(errs...); err != nil {
			return err
		}
		calls = calls[n:]
	}
	return nil
}

// runMerge tells Redis what it is to be told whenever there is something.
func (s *Store) runMerge(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		if !s.merge(ctx) {
			select { // those that failed are tried again soon
			case <-ctx.Done():
				return
			case <-time.After(retryEvery / 4):
				if s.arrears.len() > 0 && s.anyAlive() {
					s.kick()
				}
			}
		}
	}
}

func (s *Store) anyAlive() bool {
	for _, l := range s.servers.masters() {
		if l.alive() {
			return true
		}
	}
	return false
}

// merge tells Redis all that it is to be told, then has the masters that know
// all decide again. It tells whether nothing is left.
func (s *Store) merge(ctx context.Context) bool {
	s.merging.Lock()
	defer s.merging.Unlock()
	for range 1000 {
		before := s.arrears.list()
		for len(before) > 0 && ctx.Err() == nil {
			n := min(len(before), batch)
			s.mergeSome(ctx, before[:n])
			before = before[n:]
		}
		if s.rejoin() || ctx.Err() != nil {
			break
		}
		if !s.anyCatching() {
			break
		}
	}
	return s.arrears.len() == 0
}

// anyCatching tells whether a master answers and is not yet ready.
func (s *Store) anyCatching() bool {
	for _, l := range s.servers.masters() {
		if l.alive() && !l.ready.Load() {
			return true
		}
	}
	return false
}

// mergeSome tells some things, in one pipeline a master, and forgets those that
// all their masters have.
func (s *Store) mergeSome(ctx context.Context, some []*arrear) {
	type owed struct {
		calls    []call
		of       []int
		subjects [][]ratelimit.Subject
	}
	now := s.clock.now()
	byLink := map[*link]*owed{}
	failed := make([]bool, len(some))
	for i, e := range some {
		for _, c := range s.calls(now, e) {
			if c.link == nil || !c.link.alive() {
				failed[i] = true
				continue
			}
			if byLink[c.link] == nil {
				byLink[c.link] = &owed{}
			}
			o := byLink[c.link]
			o.calls, o.of, o.subjects = append(o.calls, c.call), append(o.of, i), append(o.subjects, c.subjects)
		}
	}
	for l, o := range byLink {
		short, cancel := context.WithTimeout(ctx, s.options.Timeout)
		replies, errs := l.run(short, o.calls)
		cancel()
		for k, i := range o.of {
			failed[i] = failed[i] || errs[k] != nil || !done(replies[k])
			if _, r, err := usesOf(replies[k], o.subjects[k]); err == nil {
				s.sights.merged(now, r.Uses)
			}
		}
	}
	for i, e := range some {
		if !failed[i] {
			s.arrears.settled(now, e)
		}
	}
}

// rejoin has the masters decide again that answer and know all. It tells
// whether all do.
func (s *Store) rejoin() bool {
	s.arrears.mu.Lock() // nothing is accepted alone meanwhile
	defer s.arrears.mu.Unlock()
	owed := map[*link]bool{}
	for _, e := range s.arrears.entries {
		for _, c := range s.calls(s.clock.now(), e) {
			owed[c.link] = true
		}
		if s.servers.one != nil {
			break
		}
	}
	all := true
	for _, l := range s.servers.masters() {
		if !l.ready.Load() && !owed[l] {
			l.rejoin()
		}
		all = all && l.ready.Load()
	}
	return all
}

// rejoin makes the link ready, if the server is still the one that was told all.
func (l *link) rejoin() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.server == "" || l.caught != l.server || l.open.Load() {
		return
	}
	l.ready.Store(true)
	if l.open.Load() { // since a moment ago
		l.ready.Store(false)
	}
}

// alive tells whether the server answers and was told what was accepted before
// it was met.
func (l *link) alive() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server != "" && l.caught == l.server && !l.open.Load()
}

func (l *link) serverNow() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.server
}

func (l *link) turned(at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.since = at
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
