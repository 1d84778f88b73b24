package main

import (
	"context"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/policyd"
)

// A decision is what a node answered to one send.
type decision struct {
	at       time.Time // when it was asked
	node     string
	accepted bool
	limit    int // of a refusal: the one that it names
	reply    string
}

// A load is two nodes that are asked without pause.
type load struct {
	mu        sync.Mutex
	decisions []decision
	accepted  int // sends, each of which was asked about twice
}

var refusedLimit = regexp.MustCompile(`emails per hour \(\d+/(\d+) \(`)

// send asks a node about a new send, and of one that was accepted once more, as
// after a lost reply.
func (l *load) send(ctx context.Context, t *testing.T, n *servedNode, number int) {
	c := policyd.Client{Path: n.dir + "/run/policy.sock", Timeout: hosttest.Patience()}
	start := time.Now()
	ask := func() string {
		reply, err := c.Ask(ctx, []policyd.Field{
			{Name: "stage", Value: "data"}, {Name: "id", Value: fmt.Sprintf("1xUzSN-%06d-0q", number)}, {Name: "auth", Value: "news@example.com"},
			{Name: "sender", Value: "news@example.com"}, {Name: "client_address", Value: "192.0.2.1"}, {Name: "recipients", Value: fmt.Sprintf("r%d@far.example", number)},
		})
		if err != nil && ctx.Err() == nil {
			t.Errorf("%s: %v", n.dir, err)
		}
		return reply
	}
	reply := ask()
	d := decision{at: start, node: n.dir, accepted: strings.HasPrefix(reply, "action=DUNNO"), reply: reply}
	if m := refusedLimit.FindStringSubmatch(reply); m != nil {
		d.limit, _ = strconv.Atoi(m[1])
	}
	if ctx.Err() != nil && reply == "" {
		return
	}
	if d.accepted && !strings.HasPrefix(ask(), "action=DUNNO") && ctx.Err() == nil {
		t.Error("refused what was accepted before")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.decisions = append(l.decisions, d)
	if d.accepted {
		l.accepted++
	}
}

// settled waits until both nodes refuse by the limit, and wants them to go by nothing
// else from then on, in the soak from a second after the change on; and so many sends
// accepted in all.
func (l *load) settled(t *testing.T, what string, change time.Time, limit, total int) {
	t.Helper()
	hosttest.Eventually(t, fmt.Sprintf("%s: both refuse by a limit of %d", what, limit), func() bool { return l.refused(change, limit, 1) })
	from := time.Now()
	hosttest.NotLonger(t, what, from.Sub(change), time.Second)
	hosttest.Eventually(t, what+": both go on refusing", func() bool { return l.refused(from, limit, 20) })
	for _, d := range l.since(from) {
		if d.accepted || d.limit != limit {
			t.Fatalf("%s: %s decides %v after the change, want it to refuse by a limit of %d: %s", what, d.node, d.at.Sub(change), limit, d.reply)
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.accepted != total {
		t.Errorf("%s: %d accepted, want %d", what, l.accepted, total)
	}
	t.Logf("%s: limit %d, %d accepted, %d decisions so far", what, limit, l.accepted, len(l.decisions))
}

// settledFor has a limit set for a while, and returns when it expires, and how often it was set:
// on a busy machine it may expire before both nodes have refused by it.
func (l *load) settledFor(t *testing.T, limit int, set func(time.Duration) time.Time) (expires time.Time, tries int) {
	t.Helper()
	for d := 2 * time.Second; d < hosttest.Patience(); d *= 2 {
		change := set(d)
		tries++
		for expires = change.Add(d); time.Now().Before(expires); time.Sleep(5 * time.Millisecond) {
			if l.refused(change, limit, 20) {
				return expires, tries
			}
		}
	}
	t.Fatalf("a limit of %d that expires was never in force on both nodes", limit)
	return expires, tries
}

// refused reports whether both nodes have refused what was asked since then by a limit, so often.
func (l *load) refused(since time.Time, limit, times int) bool {
	refused := map[string]int{}
	for _, d := range l.since(since) {
		if !d.accepted && d.limit == limit {
			refused[d.node]++
		}
	}
	return len(refused) == 2 && slices.Min(slices.Collect(maps.Values(refused))) >= times
}

// since are the decisions on what was asked from then on.
func (l *load) since(from time.Time) []decision {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.decisions), func(d decision) bool { return d.at.Before(from) })
}

// Limits change while two nodes are asked without pause:
//
//	sluice set ─→ mx1 ─→ Redis ─→ mx2
//	load ─ sends, each asked about twice ─→ mx1, mx2
//
// After each change all decisions of both go by the new limit. The count goes on
// through all of it, and at its end is what the clients were reported.
func TestLimitsChangeOnAllNodesWhileMailFlows(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	a, b := pairOn(t, r.URL())
	l := &load{}
	ctx, stop := context.WithCancel(t.Context())
	var clients sync.WaitGroup
	for i, n := range []*servedNode{a, b} {
		clients.Go(func() {
			for number := i; ctx.Err() == nil; number += 2 {
				time.Sleep(2 * time.Millisecond) // leaves a busy machine something for Redis
				l.send(context.WithoutCancel(ctx), t, n, number)
			}
		})
	}
	change := func(n *servedNode, args ...string) time.Time {
		t.Helper()
		n.wantRun(t, exitDone, "", args...)
		return time.Now()
	}
	l.settled(t, "the file's", time.Now(), 10, 10)
	l.settled(t, "raised on mx1", change(a, "set", "example.com", "hourly=40"), 40, 40)
	l.settled(t, "lowered on mx2", change(b, "set", "example.com", "hourly=20"), 20, 40)
	l.settled(t, "removed on mx1", change(a, "unset", "example.com"), 10, 40)
	expired, tries := l.settledFor(t, 60, func(d time.Duration) time.Time {
		return change(b, "set", "example.com", "hourly=60", "--for", d.String())
	})
	l.settled(t, "expired", expired, 10, 60)
	l.settled(t, "raised again on mx1", change(a, "set", "example.com", "hourly=80"), 80, 80)
	l.settled(t, "rolled back on mx2", change(b, "rollback", strconv.Itoa(4+tries)), 10, 80)
	stop()
	clients.Wait()
	for _, n := range []*servedNode{a, b} {
		n.wantRun(t, exitDone, fmt.Sprintf("%d of 10 in the last hour", l.accepted), "status", "example.com")
		n.wantRun(t, exitDone, fmt.Sprintf("rollback of %d", 4+tries), "history")
	}
}

// A node whose file says something else is named on all nodes.
func TestNodesWhoseFilesDiffer(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	a, b := startClustered(t, "mx1.example", r.URL()), startClustered(t, "mx2.example", r.URL())
	differs := func(n *servedNode, other string) bool {
		out, _ := n.sluice(t, "status")
		return strings.Contains(out, other+" has other limits in its configuration")
	}
	hosttest.Eventually(t, "both nodes in status", func() bool {
		out, _ := a.sluice(t, "status")
		return strings.Contains(out, "mx2.example")
	})
	if differs(a, "mx2.example") || differs(b, "mx1.example") {
		t.Error("they are said to differ, and do not")
	}
	file := b.dir + "/sluice.toml"
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := string(whole)
	writeFile(t, file, strings.Replace(text, "hourly = 10", "hourly = 11", 1))
	hosttest.Eventually(t, "they differ", func() bool { return differs(a, "mx2.example") && differs(b, "mx1.example") })
	writeFile(t, file, text)
	hosttest.Eventually(t, "they agree", func() bool { return !differs(a, "mx2.example") && !differs(b, "mx1.example") })
}
