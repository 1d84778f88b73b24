package eximconfig_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/milter/mtatest"
)

// postfixNode is a sluice.toml of a Postfix node.
const postfixNode = `alert.to = []
[listen]
policy = ["unix:%[1]s/var/spool/postfix/sluice/policy.sock"]
admin = "unix:%[1]s/run/sluice/admin.sock"
[store]
node = "pf.example"
dir = "%[1]s/run/ledger"
url = "%[2]s"
nodes = 2
timeout = "%[3]s"
[locks]
dir = "%[1]s/run/locks"
[postfix]
local_domains = ["here.example"]
log = "%[1]s/var/log/mail.log"
[exim]
mainlog = ""
[limits]
hourly = 40
`

// An Exim node and a Postfix node have one Redis:
//
//	news@shop.example ─┬─→ Exim ────→ sluice ─┬─→ Redis: 40 in sum
//	                   └─→ Postfix ─→ sluice ─┘
func TestEximAndPostfixOnOneRedis(t *testing.T) {
	t.Parallel()
	r := redistest.Start(t)
	h := newHost(t)
	timeout := storeTimeout()
	h.store = fmt.Sprintf("url = %q\nnodes = 2\ntimeout = %q\n", r.URL(), timeout)
	h.startSluice(t, "[limits]\nhourly = 40\n")
	h.addMacros(t, "smtp_accept_max_nonmail = 1000") // a refused message is followed by RSET
	h.startExim(t)

	p := mtatest.NewPostfix(t, strings.ReplaceAll(mtatest.Snippet(t, "../docs/postfix.md", "cf main.cf policy"), "timeout=1s", "timeout=20s"))
	admin := startPostfixNode(t, p, r.URL(), timeout)
	p.Start(t)
	p.Login(t, "news", "shop.example")

	var sent [2]int
	var clients sync.WaitGroup
	byExim, byPostfix := h.dial(t).Login("news@shop.example"), p.Dial(t).Login("news@shop.example")
	clients.Go(func() {
		for i := range 30 {
			byExim.Mail("news@shop.example")
			if byExim.Rcpt(fmt.Sprintf("e%d@far.example", i)).Code == 250 && byExim.Data(hosttest.Letter("x")).Code == 250 {
				sent[0]++
			} else {
				byExim.Cmd("RSET")
			}
		}
	})
	clients.Go(func() {
		for i := range 30 {
			byPostfix.Mail("news@shop.example")
			if byPostfix.Rcpt(fmt.Sprintf("p%d@far.example", i)).Code == 250 {
				byPostfix.Want(byPostfix.Data(hosttest.Letter("x")), 250)
				sent[1]++
			} else {
				byPostfix.Cmd("RSET")
			}
		}
	})
	clients.Wait()
	if sent[0]+sent[1] != 40 {
		t.Errorf("Exim let %d pass and Postfix %d, together not 40", sent[0], sent[1])
	}
	h.queueRun(t, "-q") // Exim leaves what follows the tenth of a connection to it
	hosttest.Eventually(t, "40 delivered", func() bool { return h.sink.Count()+p.Sink.Count() == 40 })

	locks := []string{h.path(lockDir), p.Path("/run/locks")}
	hosttest.Eventually(t, "both nodes have the lock", func() bool { return locked(locks[0]) && locked(locks[1]) })
	if err := os.Remove(filepath.Join(locks[1], "max_hourly_shop.example")); err != nil {
		t.Fatal(err)
	}
	hosttest.Eventually(t, "both nodes released it", func() bool { return !locked(locks[0]) && !locked(locks[1]) })
	byExim.Want(byExim.Send("news@shop.example", hosttest.Letter("x"), "again@far.example"), 250)
	byPostfix.Want(byPostfix.Send("news@shop.example", hosttest.Letter("x"), "again@far.example"), 250)

	if out, err := exec.Command(admin[0], append(admin[1:], "lock", "shop.example")...).CombinedOutput(); err != nil {
		t.Fatalf("lock: %v\n%s", err, out)
	}
	hosttest.Eventually(t, "locked on both nodes", func() bool {
		byExim.Mail("news@shop.example")
		byPostfix.Mail("news@shop.example")
		exim, postfix := byExim.Rcpt("no@far.example"), byPostfix.Rcpt("no@far.example")
		byExim.Cmd("RSET")
		byPostfix.Cmd("RSET")
		return exim.Code == 450 && postfix.Code == 450
	})
}

func locked(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "max_hourly_shop.example"))
	return err == nil
}

// startPostfixNode starts the sluice of a Postfix, and returns how its commands
// begin.
func startPostfixNode(t *testing.T, p *mtatest.Postfix, url string, timeout time.Duration) []string {
	t.Helper()
	binary, err := buildSluice()
	if err != nil {
		t.Fatal(err)
	}
	p.Write(t, "/run/sluice.toml", fmt.Sprintf(postfixNode, p.Path(""), url, timeout))
	begin := []string{binary, "--config", p.Path("/run/sluice.toml")}
	cmd := exec.Command(binary, append(begin[1:], "serve")...)
	var log hosttest.Log
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := hosttest.Guard(t, cmd.Process)
	t.Cleanup(func() {
		end()
		cmd.Wait()
		if t.Failed() {
			t.Logf("sluice of Postfix said:\n%s", log.String())
		}
	})
	hosttest.Eventually(t, "sluice serves Postfix", func() bool { return strings.Contains(log.String(), "msg=serving") })
	return begin
}
