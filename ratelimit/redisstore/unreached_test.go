package redisstore

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// B-04 and its kind: whatever keeps Redis from being reached is reported, and shown by
// Status, in the words of the server or of the system.
func TestWhyRedisIsNotReached(t *testing.T) {
	t.Parallel()
	nobody := fmt.Sprintf("127.0.0.1:%d", hosttest.FreePort(t))
	plain := redistest.Start(t)
	locked := redistest.Start(t)
	locked.Do("config", "set", "requirepass", "secret99")
	cert, key := certificate(t, t.TempDir())
	port := hosttest.FreePort(t)
	redistest.Start(t, "--tls-port", fmt.Sprint(port), "--tls-cert-file", cert, "--tls-key-file", key, "--tls-ca-cert-file", cert)
	secure := fmt.Sprintf("127.0.0.1:%d", port)
	bus := func() string { return fmt.Sprint(hosttest.FreePort(t)) }
	empty := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-port", bus())
	half := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-port", bus())
	half.Do("cluster", "addslotsrange", 0, 8191)
	replica := redistest.Start(t)
	replica.Do("replicaof", "127.0.0.1", fmt.Sprint(hosttest.FreePort(t)))
	noInfo := redistest.Start(t)
	noInfo.Do("acl", "setuser", "sluice", "on", ">secret99", "~sluice:*", "&sluice:*", "+@all", "-@dangerous")
	silent := redistest.StartProxy(t, plain.Addr())
	silent.Set(redistest.Stall)
	mute := strings.TrimPrefix(silent.URL(), "redis://")
	pair := redistest.StartPair(t)
	sentinel, _, _ := strings.Cut(strings.TrimPrefix(pair.URL, "redis-sentinel://"), ",")

	for url, want := range map[string]string{
		"redis://" + nobody:                 "connection refused",
		"redis-cluster://" + nobody:         "connection refused",
		"redis-sentinel://" + nobody + "/m": "connection refused",
		"redis://nobody.invalid":            "lookup nobody.invalid",
		"redis-cluster://nobody.invalid":    "lookup nobody.invalid",
		"unix:///nonexistent/socket":        "no such file or directory",

		locked.URL():                                "NOAUTH",
		"redis://:Wrong99@" + locked.Addr():         "WRONGPASS",
		"redis-cluster://" + locked.Addr():          "NOAUTH",
		"redis-cluster://:Wrong99@" + locked.Addr(): "WRONGPASS",
		"redis://sluice:secret99@" + noInfo.Addr():  "has no permissions to run the 'info' command",

		"redis-cluster://" + plain.Addr():                "cluster support disabled",
		"redis-cluster://" + nobody + "," + plain.Addr(): nobody + ": connect: connection refused; ask " + plain.Addr() + ": ERR This instance has cluster support disabled",
		"redis-cluster://" + empty.Addr():                "16384 of 16384 slots of the cluster are on no server",
		"redis-cluster://" + half.Addr():                 "8192 of 16384 slots of the cluster are on no server",
		half.URL():                                       "write redis-cluster://",
		"redis://" + sentinel:                            "write redis-sentinel://",
		"redis-sentinel://" + plain.Addr() + "/m":        "no Sentinel answers there",
		strings.Replace(pair.URL, "/pair", "/other", 1):  "watches no master of the name in the URL",
		replica.URL():                                    "the server is a replica, not a master",

		"redis://" + mute:                               "timeout: no answer within",
		"redis-cluster://" + mute:                       "timeout: no answer within",
		"redis://" + deaf(t):                            "i/o timeout",
		"rediss://" + secure:                            "certificate signed by unknown authority",
		"redis://" + secure:                             "does that port want TLS",
		"redis-cluster://" + secure:                     "does that port want TLS",
		"rediss://" + secure + "?ca=" + cert:            "", // it takes clients only with a certificate: TLS says so after the handshake, if it can
		"rediss://" + plain.Addr():                      "TLS handshake with " + plain.Addr(),
		"redis-cluster://" + plain.Addr() + "?tls=true": "TLS handshake with " + plain.Addr(),
	} {
		t.Run(url, func(t *testing.T) {
			t.Parallel()
			n := openNode(t, t.TempDir(), Options{URL: url, Timeout: hosttest.Deadline(200 * time.Millisecond)})
			told := func() bool {
				trouble := ""
				for _, s := range n.Status().Servers {
					trouble += s.Trouble
				}
				return n.heard.has("lost, share: ") && n.heard.has(want) && strings.Contains(trouble, want) && n.mode() != modeShared
			}
			hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("told %q, not\n%s\n%+v", want, n.heard, n.Status()) }, told)
			if said := n.heard.String(); strings.Contains(said, "Wrong99") || strings.Contains(said, "\nredis: nil") {
				t.Errorf("it says\n%s", said)
			}
			n.stop()
		})
	}
}

// deaf is a port whose queue of connections is full: whoever connects waits.
func deaf(t *testing.T) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	bound, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", bound.(*unix.SockaddrInet4).Port)
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return addr
}

// The server's words also where it served before: while it loads its data, and as a
// replica that has lost its master. When it serves again, none of them are left.
func TestWhyRedisServesNoMore(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--enable-debug-command", "yes")
	n := startNode(t, Options{URL: r.URL(), Timeout: hosttest.Deadline(200 * time.Millisecond)})
	told := func(wants ...string) {
		t.Helper()
		hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("%q: %+v\n%s", wants, n.Status(), n.heard) }, func() bool {
			trouble := n.Status().Servers[0].Trouble
			return slices.ContainsFunc(wants, n.heard.has) &&
				slices.ContainsFunc(wants, func(want string) bool { return strings.Contains(trouble, want) })
		})
	}
	r.Do("debug", "populate", 100_000)
	r.Do("config", "set", "key-load-delay", 1000, "loading-process-events-interval-bytes", 1024)
	loading, done := context.WithCancel(t.Context())
	go func() {
		c := r.Client()
		defer c.Close()
		c.Do(loading, "debug", "reload")
	}()
	told("LOADING")
	done()
	r.Kill()
	r.Start()
	n.shared()
	if st := n.Status().Servers[0]; st.Trouble != "" {
		t.Errorf("%+v", st)
	}
	r.Do("config", "set", "replica-serve-stale-data", "no")
	r.Do("replicaof", "127.0.0.1", fmt.Sprint(hosttest.FreePort(t)))
	told("MASTERDOWN", "the server is a replica, not a master") // the second where a new connection asks first
}

// Where the first that is known is only that there was no answer, what the server says later
// is reported too, once.
func TestWhyRedisIsNotReachedIsToldLater(t *testing.T) {
	t.Parallel()
	locked := redistest.Start(t)
	locked.Do("config", "set", "requirepass", "secret99")
	p := redistest.StartProxy(t, locked.Addr())
	p.Set(redistest.Stall)
	n := openNode(t, t.TempDir(), Options{URL: p.URL(), Timeout: hosttest.Deadline(200 * time.Millisecond)})
	hosttest.Eventually(t, "silent", func() bool { return n.heard.has("lost, share: ") && n.heard.has("timeout: no answer") })
	p.Set(redistest.Pass)
	hosttest.Eventually(t, "what it says", func() bool { return n.heard.has("NOAUTH") })
	n.stop()
	if said := n.heard.String(); strings.Count(said, "lost") != 2 {
		t.Errorf("it says\n%s", said)
	}
}

// A Cluster that is reached late serves, and that is reported once.
func TestAClusterThatIsReachedLate(t *testing.T) {
	t.Parallel()
	url, servers := redistest.StartCluster(t, 1)
	p := redistest.StartProxy(t, servers[0].Addr())
	p.Set(redistest.Cut)
	n := openNode(t, t.TempDir(), Options{URL: strings.Replace(p.URL(), "redis:", "redis-cluster:", 1), Timeout: hosttest.Deadline(2 * time.Second)})
	hosttest.Eventually(t, "lost", func() bool { return n.heard.has("lost, share: ") })
	p.Set(redistest.Pass)
	n.shared()
	hosttest.Eventually(t, "back", func() bool { return n.heard.has("back") })
	if said := n.heard.String(); strings.Count(said, "lost") != 1 || strings.Count(said, "back") != 1 {
		t.Errorf("%s: it says\n%s", url, said)
	}
	for _, s := range n.Status().Servers {
		if s.Trouble != "" || s.Mode != modeShared {
			t.Errorf("%+v", s)
		}
	}
}
