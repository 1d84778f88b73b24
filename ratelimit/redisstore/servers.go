package redisstore

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"sluice/ratelimit/redisurl"
)

// slots is how many hash slots a Redis Cluster has.
const slots = 16384

// servers are the links to the masters: one, or those of a Cluster.
type servers struct {
	address
	timeout time.Duration
	changed func()                       // see link.changed
	single  *link                        // nil for a Cluster
	table   atomic.Pointer[[slots]*link] // of a Cluster; nil until it is known

	mu    sync.Mutex
	links []*link // all that were ever in the table
	seeds []*redis.Client
}

func newServers(a address, timeout time.Duration, changed func()) *servers {
	quiet()
	s := &servers{address: a, timeout: timeout, changed: changed}
	if a.Kind != redisurl.Cluster {
		s.single = s.link(strings.Join(a.Hosts, ","), a.Hosts[0])
		s.single.master = "sluice:{*}"
		return s
	}
	for _, h := range a.Hosts {
		s.seeds = append(s.seeds, a.client(h, timeout, nil))
	}
	return s
}

// link returns the link to a host, and makes it if there is none.
func (s *servers) link(name, host string) *link {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		if l.name == name {
			return l
		}
	}
	l := newLink(name, s.timeout)
	l.changed = s.changed
	l.client = s.client(host, s.timeout, l.connected)
	s.links = append(s.links, l)
	return l
}

// linkOf returns the link to the master that has a slot; nil while that is not known.
func (s *servers) linkOf(slot string) *link {
	if s.single != nil {
		return s.single
	}
	if t := s.table.Load(); t != nil {
		return t[keySlot(rootKey(slot))]
	}
	return nil
}

// masters returns the links to all masters that are known.
func (s *servers) masters() (all []*link) {
	if s.single != nil {
		return []*link{s.single}
	}
	t := s.table.Load()
	if t == nil {
		return nil
	}
	seen := map[*link]bool{}
	for _, l := range t {
		if l != nil && !seen[l] {
			seen[l] = true
			all = append(all, l)
		}
	}
	return all
}

// refresh asks a Cluster which master has which slots.
func (s *servers) refresh(ctx context.Context) (err error) {
	if s.single != nil {
		return nil
	}
	clients := append([]*redis.Client{}, s.seeds...)
	for _, l := range s.masters() {
		clients = append(clients, l.client)
	}
	for _, c := range clients {
		var ranges []redis.ClusterSlot
		//lint:ignore SA1019 all that speak the protocol of Redis have it, CLUSTER SHARDS not
		if ranges, err = c.ClusterSlots(ctx).Result(); err == nil {
			s.setLayout(ranges)
			return nil
		}
	}
	return fmt.Errorf("ask for the layout of the cluster: %w", err)
}

func (s *servers) setLayout(ranges []redis.ClusterSlot) {
	t := new([slots]*link)
	masters := map[*link]bool{}
	for _, r := range ranges {
		if len(r.Nodes) == 0 {
			continue
		}
		l := s.link(r.Nodes[0].Addr, r.Nodes[0].Addr)
		masters[l] = true
		for i := r.Start; i <= r.End && i < slots; i++ {
			t[i] = l
		}
	}
	for l := range masters {
		l.setMaster(t)
	}
	s.table.Store(t)
}

// setMaster finds a key that this master has, for the signs of life of nodes.
func (l *link) setMaster(t *[slots]*link) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := 0; l.master == "" || t[keySlot(l.master)] != l; i++ {
		l.master = fmt.Sprintf("sluice:{*%d}", i)
	}
}

func (s *servers) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		l.close()
	}
	for _, c := range s.seeds {
		c.Close()
	}
}

// keySlot is the hash slot of a key in a Cluster: CRC-16/XMODEM of what is in its
// first braces (Redis Cluster specification, "Hash tags").
func keySlot(key string) int {
	if i := strings.IndexByte(key, '{'); i >= 0 {
		if n := strings.IndexByte(key[i+1:], '}'); n > 0 {
			key = key[i+1 : i+1+n]
		}
	}
	crc := uint16(0)
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return int(crc % slots)
}
