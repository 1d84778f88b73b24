package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
)

// A node starts while Redis does not answer, and trips a domain by bounces of
// before a reset of which it could not hear. It takes that back, and tells nobody:
//
//	bounces ─→ mx2's log, mx2 down; mx1: sluice reset; mx2 starts without Redis
func TestATripOfBeforeAResetIsToldToNobody(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	binary := buildSluice(t)
	var nodes [2]*processNode
	for i := range nodes {
		dir := t.TempDir()
		writeFile(t, dir+"/mainlog", "")
		config := clusterConfig(dir, fmt.Sprintf("mx%d.example", i+1), r.URL(), soonLost)
		nodes[i] = launch(t, binary, dir, strings.Replace(config, `mainlog = ""`, fmt.Sprintf("mainlog = %q", dir+"/mainlog"), 1))
	}
	mx1, mx2 := nodes[0], nodes[1]
	if !mx1.send(t, 1) {
		t.Fatal("not accepted")
	}
	mx2.kill()
	var log strings.Builder
	for i := range 5 {
		fmt.Fprintf(&log, "%[1]s 1xUzSN-%011[2]d-0q00 <= news@example.com H=client [192.0.2.1] P=esmtpa A=plain:news@example.com S=300\n"+
			"%[1]s 1xUzSN-%011[2]d-0q00 ** r@far.example R=dnslookup T=remote_smtp: 550 no such user\n",
			time.Now().Format("2006-01-02 15:04:05"), i)
	}
	writeFile(t, mx2.dir+"/mainlog", log.String())
	mx1.wantRun(t, exitDone, "", "reset", "example.com")

	lock := "max_deferfail_example.com"
	r.Freeze()
	mx2.start(t)
	hosttest.Eventually(t, "mx2 trips it by what it knows", func() bool { return exists(mx2.file(lock)) })
	r.Thaw()
	hosttest.Eventually(t, "mx2 takes that back", func() bool {
		sh := mx2.whole(t).Totals.Shared
		return sh.Mode == "shared" && sh.Unmerged == 0 && !exists(mx2.file(lock))
	})
	if strings.Contains(mx1.log.String(), "as another node has found") || exists(mx1.file(lock)) {
		t.Errorf("mx1 was told:\n%s", mx1.log)
	}
	if !mx1.send(t, 2) || !mx2.send(t, 3) {
		t.Error("it is refused still")
	}
}
