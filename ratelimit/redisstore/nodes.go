package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"
)

// nodes are the nodes that share the Redis, by the last answer to a heartbeat.
type nodes struct {
	mu      sync.Mutex
	all     []Node
	updated time.Time
	config  string
}

// SetConfig sets the hash of this node's configuration, by which nodes see whether
// theirs differ.
func (s *Store) SetConfig(hash string) {
	s.nodes.mu.Lock()
	defer s.nodes.mu.Unlock()
	s.nodes.config = hash
}

func (n *nodes) configHash() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.config
}

func (n *nodes) list() []Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := slices.Clone(n.all)
	for i := range all {
		all[i].Age += time.Since(n.updated)
	}
	return all
}

// beat sends one heartbeat, which also proves that the server can be written to. It
// returns how many nodes have replayed to this server.
func (s *Store) beat(ctx context.Context, l *link, replayed bool) (replayedNodes int, err error) {
	l.mu.Lock()
	key, latency := l.master, l.latency
	l.mu.Unlock()
	me := Node{Name: s.options.Node, Mode: s.mode(), Latency: latency, Config: s.nodes.configHash()}
	value, err := json.Marshal(me)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	replies, errs := l.run(ctx, []call{{
		script: boardScript, keys: []string{key + ":nodes", key + ":told"},
		args: []any{"beat", s.options.Node, string(value), l.serverNow(), bit(replayed)},
	}})
	if errs[0] != nil {
		return 0, errs[0]
	}
	l.refuses.Store(false)
	l.mu.Lock()
	l.latency, l.lastError = time.Since(start), nil
	l.mu.Unlock()
	list, ok := replies[0].([]any)
	if !ok || len(list)%3 != 1 {
		return 0, errReply
	}
	n, _ := list[0].(int64)
	if alive := s.nodes.update(list[1:]); alive > s.options.Nodes {
		s.report.RedisCrowded(alive, s.options.Nodes)
	}
	return int(n), nil
}

// update takes name, value and age in ms of each node, and returns how many have sent
// a heartbeat within a minute.
func (n *nodes) update(list []any) (alive int) {
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
	n.all, n.updated = all, time.Now()
	return alive
}
