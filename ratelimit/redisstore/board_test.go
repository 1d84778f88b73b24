package redisstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// What somebody else has written on the board, or among the signs of the nodes, is passed
// over and reported once: all other values are posted, read and removed as before.
func TestAValueOnTheBoardThatCannotBeRead(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	r.Do("hset", boardKeys[0], "threshold/000000000001", "garbage", "", "no number")
	r.Do("zadd", boardKeys[1], 1, "threshold/000000000001")
	r.Do("hset", "sluice:{*}:nodes", "garbage", "garbage")
	o := Options{URL: r.URL(), Nodes: 2}
	a, b := startNode(t, o), startNode(t, o)
	for _, key := range []string{"threshold/000000000002", "lock/a.example"} {
		if stands, err := a.Post(t.Context(), key, []byte("x")); err != nil || string(stands) != "x" {
			t.Errorf("post %s: %q, %v", key, stands, err)
		}
		hosttest.Eventually(t, "the other node has "+key, func() bool { return b.board.has(key) })
	}
	if err := b.Remove(t.Context(), "lock/a.example"); err != nil {
		t.Error(err)
	}
	hosttest.Eventually(t, "it is removed", func() bool { return !a.board.has("lock/a.example") })
	for _, n := range []*node{a, b} {
		hosttest.Eventually(t, "it is reported", func() bool { return n.heard.has("unread threshold/000000000001: ") })
	}
	if stands, err := a.Post(t.Context(), "threshold/000000000001", []byte("y")); err != nil || string(stands) != "y" {
		t.Errorf("its key is taken: %q, %v", stands, err)
	}
	hosttest.Eventually(t, "it is replaced", func() bool { return b.board.has("threshold/000000000001") })
	if said := a.heard.String() + b.heard.String(); strings.Count(said, "unread ") != 2 {
		t.Errorf("it says\n%s", said)
	}
}

// Watch tells of what is there, and of each change once, whoever makes it.
func TestTheBoardIsWatched(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	o := Options{URL: r.URL(), Nodes: 2}
	a, b := startNode(t, o), startNode(t, o)
	post := func(n *node, key, value string) {
		t.Helper()
		if _, err := n.Post(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	post(a, "t/1", "one")
	hosttest.Eventually(t, "the first", func() bool { return b.board.has("t/1") })
	saw := &heard{}
	b.Watch("t/", func(key string, value []byte) { saw.say("%s=%s", key, value) })
	post(a, "t/2", "two")
	post(b, "other/1", "x")
	post(b, "t/3", "three")
	if err := a.Remove(t.Context(), "t/1"); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "the removal", func() bool { return saw.has("t/1=\n") || strings.HasSuffix(saw.String(), "t/1=") })
	if got := saw.String(); strings.Count(got, "=") != 4 || !strings.HasPrefix(got, "t/1=one\n") || !saw.has("t/2=two") || !saw.has("t/3=three") {
		t.Errorf("saw\n%s", got)
	}
}

// noNotes is a ledger that keeps no notes; nothing else of it is called.
type noNotes struct{ Ledger }

func (noNotes) Note(string, []byte) error          { return nil }
func (noNotes) Notes(string, func(string, []byte)) {}

// The cost of Entries follows what it finds, however much else is on the board: copying
// all of it would take hundreds of allocations.
func TestEntriesGathersOnlyWhatItFinds(t *testing.T) {
	s := &Store{board: newBoard(noNotes{})}
	for n := range 10_000 {
		s.receive(fmt.Sprintf("other/%06d", n), entry{Value: []byte("x"), Stamp: 1})
	}
	for n := range 2 {
		s.receive(fmt.Sprintf("trip/d%d.example", n), entry{Value: []byte("mx1"), Stamp: 1})
	}
	found := 0
	allocations := testing.AllocsPerRun(10, func() {
		found = 0
		s.Entries("trip/", func(string, []byte) { found++ })
	})
	if found != 2 || allocations > 10 {
		t.Errorf("%d entries found with %v allocations", found, allocations)
	}
}

// has reports whether this node's copy has a value.
func (b *board) has(key string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	e, _ := b.entries.Get(key)
	return len(e.Value) > 0
}

// What a node tells replaces what it told before, is seen by whoever watches, also by who
// comes later, is gone after its time, and is no note.
func TestWhatIsToldIsSeenAndExpires(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	o := Options{URL: r.URL(), Nodes: 2}
	a, b := startNode(t, o), startNode(t, o)
	saw := &heard{}
	b.Watch("who/", func(key string, value []byte) { saw.say("%s=%s", key, value) })
	for _, value := range []string{"one", "two"} {
		a.Tell("who/a/x.example", []byte(value), time.Hour)
		hosttest.Eventually(t, value, func() bool { return saw.has("who/a/x.example=" + value) })
	}
	late, sawLate := startNode(t, o), &heard{}
	late.Watch("who/", func(key string, value []byte) { sawLate.say("%s=%s", key, value) })
	hosttest.Eventually(t, "the late node sees it", func() bool { return sawLate.has("who/a/x.example=two") })
	if sawLate.has("one") {
		t.Errorf("it says\n%s", sawLate.String())
	}
	b.board.ledger.Notes("", func(key string, _ []byte) {
		if strings.Contains(key, "who/") {
			t.Errorf("%s is a note", key)
		}
	})
	a.Tell("who/a/x.example", []byte("three"), time.Second)
	hosttest.Eventually(t, "the third", func() bool { return saw.has("who/a/x.example=three") })
	hosttest.Eventually(t, "it is gone", func() bool {
		return !b.board.has("who/a/x.example") && r.Do("hexists", boardKeys[0], "who/a/x.example") == int64(0)
	})
}

// What is told while Redis is away is told when it is back, the last of each key.
func TestWhatIsToldWaitsForRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	o := Options{URL: r.URL(), Nodes: 2}
	a, b := startNode(t, o), startNode(t, o)
	saw := &heard{}
	b.Watch("who/", func(key string, value []byte) { saw.say("%s=%s", key, value) })
	r.Kill()
	a.Tell("who/a/x.example", []byte("one"), time.Hour)
	a.Tell("who/a/x.example", []byte("two"), time.Hour)
	r.Start()
	hosttest.Eventually(t, "it is told", func() bool { return saw.has("who/a/x.example=two") })
}
