package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// nodes are those that share the Redis, as last heard.
type nodes struct {
	mu     sync.Mutex
	all    []Node
	heard  time.Time
	config string
}

// SetConfig sets the hash of this node's configuration, for the others to see
// who differs.
func (s *Store) SetConfig(hash string) {
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	s.nodes.config = hash
}

func (n *nodes) hash() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.config
}

func (n *nodes) list() []Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.Clone(n.all)
	for i := range all {
		all[i].Age += time.Since(n.heard)
	}
	return all
}

// beat gives a sign to one master, and proves that it can be written to. It
// returns how many nodes have told this server all they know.
func (s *Store) beat(ctx context.Context, l *link, replayed bool) (told int, err error) {
	me := Node{Name: s.options.Node, Mode: s.mode(), Latency: l.lag(), Config: s.nodes.hash()}
	value, err := json.Marshal(me)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	key := l.key()
	replies, errs := l.run(ctx, []call{{
		script: boardScript, keys: []string{key + ":nodes", key + ":told"},
		args: []any{"beat", s.options.Node, string(value), l.serverNow(), bit(replayed)},
	}})
	if errs[0] != nil {
		return 0, errs[0]
	}
	l.refuses.Store(false)
	l.setLag(time.Since(start))
	list, ok := replies[0].([]any)
	if !ok || len(list)%3 != 1 {
		return 0, errReply
	}
	n, _ := list[0].(int64)
	if alive := s.nodes.hear(list[1:]); alive > s.options.Nodes {
		s.report.RedisCrowded(alive, s.options.Nodes)
	}
	return int(n), nil
}

// hear takes over name, value and age in ms of each node, and tells how many
// have given a sign lately.
func (n *nodes) hear(list []any) (alive int) {
	var all []Node
	for ; len(list) > 0; list = list[3:] {
		name, _ := list[0].(string)
		value, _ := list[1].(string)
		ms, _ := list[2].(int64)
		node := Node{}
		if json.Unmarshal([]byte(value), &node) != nil {
			continue
		}
		node.Name, node.Age = name, time.Duration(ms)*time.Millisecond
		all = append(all, node)
		if node.Age < time.Minute {
			alive++
		}
	}
	slices.SortFunc(all, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all, n.heard = all, time.Now()
	return alive
}

func (l *link) key() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.master
}

func (l *link) lag() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.latency
}

func (l *link) setLag(d time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.latency = d
}
