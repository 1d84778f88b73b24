package redisstore

import (
	"fmt"
	"strings"
	"testing"

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
			n := startNode(t, Options{URL: r.URL()})
			broken, whole := hourly("a.example", 20), hourly("b.example", 20)
			r.Do(spoil...)
			for i := range 10 { // 10 of 20 is the share of the only node
				for _, domain := range []string{"a.example", "b.example"} {
					if res, err := n.take(take(1+100*i+len(domain)*int(domain[0]), 1, hourly(domain, 20))); err != nil || !res.OK {
						t.Fatalf("%d of %s: %+v, %v", i, domain, res, err)
					}
				}
			}
			if _, err := n.take(take(5000, 1, broken)); err != ratelimit.ErrUncounted {
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
