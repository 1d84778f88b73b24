package redisstore

import (
	"cmp"
	"context"
	"fmt"
	"net"
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
	failed  func(*link, error)           // see link.keyFailed
	stale   chan struct{}                // has an element when the layout of the Cluster has changed
	single  *link                        // nil for a Cluster
	table   atomic.Pointer[[slots]*link] // of a Cluster; nil until it is known

	refreshing sync.Mutex

	mu    sync.Mutex
	links []*link // all that were ever in the table
	seeds []*redis.Client
}

func newServers(a address, timeout time.Duration, changed func(), failed func(*link, error)) *servers {
	quiet()
	s := &servers{address: a, timeout: timeout, changed: changed, failed: failed, stale: make(chan struct{}, 1)}
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
	l.changed, l.keyFailed, l.cluster = s.changed, s.failed, s.Kind == redisurl.Cluster
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
		var reply []any
		if reply, err = c.Do(ctx, "cluster", "slots").Slice(); err == nil {
			var ranges []slotRange
			if ranges, err = parseSlots(reply, c.Options().Addr); err == nil {
				s.setLayout(ranges)
				return nil
			}
		}
	}
	return fmt.Errorf("ask for the layout of the cluster: %w", err)
}

// A slotRange is slots that one master has.
type slotRange struct {
	first, last int64
	master      string // host and port
}

// parseSlots parses the answer to CLUSTER SLOTS, which every program that speaks the
// protocol of Redis knows, unlike CLUSTER SHARDS. The parser of go-redis fails where the
// host is null, as with cluster-preferred-endpoint-type unknown-endpoint. A null means the
// host that was asked.
func parseSlots(reply []any, asked string) (all []slotRange, err error) {
	askedHost, _, err := net.SplitHostPort(asked)
	if err != nil {
		return nil, err
	}
	for _, r := range reply {
		entry, _ := r.([]any)
		if len(entry) < 3 {
			continue // nobody has them
		}
		first, ok1 := entry[0].(int64)
		last, ok2 := entry[1].(int64)
		master, _ := entry[2].([]any)
		if !ok1 || !ok2 || len(master) < 2 || first < 0 {
			return nil, errReply
		}
		port, ok := master[1].(int64)
		if !ok {
			return nil, errReply
		}
		host, _ := master[0].(string)
		all = append(all, slotRange{first, last, net.JoinHostPort(cmp.Or(host, askedHost), fmt.Sprint(port))})
	}
	return all, nil
}

// refreshUnless asks for the layout unless it is right by now: of callers that come at the
// same time, the first one asks.
func (s *servers) refreshUnless(ctx context.Context, right func() bool) error {
	s.refreshing.Lock()
	defer s.refreshing.Unlock()
	if right() {
		return nil
	}
	return s.refresh(ctx)
}

func (s *servers) setLayout(ranges []slotRange) {
	t := new([slots]*link)
	masters := map[*link]bool{}
	for _, r := range ranges {
		l := s.link(r.master, r.master)
		masters[l] = true
		for i := r.first; i <= r.last && i < slots; i++ {
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
