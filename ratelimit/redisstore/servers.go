package redisstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
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
	stalls  stalls
	changed func()                       // see link.changed
	failed  func(*link, error)           // see link.keyFailed
	called  func(time.Duration, error)   // see Options.Called
	stale   chan struct{}                // has an element when the layout of the Cluster has changed
	single  *link                        // nil for a Cluster
	table   atomic.Pointer[[slots]*link] // of a Cluster; nil until it is known

	refreshing sync.Mutex

	mu      sync.Mutex
	links   []*link // all that were ever in the table
	seeds   []*redis.Client
	trouble error     // why not all masters of a Cluster are known; nil if they are
	since   time.Time // when that began
}

func newServers(a address, timeout time.Duration, changed func(), failed func(*link, error), called func(time.Duration, error)) *servers {
	quiet()
	s := &servers{address: a, timeout: timeout, changed: changed, failed: failed, called: called, stale: make(chan struct{}, 1), since: time.Now()}
	if a.Kind != redisurl.Cluster {
		s.single = s.link(s.name(), a.Hosts[0])
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
	l.stalls = &s.stalls
	l.changed, l.keyFailed, l.called, l.kind = s.changed, s.failed, s.called, s.Kind
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

// name is what operators know the servers by while no single one is meant.
func (s *servers) name() string { return strings.Join(s.Hosts, ",") }

// refresh asks a Cluster which master has which slots. An error means that not all
// masters are known.
func (s *servers) refresh(ctx context.Context) error {
	err := s.readLayout(ctx)
	if s.whole() {
		err = nil // that masters which are known do not answer is told by their links
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if (err == nil) != (s.trouble == nil) {
		s.since = time.Now()
	}
	s.trouble = err
	return err
}

// readLayout asks one server after the other, until one tells the layout.
func (s *servers) readLayout(ctx context.Context) error {
	var reasons []string
	asked := map[string]bool{}
	for _, c := range s.clients() {
		host := c.Options().Addr
		if asked[host] {
			continue
		}
		asked[host] = true
		short, cancel := context.WithTimeout(ctx, 2*s.timeout) // its own, so that a silent server keeps none of the others from being asked; more than a dial takes, which says what is wrong
		reply, err := c.Do(short, "cluster", "slots").Slice()
		cancel()
		if err != nil {
			reasons = append(reasons, askError(host, s.timeout, s.table.Load() == nil, err).Error())
			continue
		}
		ranges, err := parseSlots(reply, host)
		if err != nil {
			reasons = append(reasons, fmt.Sprintf("ask %s: %v", host, err))
			continue
		}
		if n := s.setLayout(ranges); n > 0 {
			return fmt.Errorf("ask %s: %d of %d slots of the cluster are on no server: see `redis-cli --cluster check %s`", host, n, slots, host)
		}
		return nil
	}
	return errors.New(strings.Join(reasons, "; "))
}

// clients are all servers of a Cluster that may know its layout.
func (s *servers) clients() []*redis.Client {
	all := slices.Clone(s.seeds)
	for _, l := range s.masters() {
		all = append(all, l.client)
	}
	return all
}

// whole reports whether a master is known for every slot.
func (s *servers) whole() bool {
	t := s.table.Load()
	return s.single != nil || t != nil && !slices.Contains(t[:], nil)
}

// why is since when and why not all masters of a Cluster are known; nil if they are.
func (s *servers) why() (since time.Time, trouble error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.since, s.trouble
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

// setLayout puts a layout in force, and returns how many slots are on no server.
func (s *servers) setLayout(ranges []slotRange) (missing int) {
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
	for _, l := range t {
		if l == nil {
			missing++
		}
	}
	return missing
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
