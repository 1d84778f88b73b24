package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/ratelimit/redisurl"
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
			n := startNode(t, Options{URL: url + "?sentinel_password=" + sentinel})
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

// B-01: the hosts of a list are dialled as they stand there.
func TestIPv6HostsInAListAreDialled(t *testing.T) {
	t.Parallel()
	dialled := make(chan string, 64)
	listen := func() string {
		l, err := net.Listen("tcp", "[::1]:0")
		if err != nil {
			t.Skipf("no IPv6 on this host: %v", err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
				select {
				case dialled <- l.Addr().String():
				default:
				}
			}
		}()
		return l.Addr().String()
	}
	for _, form := range []string{"redis-cluster://%s,%s", "redis-cluster://%s, %s", "redis-sentinel://%s,%s/m"} {
		want := map[string]bool{listen(): true, listen(): true}
		hosts := slices.Collect(maps.Keys(want))
		n := openNode(t, t.TempDir(), Options{URL: fmt.Sprintf(form, hosts[0], hosts[1]), Timeout: hosttest.Deadline(200 * time.Millisecond)})
		late := time.After(hosttest.Patience())
		for len(want) > 0 {
			select {
			case host := <-dialled:
				delete(want, host)
			case <-late:
				t.Fatalf("%s: not dialled: %v", form, want)
			}
		}
		n.stop()
	}
}

// B-02: no URL with a mistake about TLS ever gets as far as to connect.
func TestAMisspeltTLSParameterOpensNothing(t *testing.T) {
	for _, url := range []string{
		"redis://127.0.0.1:7622?tls=1", "redis://127.0.0.1:7622?tls=True", "redis://127.0.0.1:7622?TLS=true", "redis://127.0.0.1:7622?ssl=true",
		"redis://127.0.0.1:7622?cafile=/etc/ssl/x.pem", "redis://127.0.0.1:7622?key=/etc/ssl/k.pem", "redis-sentinel://127.0.0.1/m?tls=on",
		"redis-cluster://127.0.0.1?tsl=true", "redis-cluster://127.0.0.1?tls=false&ca=/etc/ssl/x.pem",
	} {
		if _, err := Open(Options{URL: url}); err == nil {
			t.Errorf("%s: opened", url)
		}
	}
	for url, secure := range map[string]bool{
		"redis://h": false, "redis-cluster://h?tls=false": false, "rediss://h": true, "redis-cluster://h?tls=true": true, "redis-sentinel://h/m?tls=true": true,
	} {
		if a, err := parseURL(url); err != nil || (a.tls != nil) != secure {
			t.Errorf("%s: TLS %v, %v", url, a.tls != nil, err)
		}
	}
}

// A server that does not know AUTH repeats what was said to it.
func TestAServerThatQuotesThePassword(t *testing.T) {
	r := redistest.Start(t, "--rename-command", "AUTH", "XAUTH", "--rename-command", "HELLO", "XHELLO")
	n := openNode(t, t.TempDir(), Options{URL: strings.Replace(r.URL(), "//", "//:Secret99@", 1), Timeout: hosttest.Deadline(time.Second)})
	hosttest.Eventually(t, "saying why", func() bool { return n.heard.has("unknown command") })
	if said := fmt.Sprintf("%v %+v", n.heard, n.Status()); strings.Contains(said, "Secret99") {
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
	long := d.hide(errors.New("ERR unknown command 'AUTH', with args beginning with: 'Sec"))
	if long.Error() != "ERR unknown command 'AUTH'" {
		t.Errorf("%v", long)
	}
	if short := (address{URL: redisurl.URL{Password: "a"}}).secrets(); len(short) > 0 {
		t.Errorf("%q is looked for", short)
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
	n := startNode(t, Options{URL: url})
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

func TestServersOfRedisAndValkey(t *testing.T) {
	const master = ":standalone\r\nrole:master\r\nrun_id:a\r\nmaster_replid:b\r\n"
	for _, c := range []struct {
		info      string
		kind      redisurl.Kind
		want, err string
	}{
		{"redis_mode:sentinel\r\nrun_id:a\r\n", redisurl.Sentinel, "", ""},
		{"server_mode:sentinel\r\nrun_id:a\r\n", redisurl.Sentinel, "", ""},
		{"redis_mode" + master, redisurl.Single, "a/b", ""},
		{"server_mode" + master, redisurl.Sentinel, "a/b", ""},
		{"redis_mode:sentinel\r\nrun_id:a\r\n", redisurl.Single, "", "a Sentinel answers there"},
		{"server_mode:sentinel\r\nrun_id:a\r\n", redisurl.Cluster, "", "a Sentinel answers there"},
		{"redis_mode:cluster\r\nrole:master\r\nrun_id:a\r\n", redisurl.Single, "", "redis-cluster://"},
		{"server_mode:cluster\r\nrole:master\r\nrun_id:a\r\n", redisurl.Single, "", "redis-cluster://"},
	} {
		got, err := serverOf(c.info, c.kind)
		if got != c.want || (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%q: %q, %v", c.info, got, err)
		}
	}
}
