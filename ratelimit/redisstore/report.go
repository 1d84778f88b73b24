package redisstore

import "time"

// A Reporter is told what an operator should know.
type Reporter interface {
	// RedisLost: from now on this node decides alone, in the outage mode.
	RedisLost(server, mode string, reason error)
	// RedisBack: Redis decides again, and knows all that was accepted meanwhile.
	RedisBack(server string, after time.Duration)
	// RedisReplaced: another server, or one that was promoted, answers. It is
	// told what this node accepted, and others are waited for, before it decides.
	RedisReplaced(server string)
	// RedisReplayed: it has been told of so many sends; of so many nodes
	// that share it so many have done so.
	RedisReplayed(server string, sends, nodes, of int)
	// RedisEvicts: when its memory is full the server drops counters, which
	// hands out new budgets; it should have maxmemory-policy noeviction.
	RedisEvicts(server, policy string)
	// RedisCrowded: more nodes give signs than Options.Nodes; their shares are
	// too large.
	RedisCrowded(nodes, of int)
}

// A Status is the state of a Store.
type Status struct {
	Mode     string // see ServerStatus; of several the one that is not "shared"
	Changes  int64  // how often a server's mode changed since the start
	Servers  []ServerStatus
	Unmerged int    // things that Redis must yet be told
	Nodes    []Node // all that share it, by name
	Config   string // see SetConfig
}

// A ServerStatus is the state of one master.
type ServerStatus struct {
	Name    string // host and port
	Mode    string // "shared", or the Outage mode while it does not decide
	Since   time.Time
	Latency time.Duration // of the last heartbeat
	Trouble string        // why it failed last, while it does not decide
	Evicts  string        // its maxmemory-policy, if that drops counters
}

// A Node is one of those that share the Redis, as its last heartbeat tells.
type Node struct {
	Name    string
	Age     time.Duration `json:"-"` // since its last sign, by Redis's clock
	Mode    string        // see Status
	Latency time.Duration
	Config  string // hash of its configuration; see Store.SetConfig
}

const modeShared = "shared"

// Status tells the state of the store.
func (s *Store) Status() Status {
	st := Status{Mode: s.mode(), Changes: s.changes.Load(), Unmerged: s.arrears.len(), Nodes: s.nodes.list(), Config: s.nodes.hash()}
	for _, l := range s.servers.masters() {
		st.Servers = append(st.Servers, l.status(s.options.Outage))
	}
	return st
}

func (l *link) status(o Outage) ServerStatus {
	l.mu.Lock()
	defer l.mu.Unlock()
	st := ServerStatus{Name: l.name, Mode: modeShared, Since: l.since, Latency: l.latency}
	if !l.ready.Load() {
		st.Mode, st.Trouble = string(o), "it does not know this node's counts yet"
		if l.trouble != nil {
			st.Trouble = l.trouble.Error()
		}
	}
	if evicts(l.policy) {
		st.Evicts = l.policy
	}
	return st
}

func evicts(policy string) bool { return policy != "" && policy != "noeviction" }

// mode is "shared" if all masters decide.
func (s *Store) mode() string {
	masters := s.servers.masters()
	for _, l := range masters {
		if !l.ready.Load() {
			return string(s.options.Outage)
		}
	}
	if len(masters) == 0 {
		return string(s.options.Outage)
	}
	return modeShared
}
