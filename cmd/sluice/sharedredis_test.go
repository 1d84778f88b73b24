package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// eventuallySays waits until a command prints a text.
func (n *servedNode) eventuallySays(t *testing.T, text string, command ...string) {
	t.Helper()
	var out string
	defer func() {
		if t.Failed() {
			t.Logf("the last time it printed\n%s\nand the log is\n%s", out, n.log)
		}
	}()
	hosttest.Eventually(t, strings.Join(command, " ")+" says "+text, func() bool {
		out, _ = n.sluice(t, command...)
		return strings.Contains(out, text)
	})
}

// A Redis that drops counters when its memory is full is named at the start, in
// status and by doctor, until its operator has changed that.
func TestAnEvictingRedisIsNamed(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t, "--maxmemory-policy", "allkeys-lru")
	n := startClustered(t, "mx1.example", r.URL())
	for _, policy := range []string{"allkeys-lru", "volatile-ttl", "allkeys-random"} {
		r.Do("config", "set", "maxmemory-policy", policy)
		n.eventuallySays(t, "drops counters when its memory is full (maxmemory-policy "+policy+")", "status")
		n.eventuallySays(t, "its maxmemory-policy is "+policy, "doctor")
		if said := strings.Count(n.log.String(), "maxmemory-policy="+policy); said != 1 {
			t.Errorf("the log names %s %d times\n%s", policy, said, n.log)
		}
	}
	r.Do("config", "set", "maxmemory-policy", "noeviction")
	n.eventuallySays(t, "evicts nothing", "doctor")
	if out, _ := n.sluice(t, "status"); strings.Contains(out, "maxmemory-policy") {
		t.Errorf("status still says\n%s", out)
	}
}

// What else doctor and status find about the Redis that nodes share: each is done
// to a real one while the node runs, and mended.
func TestDoctorFindsWhatAilsTheSharedRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	n := startClustered(t, "mx1.example", r.URL())
	for _, a := range []struct {
		name       string
		harm, heal func()
		doctor     string
		status     string
	}{
		{"fewer nodes than store.nodes", nil, nil, "1 node shares this Redis, and store.nodes is 2", "1 node of store.nodes = 2"},
		{"a node has other limits", func() { sign(r, "mx2.example", 0) }, nil,
			"mx2.example has other limits than this node", "mx2.example has other limits"},
		{"a node is silent", func() { sign(r, "mx2.example", time.Minute) }, nil, "no sign of life from mx2.example (6", "mx2.example"},
		{"more nodes than store.nodes", func() { sign(r, "mx2.example", 0); sign(r, "mx3.example", 0) }, nil,
			"3 nodes share this Redis, and store.nodes is 2", "3 nodes share this Redis, and store.nodes says 2"},
		{"its memory is full", func() { r.Do("config", "set", "maxmemory", "1") }, func() { r.Do("config", "set", "maxmemory", "0") }, "OOM", "OOM"},
		{"it is a replica", func() { r.Do("replicaof", "127.0.0.1", fmt.Sprint(hosttest.FreePort(t))) },
			func() { r.Do("replicaof", "no", "one") }, " replica", " replica"},
		{"its password is another one", func() { password(r, "another") }, func() { password(r, "") }, "NOAUTH", "NOAUTH"},
		{"it hangs", r.Freeze, r.Thaw, "does not decide", "This node decides alone"},
		{"nobody answers", r.Kill, r.Start, "connection refused", "connection refused. This node decides alone"},
	} {
		n.eventuallySays(t, "answers within", "doctor")
		if a.harm != nil {
			a.harm()
		}
		n.eventuallySays(t, a.doctor, "doctor")
		n.eventuallySays(t, a.status, "status")
		if a.heal != nil {
			a.heal()
		}
		if t.Failed() {
			t.Fatal(a.name)
		}
	}
	n.eventuallySays(t, "answers within", "doctor")
}

// sign gives a sign of life of another node, as of some time ago.
func sign(r *redistest.Server, node string, ago time.Duration) {
	r.Do("hset", "sluice:{*}:nodes", node, fmt.Sprintf(`%d {"Mode":"shared","Config":"x"}`, time.Now().Add(-ago).UnixMilli()))
}

// password sets that of a Redis, and has all log in anew.
func password(r *redistest.Server, text string) {
	r.Do("config", "set", "requirepass", text)
	r.Password = text
	r.Do("client", "kill", "type", "normal")
}
