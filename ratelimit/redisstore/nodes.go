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
		all[i].Namesake = all[i].Namesake && all[i].Age < aliveFor
	}
	return all
}

// signs are what a heartbeat finds out about all nodes.
type signs struct {
	told   int // how many have given this server all that they accepted
	behind int // how many others are alive and have not
}

// aliveFor is after how long without a sign a node may be down.
const aliveFor = 10 * time.Second

// beat sends one heartbeat, which also proves that the server can be written to.
func (s *Store) beat(ctx context.Context, l *link) (found signs, err error) {
	l.mu.Lock()
	key, latency, server := l.master, l.latency, l.server
	l.mu.Unlock()
	me := Node{Name: s.options.Node, Mode: s.mode(), Latency: latency, Config: s.nodes.configHash(),
		Instance: s.namesakes.instance, Namesake: s.namesakes.live.Load()}
	value, err := json.Marshal(me)
	if err != nil {
		return found, err
	}
	start := time.Now()
	reply, err := l.runOne(ctx, call{
		script: boardScript, keys: []string{key + ":nodes", key + ":told"},
		args: []any{"beat", s.options.Node, string(value), server, bit(s.isReplayed(l))},
	})
	if err != nil {
		return found, err
	}
	l.refuses.Store(false)
	l.mu.Lock()
	l.latency, l.lastError = time.Since(start), nil
	l.mu.Unlock()
	before, all, found, err := readSigns(reply)
	if err != nil {
		return found, err
	}
	s.signed(l, before)
	s.nodes.set(all)
	alive := 0
	for _, n := range all {
		if n.Age < time.Minute {
			alive++
		}
	}
	if alive > s.options.Nodes {
		s.report.RedisCrowded(alive, s.options.Nodes)
	}
	return found, nil
}

// readSigns reads the answer to a heartbeat: the sign before, if there was any, then name, value, age in ms of
// each node, and 1 if it has told this server all.
func readSigns(reply any) (before *Node, all []Node, found signs, err error) {
	list, ok := reply.([]any)
	if !ok || len(list)%4 != 1 {
		return before, nil, found, errReply
	}
	if text, _ := list[0].(string); text != "" {
		before = &Node{}
		json.Unmarshal([]byte(text), before) // of an earlier version it has no instance
	}
	for list = list[1:]; len(list) > 0; list = list[4:] {
		name, _ := list[0].(string)
		value, _ := list[1].(string)
		ms, _ := list[2].(int64)
		n := Node{}
		if json.Unmarshal([]byte(value), &n) != nil {
			continue
		}
		n.Name, n.Age = name, time.Duration(ms)*time.Millisecond
		all = append(all, n)
		switch told, _ := list[3].(int64); {
		case told > 0:
			found.told++
		case n.Age < aliveFor:
			found.behind++
		}
	}
	return before, all, found, nil
}

// count is how many nodes share the Redis, if of nodes are to: two of one name are two.
func (n *nodes) count(of int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	if slices.ContainsFunc(n.all, func(o Node) bool { return o.Namesake && o.Age < aliveFor }) {
		of++
	}
	return of
}

// set takes what a heartbeat has found.
func (n *nodes) set(all []Node) {
	slices.SortFunc(all, func(a, b Node) int { return cmp.Compare(a.Name, b.Name) })
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all, n.updated = all, time.Now()
}
