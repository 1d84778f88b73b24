package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/operator"
)

// Lock files, while nodes of a cluster are killed:
//
//	sends, bounces, rm, sluice lock and unlock ─→ mx1, mx2 ─→ redis-server
//	                                   kill -9 ─→ mx1 or mx2
//	watcher ─→ both lock directories: never half of a file
//
// After each restart both directories hold what is due by what the nodes share,
// and what hands have made, and nothing else.

const (
	siegeLimit   = 3 // sends that lock a domain, and bounces
	siegeDomains = 8
)

// A siege is a cluster of two that is worked on from all sides.
type siege struct {
	t      *testing.T
	redis  *redistest.Server
	nodes  []*processNode
	hands  []map[string]string // what hands have made and still stands, by node
	pause  sync.RWMutex        // held to write while nobody is to do anything
	number atomic.Int64        // of messages
	stop   func()              // ends all work

	accepted, bounced, removed, locked, unlocked atomic.Int64
	half                                         int // kills within the making of a file
}

func startSiege(t *testing.T) *siege {
	t.Helper()
	s := &siege{t: t, redis: redistest.Start(t), hands: []map[string]string{{}, {}}}
	binary := buildSluice(t)
	for i := range 2 {
		dir := t.TempDir()
		writeFile(t, dir+"/mainlog", "")
		config := clusterConfig(dir, fmt.Sprintf("mx%d.example", i+1), s.redis.URL())
		config = strings.NewReplacer("hourly = 10", fmt.Sprintf("hourly = %[1]d\ndeferfail_min = %[1]d", siegeLimit),
			`mainlog = ""`, fmt.Sprintf("mainlog = %q", dir+"/mainlog")).Replace(config)
		s.nodes = append(s.nodes, launch(t, binary, dir, config))
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	s.stop = func() { cancel(); all.Wait() }
	t.Cleanup(s.stop)
	for _, n := range s.nodes {
		all.Go(func() { s.watch(ctx, n) })
		for range 2 {
			all.Go(func() { s.work(ctx, n) })
		}
	}
	return s
}

// wholeLock is all that a lock file may hold: Sluice's, one of `sluice lock`,
// and an operator's.
var wholeLock = regexp.MustCompile(`^(\d+/\d+ \(\d+%\)|locked by \S+|by hand)$`)

// watch looks for halves of lock files in a node's directory, without pause.
func (s *siege) watch(ctx context.Context, n *processNode) {
	for ; ctx.Err() == nil; time.Sleep(200 * time.Microsecond) {
		for _, name := range s.names(n, "max_") {
			if b, err := os.ReadFile(n.file(name)); err == nil && !wholeLock.Match(b) {
				s.t.Errorf("%s holds %q", n.file(name), b)
			}
		}
	}
}

// names are those in a node's lock directory that begin with a prefix.
func (s *siege) names(n *processNode, prefix string) (names []string) {
	entries, err := os.ReadDir(n.file(""))
	if err != nil {
		s.t.Error(err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names
}

// work does one thing after the other. A node that is dead answers nothing.
func (s *siege) work(ctx context.Context, n *processNode) {
	for ; ctx.Err() == nil; time.Sleep(time.Duration(rand.IntN(1000)) * time.Microsecond) {
		s.pause.RLock()
		s.act(n, fmt.Sprintf("d%d.example", rand.IntN(siegeDomains)))
		s.pause.RUnlock()
	}
}

func (s *siege) act(n *processNode, domain string) {
	switch what := rand.IntN(100); {
	case what < 80:
		s.send(n, domain)
	case what < 90:
		s.remove(n, "max_hourly_"+domain)
	case what < 94:
		s.remove(n, "max_deferfail_"+domain)
	case what < 96:
		s.bounce(n, domain)
	case what < 98:
		if _, code := n.sluice(s.t, "lock", domain); code == exitDone {
			s.locked.Add(1)
		}
	default:
		if _, code := n.sluice(s.t, "unlock", domain); code == exitDone {
			s.unlocked.Add(1)
		}
	}
}

func (s *siege) send(n *processNode, domain string) {
	reply, err := n.ask(domain, s.number.Add(1), "data")
	if err == nil && strings.HasPrefix(reply, "action=DUNNO") {
		s.accepted.Add(1)
	}
}

// bounce has the log tell of enough bounces to lock a domain.
func (s *siege) bounce(n *processNode, domain string) {
	now := time.Now().Format("2006-01-02 15:04:05")
	var lines strings.Builder
	for range siegeLimit {
		id := fmt.Sprintf("1xUzSN-%011d-0q00", s.number.Add(1))
		fmt.Fprintf(&lines, "%[1]s %[2]s <= news@%[3]s H=client [192.0.2.1] P=esmtpa A=plain:news@%[3]s S=300\n"+
			"%[1]s %[2]s ** r@far.example R=dnslookup T=remote_smtp: 550 no such user\n", now, id, domain)
	}
	f, err := os.OpenFile(n.dir+"/mainlog", os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(lines.String())
		f.Close()
	}
	if err != nil {
		s.t.Error(err)
	}
	s.bounced.Add(1)
}

func (s *siege) remove(n *processNode, name string) {
	if os.Remove(n.file(name)) == nil {
		s.removed.Add(1)
	}
}

// quietly does something while nobody works.
func (s *siege) quietly(do func()) {
	s.pause.Lock()
	defer s.pause.Unlock() // also when do fails the test
	do()
}

// kill kills a node while all work on it, has its lock files released on the
// other one and removed by hands meanwhile, and starts it again.
func (s *siege) kill(i int) {
	dead, other := s.nodes[i], s.nodes[1-i]
	time.Sleep(time.Duration(rand.IntN(150_000)) * time.Microsecond) // when to kill is no matter of being right
	dead.kill()
	if len(s.names(dead, ".sluice-")) > 0 {
		s.half++
	}
	for k, name := range s.names(dead, "max_") {
		_, domain, _ := strings.Cut(strings.TrimPrefix(name, "max_"), "_")
		switch {
		case s.hands[i][name] != "":
		case k%3 == 0:
			other.sluice(s.t, "unlock", domain)
		case k%3 == 1:
			s.remove(dead, name)
		}
	}
	s.hand(i)
	s.quietly(func() {
		dead.start(s.t)
		s.settle()
	})
}

// hand makes or removes a lock file by hand on a node.
func (s *siege) hand(i int) {
	name := fmt.Sprintf("max_hourly_hand%d.example", rand.IntN(siegeDomains))
	if s.hands[i][name] != "" {
		s.remove(s.nodes[i], name)
		delete(s.hands[i], name)
		return
	}
	temp := s.nodes[i].dir + "/by-hand"
	writeFile(s.t, temp, "by hand")
	if err := os.Rename(temp, s.nodes[i].file(name)); err != nil {
		s.t.Fatal(err)
	}
	s.hands[i][name] = "operator"
}

// board is whose values nodes share, by key, as they stand in Redis.
func (s *siege) board() map[string]bool {
	stands := map[string]bool{}
	list, _ := s.redis.Do("hgetall", "sluice:{*board}:v").([]any)
	for ; len(list) > 1; list = list[2:] {
		_, value, _ := strings.Cut(fmt.Sprint(list[1]), " ")
		stands[fmt.Sprint(list[0])] = value != ""
	}
	return stands
}

// wanted are the lock files of a node, and whose they are, by what the nodes
// share: the counts as a node tells them, and the board.
func (s *siege) wanted(i int, st operator.Status) map[string]string {
	files, board := maps.Clone(s.hands[i]), s.board()
	for _, d := range st.Domains {
		if d.Sent >= siegeLimit {
			files["max_hourly_"+d.Domain] = "sluice"
		}
	}
	for k := range siegeDomains {
		domain := fmt.Sprintf("d%d.example", k)
		if board["lock/"+domain] {
			files["max_hourly_"+domain] = "operator"
		}
		if board["trip/"+domain] {
			files["max_deferfail_"+domain] = "sluice"
		}
	}
	return files
}

// found are the lock files that stand, and whose they are as the node knows.
func (s *siege) found(n *processNode, st operator.Status) map[string]string {
	files := map[string]string{}
	for _, name := range slices.Concat(s.names(n, "max_"), s.names(n, ".")) {
		files[name] = "nobody"
	}
	for _, d := range st.Domains {
		for _, l := range d.Locks {
			name := string(l.Kind) + "_" + d.Domain
			if files[name] == "" {
				name += " without a file"
			}
			files[name] = l.Owner
		}
	}
	return files
}

// settle waits until both directories are as they should be.
func (s *siege) settle() {
	s.t.Helper()
	var wrong string
	hosttest.EventuallyOr(s.t, func() string { return fmt.Sprintf("%s\nmx1:\n%s\nmx2:\n%s", wrong, s.nodes[0].log, s.nodes[1].log) }, func() bool {
		wrong = ""
		var all [2]operator.Status
		for i, n := range s.nodes {
			all[i] = n.whole(s.t)
			if sh := all[i].Totals.Shared; sh.Mode != "shared" || sh.Unmerged > 0 {
				wrong += fmt.Sprintf("%s: %+v\n", all[i].Node, *sh)
			}
			if diff := cmp.Diff(s.wanted(i, all[0]), s.found(n, all[i])); diff != "" {
				wrong += fmt.Sprintf("%s: lock files: -want +got:\n%s", all[i].Node, diff)
			}
		}
		return wrong == ""
	})
}

// No lock file is ever half-written or left over, whenever nodes are killed:
// 20 times, and 1,000 in the soak.
func TestKill9OfNodesLeavesNoLockFileBehind(t *testing.T) {
	sieges, kills := 2, 10
	if hosttest.Soak() {
		sieges, kills = 4, 250
	}
	for siege := range sieges {
		t.Run(fmt.Sprint(siege), func(t *testing.T) {
			t.Parallel()
			s := startSiege(t)
			for kill := range kills {
				s.kill(kill % 2)
			}
			s.end()
			t.Logf("%d kills, %d within the making of a file; %d sends accepted, %d times bounces told, %d lock files removed, %d domains locked and %d unlocked",
				kills, s.half, s.accepted.Load(), s.bounced.Load(), s.removed.Load(), s.locked.Load(), s.unlocked.Load())
		})
	}
}

// end resets and unlocks all domains, and kills both nodes once more: nothing is
// left but what hands have made. Bounces of before that are read later trip nobody.
func (s *siege) end() {
	s.stop()
	clean := func() bool {
		left := 0
		for i, n := range s.nodes {
			left += len(s.names(n, "max_")) - len(s.hands[i])
		}
		return left == 0
	}
	hosttest.Eventually(s.t, "all domains are unlocked", func() bool {
		for k := range siegeDomains {
			s.nodes[k%2].sluice(s.t, "reset", fmt.Sprintf("d%d.example", k))
			s.nodes[k%2].sluice(s.t, "unlock", fmt.Sprintf("d%d.example", k))
		}
		return clean()
	})
	for _, n := range s.nodes {
		s.settle()
		n.kill()
		n.start(s.t)
	}
	s.settle()
	if !clean() {
		s.t.Errorf("left in the end: %q and %q; hands have made %v", s.names(s.nodes[0], "max_"), s.names(s.nodes[1], "max_"), s.hands)
	}
}
