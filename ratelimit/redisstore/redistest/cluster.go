package redistest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// StartCluster starts a Redis Cluster of so many masters, and returns its store.url.
func StartCluster(t testing.TB, masters int) (url string, all []*Server) {
	t.Helper()
	var hosts []string
	bus := make([]int, masters)
	for i := range masters {
		bus[i] = hosttest.FreePort(t)
		s := Start(t, "--cluster-enabled", "yes", "--cluster-port", fmt.Sprint(bus[i]), "--cluster-node-timeout", "1000")
		s.Do("cluster", "addslotsrange", 16384*i/masters, 16384*(i+1)/masters-1)
		s.Do("cluster", "set-config-epoch", i+1)
		if i > 0 {
			s.Do("cluster", "meet", "127.0.0.1", all[0].Port, bus[0])
		}
		all = append(all, s)
		hosts = append(hosts, s.Addr())
	}
	for _, s := range all {
		hosttest.Eventually(t, "the cluster", func() bool {
			info := fmt.Sprint(s.Do("cluster", "info"))
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, fmt.Sprintf("cluster_known_nodes:%d", masters))
		})
	}
	return "redis-cluster://" + strings.Join(hosts, ","), all
}

// A Pair is a master and a replica, watched by three Sentinels.
type Pair struct {
	URL             string
	Master, Replica *Server
}

// StartPair starts a Pair.
func StartPair(t testing.TB) Pair { return StartPairWith(t, "", "") }

// StartPairWith starts a Pair whose servers and whose Sentinels want passwords; "" is
// none. The URL has neither.
func StartPairWith(t testing.TB, password, sentinelPassword string) Pair {
	t.Helper()
	var secrets []string
	if password != "" {
		secrets = []string{"--requirepass", password, "--masterauth", password}
	}
	p := Pair{Master: start(t, password, secrets...), Replica: start(t, password, secrets...)}
	p.Replica.Do("replicaof", "127.0.0.1", p.Master.Port)
	hosttest.Eventually(t, "the replica", func() bool {
		return strings.Contains(fmt.Sprint(p.Replica.Do("info", "replication")), "master_link_status:up")
	})
	var hosts []string
	var sentinels []*Server
	for range 3 {
		s := &Server{t: t, Dir: t.TempDir(), Port: hosttest.FreePort(t), Password: sentinelPassword}
		conf := filepath.Join(s.Dir, "sentinel.conf")
		text := fmt.Sprintf("port %d\nbind 127.0.0.1\nunixsocket %s\ndir %s\nlogfile %s/log\nsentinel monitor pair 127.0.0.1 %d 2\n"+
			"sentinel down-after-milliseconds pair 500\nsentinel failover-timeout pair 3000\n", s.Port, s.Socket(), s.Dir, s.Dir, p.Master.Port)
		if password != "" {
			text += "sentinel auth-pass pair " + password + "\n"
		}
		if sentinelPassword != "" {
			text += "requirepass " + sentinelPassword + "\nsentinel sentinel-pass " + sentinelPassword + "\n"
		}
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		s.exec("redis-sentinel", conf)
		t.Cleanup(s.Kill)
		sentinels, hosts = append(sentinels, s), append(hosts, s.Addr())
	}
	for _, s := range sentinels {
		hosttest.Eventually(t, "the sentinels", func() bool {
			c := s.Client()
			defer c.Close()
			info := c.Info(t.Context(), "sentinel").Val()
			return strings.Contains(info, "status=ok") && strings.Contains(info, "slaves=1,sentinels=3")
		})
	}
	p.URL = "redis-sentinel://" + strings.Join(hosts, ",") + "/pair"
	return p
}
