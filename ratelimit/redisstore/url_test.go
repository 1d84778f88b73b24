package redisstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// B-07: Sentinels with a password of their own, or with that of the servers.
//
//	sluice ─→ Sentinels (requirepass sent+pw) ─→ master (requirepass dbpw)
func TestSentinelsWithAPassword(t *testing.T) {
	t.Parallel()
	for name, sentinel := range map[string]string{"their own": "sent+pw", "the same": "dbpw"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pair := redistest.StartPairWith(t, "dbpw", sentinel)
			url := strings.Replace(pair.URL, "//", "//:dbpw@", 1)
			n := startNode(t, Options{URL: url + "?sentinel_password=" + sentinel, Timeout: hosttest.Deadline(time.Second)})
			for i, want := range []bool{true, true, false} {
				if res, err := n.take(take(1+i, 1, hourly("a.example", 2))); err != nil || res.OK != want {
					t.Errorf("%+v, %v", res, err)
				}
			}
			for bad, reason := range map[string]string{
				url:                                "NOAUTH",
				url + "?sentinel_password=Wrong99": "WRONGPASS",
				strings.Replace(url, "dbpw", "Wrong99", 1) + "?sentinel_password=" + sentinel: "WRONGPASS",
			} {
				n := openNode(t, t.TempDir(), Options{URL: bad, Timeout: hosttest.Deadline(time.Second)})
				hosttest.Eventually(t, "saying why", func() bool { return n.heard.has("lost, share") && n.heard.has(reason) })
				if said := fmt.Sprint(n.heard, n.Status()); strings.Contains(said, "Wrong99") {
					t.Errorf("it says the password: %s", said)
				}
				n.stop()
			}
		})
	}
}

// A server that does not know AUTH repeats what was said to it.
func TestAServerThatQuotesThePassword(t *testing.T) {
	r := redistest.Start(t, "--rename-command", "AUTH", "XAUTH", "--rename-command", "HELLO", "XHELLO")
	n := openNode(t, t.TempDir(), Options{URL: strings.Replace(r.URL(), "//", "//:Secret99@", 1), Timeout: hosttest.Deadline(time.Second)})
	hosttest.Eventually(t, "saying why", func() bool { return n.heard.has("unknown command") })
	if said := fmt.Sprintf("%v %+v", n.heard, n.Status()); strings.Contains(said, "Secret99") || !strings.Contains(said, "***") {
		t.Errorf("it says %s", said)
	}
	n.stop()
}

func TestAHiddenErrorIsStillTheError(t *testing.T) {
	d := discreet{[]string{"Secret99"}}
	plain := errors.New("refused")
	if d.hide(plain) != plain {
		t.Error("an error without the password is another one")
	}
	err := d.hide(fmt.Errorf("auth Secret99: %w", redis.ErrClosed))
	if !errors.Is(err, redis.ErrClosed) || strings.Contains(err.Error(), "Secret99") {
		t.Errorf("%v", err)
	}
}

// The servers of a Cluster that tells no hosts are where it was asked.
func TestAClusterWithoutHosts(t *testing.T) {
	t.Parallel()
	url, servers := redistest.StartCluster(t, 2)
	for _, s := range servers {
		s.Do("config", "set", "cluster-preferred-endpoint-type", "unknown-endpoint")
	}
	n := startNode(t, Options{URL: url, Timeout: hosttest.Deadline(time.Second)})
	for i := range 20 {
		if res, err := n.take(take(1+i, 1, hourly(fmt.Sprintf("d%d.example", i), 2))); err != nil || !res.OK {
			t.Errorf("%+v, %v", res, err)
		}
	}
	if st := n.Status(); st.Mode != modeShared || len(st.Servers) != 2 {
		t.Errorf("%+v", st)
	}
}

func TestParseSlots(t *testing.T) {
	master := func(host any, port int64) []any { return []any{host, port, "id", []any{}} }
	got, err := parseSlots([]any{
		[]any{int64(0), int64(99), master(nil, 7001), master("replica", 7009)},
		[]any{int64(100), int64(100), master("", 7002)},
		[]any{int64(101), int64(200), master("::1", 7003)},
		[]any{int64(201), int64(300)},
	}, "[2001:db8::1]:7001")
	want := []slotRange{{0, 99, "[2001:db8::1]:7001"}, {100, 100, "[2001:db8::1]:7002"}, {101, 200, "[::1]:7003"}}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(slotRange{})); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	for _, bad := range []any{[]any{"0", int64(1), master("h", 1)}, []any{int64(0), int64(1), []any{"h"}}, []any{int64(0), int64(1), []any{"h", "1"}}} {
		if _, err := parseSlots([]any{bad}, "h:1"); err == nil {
			t.Errorf("%v: accepted", bad)
		}
	}
}

func TestSentinelsOfRedisAndValkey(t *testing.T) {
	for info, want := range map[string]string{
		"redis_mode:sentinel\r\nrun_id:a\r\n":                                      "",
		"server_mode:sentinel\r\nrun_id:a\r\n":                                     "",
		"redis_mode:standalone\r\nrole:master\r\nrun_id:a\r\nmaster_replid:b\r\n":  "a/b",
		"server_mode:standalone\r\nrole:master\r\nrun_id:a\r\nmaster_replid:b\r\n": "a/b",
	} {
		if got, err := serverOf(info); got != want || err != nil {
			t.Errorf("%q: %q, %v", info, got, err)
		}
	}
}
