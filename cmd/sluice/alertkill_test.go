package main

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/sidecar/alert"
	"sluice/sidecar/hosttest"
)

// Notices, while serve and who posts for it are killed:
//
//	bounces ─→ mainlog ─→ sluice serve ─→ notices/ ─→ sluice notify ─→ webhook
//	             kill -9 ─→ ┘              kill -9 ─→ ┘
//
// Of every domain that trips the webhook is told, and of one incident each.
func TestEveryIncidentIsToldOverKills(t *testing.T) {
	t.Parallel()
	rounds := 6
	if hosttest.Soak() {
		rounds = 200
	}
	binary := buildSluice(t)
	dir := t.TempDir()
	var mu sync.Mutex
	told := map[string]map[string]bool{} // incidents that were opened, by domain
	hook := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var n alert.Notice
		if err := json.NewDecoder(r.Body).Decode(&n); err != nil {
			t.Error(err)
		}
		mu.Lock()
		defer mu.Unlock()
		if n.State == alert.StateOpen && told[n.Domain] == nil {
			told[n.Domain] = map[string]bool{}
		}
		if n.State == alert.StateOpen {
			told[n.Domain][n.Incident] = true
		}
	}))
	t.Cleanup(hook.Close)
	writeFile(t, dir+"/mainlog", "")
	config := strings.NewReplacer("alert.to = []", fmt.Sprintf("alert.to = [{webhook = %q}]\nalert.per_hour = 1000", hook.URL),
		`mainlog = ""`, fmt.Sprintf("mainlog = %q", dir+"/mainlog")).Replace(serveConfig(dir))
	n := launch(t, binary, dir, config)
	notifier := startNotifier(t, binary, dir+"/run/notify.sock")
	for round := range rounds {
		n.bounces(t, fmt.Sprintf("d%d.example", round))
		time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
		if round%2 == 0 {
			time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
		}
		n.kill()
		n.start(t)
	}
	notifier.spares.Store(true)
	hosttest.EventuallyOr(t, func() string {
		mu.Lock()
		defer mu.Unlock()
		return fmt.Sprintf("all %d domains are told; told are %v\n%s", rounds, told, n.log)
	}, func() bool {
		mu.Lock()
		defer mu.Unlock()
		return len(told) == rounds
	})
	mu.Lock()
	defer mu.Unlock()
	for domain, incidents := range told {
		if len(incidents) != 1 {
			t.Errorf("%s was told as %v", domain, incidents)
		}
	}
	t.Logf("%d notifiers were killed at work", notifier.killed.Load())
}

// bounces has the log say that all that a domain sends fails.
func (n *processNode) bounces(t *testing.T, domain string) {
	t.Helper()
	f, err := os.OpenFile(n.dir+"/mainlog", os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range 6 {
		fmt.Fprintf(f, "%[1]s 1xUzSN-%[2]s%05[3]d-0q00 <= news@%[4]s H=client [192.0.2.1] P=esmtpa A=plain:news@%[4]s S=300\n"+
			"%[1]s 1xUzSN-%[2]s%05[3]d-0q00 ** r%[3]d@far.example R=dnslookup T=remote_smtp: 550 no such user\n",
			time.Now().Format("2006-01-02 15:04:05"), fmt.Sprintf("%06d", rand.IntN(1000000)), i, domain)
	}
}

// A notifier is what systemd does for sluice-notify.socket: a process for each connection. It kills
// every second one, early or late, until it is told to spare them.
type notifier struct {
	spares atomic.Bool
	killed atomic.Int64
}

func startNotifier(t *testing.T, binary, socket string) *notifier {
	t.Helper()
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	p := &notifier{}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.serve(t, binary, c.(*net.UnixConn)) })
		}
	})
	t.Cleanup(func() { l.Close(); all.Wait() })
	return p
}

func (p *notifier) serve(t *testing.T, binary string, c *net.UnixConn) {
	f, err := c.File()
	c.Close()
	if err != nil {
		t.Error(err)
		return
	}
	defer f.Close()
	cmd := exec.Command(binary, "notify")
	cmd.Stdin, cmd.Stdout = f, f
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return
	}
	if !p.spares.Load() && rand.IntN(2) == 0 {
		time.Sleep(time.Duration(rand.IntN(40)) * time.Millisecond)
		if cmd.Process.Kill() == nil {
			p.killed.Add(1)
		}
	}
	cmd.Wait()
}
