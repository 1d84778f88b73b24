package redisstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// A key to which somebody else has written is decided by this node alone, and so is nothing
// else: the server has not failed, and a node that meets it anew works with it. When the key
// is deleted, Redis has what was accepted meanwhile.
func TestAKeyThatCannotBeUsed(t *testing.T) {
	for what, spoil := range map[string][]any{
		"a list":       {"rpush", rootKey("a.example"), "x"},
		"another text": {"set", rootKey("a.example"), "x"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := redistest.Start(t)
			n := startNode(t, Options{URL: r.URL(), Timeout: hosttest.Deadline(2 * time.Second)})
			broken, whole := hourly("a.example", 20), hourly("b.example", 20)
			r.Do(spoil...)
			for i := range 10 { // 10 of 20 is the share of the only node
				for _, domain := range []string{"a.example", "b.example"} {
					if res, err := n.take(take(1+100*i+len(domain)*int(domain[0]), 1, hourly(domain, 20))); err != nil || !res.OK {
						t.Fatalf("%d of %s: %+v, %v", i, domain, res, err)
					}
				}
			}
			if _, err := n.take(take(5000, 1, broken)); err != ErrUncounted {
				t.Errorf("past the share: %v", err)
			}
			if st := n.Standing(n.time(), whole.Name); st.Partial || st.Windows[0].Sent != 10 || n.heard.has("lost") {
				t.Errorf("another domain: %+v\n%s", st, n.heard)
			}
			if st := n.Status(); st.Mode != modeShared || st.Servers[0].BadKey == "" || !n.heard.has("about "+rootKey("a.example")) {
				t.Errorf("%+v\n%s", st, n.heard)
			}
			n.servers.single.unready() // as if it had been away
			n.shared()
			// It comes back with this key alone. In one step: the node would use any moment
			// without it to charge what it owes.
			r.Do(append([]any{"eval", "redis.call('flushall') redis.call(unpack(ARGV))", 0}, spoil...)...)
			r.Do("save")
			r.Kill()
			r.Start()
			hosttest.Eventually(t, "a second replay", func() bool { return strings.Count(n.heard.String(), "replayed") == 2 })
			n.shared()
			if st := n.Standing(n.time(), whole.Name); st.Partial || st.Windows[0].Sent != 10 {
				t.Errorf("another domain, after a replay: %+v", st)
			}
			r.Do("del", rootKey("a.example"))
			hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("%+v", n.Standing(n.time(), "a.example")) }, func() bool {
				st := n.Standing(n.time(), "a.example")
				return !st.Partial && len(st.Windows) == 1 && st.Windows[0].Sent == 10 && n.Status().Unmerged == 0
			})
		})
	}
}

// A slot moves from one master to another while a node sends: it follows, and neither master
// has failed.
func TestASlotMovesWhileANodeSends(t *testing.T) {
	t.Parallel()
	url, servers := redistest.StartCluster(t, 2)
	answers := 0
	n := startNode(t, Options{URL: url, Timeout: hosttest.Deadline(2 * time.Second), answered: func(ratelimit.Take, time.Time, answer) { answers++ }})
	domain, slot := hourly("a.example", 50), keySlot(rootKey("a.example"))
	sent := 0
	send := func(sends int) {
		t.Helper()
		for range sends {
			sent++
			if ok, err := insist(n, take(sent, 1, domain)); err != nil || !ok {
				t.Fatalf("send %d: %v, %v\n%s", sent, ok, err, n.heard)
			}
		}
	}
	send(20)
	from, to := servers[0], servers[1]
	if slot >= 8192 {
		from, to = to, from
	}
	fromID, toID := fmt.Sprint(from.Do("cluster", "myid")), fmt.Sprint(to.Do("cluster", "myid"))
	to.Do("cluster", "setslot", slot, "importing", fromID)
	from.Do("cluster", "setslot", slot, "migrating", toID)
	send(5) // what has no key there yet is answered with ASK or TRYAGAIN
	keys := append([]any{"migrate", "127.0.0.1", to.Port, "", 0, 5000, "keys"}, from.Do("cluster", "getkeysinslot", slot, 100).([]any)...)
	from.Do(keys...)
	send(5) // of which the one has nothing any more, and the other does not decide yet
	for _, s := range []*redistest.Server{to, from} {
		s.Do("cluster", "setslot", slot, "node", toID)
	}
	answers = 0
	if send(1); answers != 1 {
		t.Errorf("a slot that had moved was not followed")
	}
	send(19)
	hosttest.Eventually(t, "merged", func() bool { return n.Status().Unmerged == 0 })
	if st := n.Standing(n.time(), domain.Name); st.Partial || st.Windows[0].Sent != 50 || n.heard.has("lost") {
		t.Errorf("%+v, want 50\n%s", st, n.heard)
	}
	if ok, err := insist(n, take(1000, 1, domain)); ok || err != nil {
		t.Errorf("the 51st: %v, %v", ok, err)
	}
}
