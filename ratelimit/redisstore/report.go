package redisstore

import "time"

// A Reporter gets what an operator should know.
type Reporter interface {
	// RedisLost: from now on this node decides alone, in the outage mode.
	RedisLost(server, mode string, reason error)
	// RedisBack: Redis decides again, and has what was accepted meanwhile.
	RedisBack(server string, after time.Duration)
	// RedisReplaced: a new server, or a promoted replica, answers. This and the
	// other nodes replay to it what they accepted before it decides alone.
	RedisReplaced(server string)
	// RedisReplayed: this node has replayed that many sends. Of all nodes, whose number
	// is of, nodes have finished their replay.
	RedisReplayed(server string, sends, nodes, of int)
	// RedisEvicts: when its memory is full, the server drops counters, so that full
	// limits have room again. It should have maxmemory-policy noeviction.
	RedisEvicts(server, policy string)
	// RedisKeyUnusable: somebody else has written where counts should be. Whom they are
	// about each node counts alone until the key is deleted.
	RedisKeyUnusable(server string, reason error)
	// RedisValueUnread: somebody else has written a value of the board, which is passed over.
	RedisValueUnread(key string, reason error)
	// RedisCrowded: more nodes send heartbeats than Options.Nodes, so their shares
	// are too large.
	RedisCrowded(nodes, of int)
	// RedisNamesake: another live node has the name of this one. Both work in their shares
	// until RedisNamesakeGone.
	RedisNamesake(name string)
	RedisNamesakeGone(name string)
}

// A Status is the state of a Store.
type Status struct {
	Mode     string // see ServerStatus; "shared" only if all servers are
	Changes  int64  // how often a server's mode has changed since the start
	Servers  []ServerStatus
	Unmerged int    // entries of the outbox
	Nodes    []Node // all nodes that share the Redis, by name
	Config   string // see SetConfig
	Namesake bool   // another live node has this one's name
}

// A ServerStatus is the state of one master.
type ServerStatus struct {
	Name    string // host and port; of a Cluster whose masters are not all known: those of the URL
	Mode    string // "shared", or the Outage mode while it does not decide
	Since   time.Time
	Latency time.Duration // of the last heartbeat
	Trouble string        // the last error, while it does not decide
	Blocked bool          // this host itself lets nothing be sent to it
	Evicts  string        // its maxmemory-policy, if that drops counters
	BadKey  string        // what it answered within a minute about a key that cannot be used
}

// A Node is one of the nodes that share the Redis, by its last heartbeat.
type Node struct {
	Name    string
	Age     time.Duration `json:"-"` // since its last heartbeat, by Redis's clock
	Mode    string        // see Status
	Latency time.Duration
	Config  string // hash of its configuration; see Store.SetConfig

	Instance string // of its start
	Namesake bool   // another live node has the same name
}

const modeShared = "shared"

// Status returns the state of the store.
func (s *Store) Status() Status {
	st := Status{Mode: s.mode(), Changes: s.modeChanges.Load(), Unmerged: s.outbox.len(), Nodes: s.nodes.list(), Config: s.nodes.configHash(),
		Namesake: s.namesakes.live.Load()}
	if since, trouble := s.servers.why(); trouble != nil {
		st.Servers = append(st.Servers, ServerStatus{Name: s.servers.name(), Mode: string(s.options.Outage), Since: since,
			Trouble: trouble.Error(), Blocked: isBlocked(trouble)})
	}
	for _, l := range s.servers.masters() {
		server := l.status(s.options.Outage)
		if s.onlyNamesake([]step{{link: l}}) {
			server.Mode, server.Trouble = string(OutageShare), ""
		}
		st.Servers = append(st.Servers, server)
	}
	return st
}

func (l *link) status(o Outage) ServerStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := ServerStatus{Name: l.name, Mode: modeShared, Since: l.since, Latency: l.latency}
	if !l.ready.Load() {
		st.Mode, st.Trouble = string(o), "it does not know this node's counts yet"
		if l.lastError != nil {
			st.Trouble, st.Blocked = l.lastError.Error(), isBlocked(l.lastError)
		}
	}
	if evicts(l.policy) {
		st.Evicts = l.policy
	}
	if l.badKey != nil && time.Since(l.badKeyAt) < badKeyFor {
		st.BadKey = l.badKey.Error()
	}
	return st
}

func evicts(policy string) bool { return policy != "" && policy != "noeviction" }

// mode is "shared" if all masters are known and decide.
func (s *Store) mode() string {
	masters := s.servers.masters()
	if len(masters) == 0 || !s.servers.whole() {
		return string(s.options.Outage)
	}
	var steps []step
	for _, l := range masters {
		if !l.ready.Load() {
			steps = append(steps, step{link: l})
		}
	}
	if len(steps) > 0 {
		return string(s.outageWith(steps))
	}
	return modeShared
}
