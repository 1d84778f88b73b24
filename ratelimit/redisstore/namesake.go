package redisstore

import (
	"crypto/rand"
	"sync"
	"sync/atomic"
	"time"
)

// Two live nodes of one name, such as a machine and its clone, pass for one, so that
// together they would have one share too many. Each start of a node has a random instance
// id in its sign of life. While a node finds the signs of another instance under its name,
// both work in their shares, as two nodes.

func newInstance() string { return rand.Text() }

// namesakes finds out whether another live node has the name of this one.
type namesakes struct {
	instance string      // of this node
	live     atomic.Bool // there is another one

	mu    sync.Mutex
	since time.Time // when the present beat began
	found bool      // a sign of another instance, since then
	inRow int       // beats with such a sign
	alone int       // beats without
}

// Beats in a row after which a namesake is there, or gone.
const (
	namesakeAfter = 2
	aloneAfter    = 3
)

// sign takes whether another instance has written a sign since this one wrote its last. Signs
// may come faster than beats: what is found between two beats is of the second one. It
// reports whether live has changed.
func (n *namesakes) sign(now time.Time, another bool) (changed bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.found = n.found || another
	if now.Sub(n.since) < beatEvery-retryEvery/2 { // the ticker may be late
		return false
	}
	if n.found {
		n.inRow, n.alone = n.inRow+1, 0
	} else {
		n.inRow, n.alone = 0, n.alone+1
	}
	n.since, n.found = now, false
	was := n.live.Load()
	n.live.Store(n.inRow >= namesakeAfter || was && n.alone < aloneAfter)
	return n.live.Load() != was
}

// signed takes the sign that stood under this node's name when it wrote its own, nil if there
// was none. The first one on a server may be that of an earlier start. Signs are kept for a day:
// where one is missing that was written before, somebody has emptied the server.
func (s *Store) signed(l *link, before *Node) {
	l.mu.Lock()
	first := !l.signed
	l.signed = true
	l.mu.Unlock()
	if before == nil {
		s.ledger.Forget(noteServer + l.serverNow())
		if !first {
			l.emptied()
		}
	}
	another := before != nil && before.Instance != s.namesakes.instance
	changed := !first && s.namesakes.sign(time.Now(), another)
	live := s.namesakes.live.Load()
	switch {
	case changed && live:
		s.report.RedisNamesake(s.options.Node)
	case changed:
		s.report.RedisNamesakeGone(s.options.Node)
		s.wakeMerge()
	}
	if live {
		l.unready()
	}
}

// onlyNamesake reports whether nothing but the name of this node keeps some servers from
// deciding.
func (s *Store) onlyNamesake(steps []step) bool {
	return s.namesakes.live.Load() && answering(steps) && allComplete(steps)
}

// outageWith is by which mode this node decides while not all servers of some steps do.
func (s *Store) outageWith(steps []step) Outage {
	if s.onlyNamesake(steps) {
		return OutageShare
	}
	return s.options.Outage
}
