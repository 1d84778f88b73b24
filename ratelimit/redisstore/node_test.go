package redisstore

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar/hosttest"
)

// heard is a Reporter that remembers what it got.
type heard struct {
	mu    sync.Mutex
	lines []string
}

func (h *heard) say(format string, args ...any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.lines = append(h.lines, fmt.Sprintf(format, args...))
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.lines, "\n")
}

func (h *heard) has(part string) bool { return strings.Contains(h.String(), part) }

func (h *heard) RedisCrowded(nodes, of int)             { h.say("%d nodes of %d", nodes, of) }
func (h *heard) RedisNamesake(string)                   { h.say("namesake") }
func (h *heard) RedisNamesakeGone(string)               { h.say("namesake gone") }
func (h *heard) RedisLost(_, mode string, reason error) { h.say("lost, %s: %v", mode, reason) }
func (h *heard) RedisBack(string, time.Duration)        { h.say("back") }
func (h *heard) RedisReplaced(string)                   { h.say("replaced") }
func (h *heard) RedisReplayed(_ string, sends, nodes, of int) {
	h.say("replayed %d, %d of %d", sends, nodes, of)
}
func (h *heard) RedisValueUnread(key string, reason error)      { h.say("unread %s: %v", key, reason) }
func (h *heard) RedisKeyUnusable(_ string, reason error)        { h.say("unusable: %v", reason) }
func (h *heard) RedisEvicts(_, policy string)                   { h.say("evicts %s", policy) }
func (h *heard) JournalCut(file string, at, bytes int64)        { h.say("cut") }
func (h *heard) JournalDamaged(f string, _, _ int64, err error) { h.say("damaged %s: %v", f, err) }
func (h *heard) JournalFailed(err error)                        { h.say("failed: %v", err) }
func (h *heard) JournalMended()                                 { h.say("mended") }

// A node is a Store of a test, with its ledger, running.
type node struct {
	*Store
	t      testing.TB
	dir    string
	own    *journal.Store
	heard  *heard
	offset time.Duration // by how much its clock is wrong
	stop   func()
}

// startNode starts a node and waits for it to work with Redis, unless lost.
func startNode(t testing.TB, o Options) *node {
	t.Helper()
	n := openNode(t, t.TempDir(), o)
	n.shared()
	return n
}

// openNode starts a node with what a directory holds. A busy machine is no outage: only a test
// that waits for answers to be late has a short Timeout of its own, and insists on what it needs first.
func openNode(t testing.TB, dir string, o Options) *node {
	t.Helper()
	n := &node{t: t, dir: dir, heard: &heard{}}
	own, err := journal.Open(dir, journal.Options{Reporter: n.heard, Ledger: ratelimit.Options{Keep: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	o.Ledger, o.Reporter, n.own = own, n.heard, own
	if o.Timeout == 0 {
		o.Timeout = hosttest.Deadline(2 * time.Second)
	}
	if o.Outage == "" {
		o.Outage = OutageShare
	}
	if o.Node == "" {
		o.Node = filepath.Base(dir)
	}
	if n.Store, err = Open(o); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { n.Run(ctx) })
	n.stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		n.Store.Close()
		if err := own.Close(); err != nil {
			t.Errorf("close the ledger: %v", err)
		}
	})
	t.Cleanup(n.stop)
	return n
}

// shared waits until Redis decides.
func (n *node) shared() {
	n.t.Helper()
	hosttest.EventuallyOr(n.t, func() string { return fmt.Sprintf("shared: %+v\n%s", n.Status(), n.heard) },
		func() bool { return n.mode() == modeShared })
}

// alone waits until Redis does not decide.
func (n *node) alone() {
	n.t.Helper()
	hosttest.Eventually(n.t, "alone", func() bool { return n.mode() != modeShared })
}

func (n *node) time() time.Time { return time.Now().Add(n.offset) }

func (n *node) take(t ratelimit.Take) (ratelimit.Result, error) {
	return n.Take(context.Background(), n.time(), t)
}

func hourly(name string, max int64) ratelimit.Subject {
	return ratelimit.Subject{Name: name, Limits: []ratelimit.Limit{{Window: time.Hour, Max: max}}}
}

func daily(s ratelimit.Subject, max int64) ratelimit.Subject {
	s.Limits = append(s.Limits[:len(s.Limits):len(s.Limits)], ratelimit.Limit{Window: 24 * time.Hour, Max: max})
	return s
}

// tokens are n tokens from a number on.
func tokens(from, n int) (ts []ratelimit.Token) {
	for i := range n {
		ts = append(ts, ratelimit.Token(from+i))
	}
	return ts
}

func take(from, n int, subjects ...ratelimit.Subject) ratelimit.Take {
	return ratelimit.Take{Subjects: subjects, Tokens: tokens(from, n), Marks: tokens(from, n)}
}
