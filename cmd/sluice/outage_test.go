package main

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/operator"
)

// A Redis that goes away under two real nodes, and comes back:
//
//	sends ─→ mx1, mx2 ─→ redis-server ─ SIGSTOP, or kill -9 and started empty
//
// docs/cluster.md has the bounds that are held to here.

const outageLimit = 40

// An outage is what befalls Redis, and what ends it.
type outage struct {
	name      string
	begin     func(*redistest.Server)
	end       func(*redistest.Server)
	operators string // matches what operators are reported it
}

var outages = []outage{
	{"SIGSTOP", (*redistest.Server).Freeze, (*redistest.Server).Thaw, "timeout|deadline exceeded"},
	{"kill -9", (*redistest.Server).Kill, (*redistest.Server).Start, "connection refused"},
}

// A blackout is two nodes, the first of which has accepted 10 of 40 and the
// second 14, and both know of all 24.
type blackout struct {
	t      *testing.T
	redis  *redistest.Server
	nodes  [2]*processNode
	number int64 // of messages
}

func newBlackout(t *testing.T, mode string) *blackout {
	t.Helper()
	s := &blackout{t: t, redis: redistest.Start(t)}
	binary := buildSluice(t)
	for i := range s.nodes {
		dir := t.TempDir()
		config := clusterConfig(dir, fmt.Sprintf("mx%d.example", i+1), s.redis.URL(), soonLost, fmt.Sprintf("outage = %q", mode))
		config = strings.Replace(config, "hourly = 10", fmt.Sprintf("hourly = %d\ndefer_cutoff = 1000", outageLimit), 1)
		s.nodes[i] = launch(t, binary, dir, config)
	}
	s.shared()
	if a, b := s.insist(0, 10), s.insist(1, 14); a != 10 || b != 14 {
		t.Fatalf("%d and %d accepted before", a, b)
	}
	s.ask(0, "rcpt") // who looks has seen
	return s
}

// ask asks a node about a new message of one recipient.
func (s *blackout) ask(i int, stage string) string {
	s.t.Helper()
	s.number++
	reply, err := s.nodes[i].ask("example.com", s.number, stage)
	if err != nil {
		s.t.Fatal(err)
	}
	return reply
}

// offer has a node asked for sends, and returns how many it accepted. Those
// that were refused have to be so with 450.
func (s *blackout) offer(i, sends int) (accepted int64) {
	s.t.Helper()
	for range sends {
		switch reply := s.ask(i, "data"); {
		case strings.HasPrefix(reply, "action=DUNNO"):
			accepted++
		case !strings.HasPrefix(reply, "action=450 4.7.1 Domain example.com "):
			s.t.Fatalf("refused with %s", reply)
		}
	}
	return accepted
}

// insist is offer to a node that Redis answers: a send that could not be counted at once is
// offered again, as a client does.
func (s *blackout) insist(i, sends int) (accepted int64) {
	s.t.Helper()
	for range sends {
		hosttest.Eventually(s.t, "a send is counted", func() bool {
			reply := s.ask(i, "data")
			if strings.HasPrefix(reply, "action=DUNNO") {
				accepted++
			}
			return !strings.Contains(reply, "cannot be counted now")
		})
	}
	return accepted
}

func (s *blackout) state(i int) operator.SharedStatus {
	s.t.Helper()
	return *s.nodes[i].whole(s.t).Totals.Shared
}

// shared waits until Redis decides for both and is owed nothing.
func (s *blackout) shared() {
	s.t.Helper()
	for i := range s.nodes {
		hosttest.Eventually(s.t, "Redis decides", func() bool {
			st := s.state(i)
			return st.Mode == "shared" && st.Unmerged == 0 && len(st.Nodes) == 2
		})
	}
}

// counted wants both nodes to tell so many sends.
func (s *blackout) counted(want int64) {
	s.t.Helper()
	for i, n := range s.nodes {
		if d := n.domain(s.t, "example.com"); d.Sent != want || d.Partial {
			s.t.Errorf("mx%d counts %d, want %d; it says that it knows only a part: %v", i+1, d.Sent, want, d.Partial)
		}
	}
}

// Each outage mode has its bound: mx1 and mx2 are offered 60 sends each without
// Redis, and the first 20 more with it again.
func TestOutageModes(t *testing.T) {
	for _, mode := range []struct {
		name     string
		accepted [2]int64 // without Redis
		after    int64
		refusal  string // of what is past it
	}{
		{"share", [2]int64{(outageLimit - 24) / 2, (outageLimit - 24) / 2}, 0, "cannot be counted now"},
		{"local", [2]int64{outageLimit - 10, outageLimit - 14}, 0, "has exceeded the max emails per hour"},
		{"open", [2]int64{60, 60}, 0, ""},
		{"closed", [2]int64{0, 0}, outageLimit - 24, "cannot be counted now"},
	} {
		for _, o := range outages {
			t.Run(mode.name+", "+o.name, func(t *testing.T) {
				t.Parallel()
				s := newBlackout(t, mode.name)
				o.begin(s.redis)
				total := int64(24)
				for i, want := range mode.accepted {
					got := s.offer(i, 60)
					if total += got; got != want {
						t.Errorf("mx%d accepted %d without Redis, want %d", i+1, got, want)
					}
					if reply := s.ask(i, "rcpt"); !strings.Contains(reply, mode.refusal) {
						t.Errorf("mx%d says %s; want %q", i+1, reply, mode.refusal)
					}
					s.alone(i, mode.name, o.operators)
				}
				o.end(s.redis)
				s.shared()
				if got := s.insist(0, 20); got != mode.after {
					t.Errorf("%d accepted with Redis again, want %d", got, mode.after)
				}
				s.counted(total + mode.after)
				s.changes()
			})
		}
	}
}

// alone wants a node to tell that it decides alone, and how.
func (s *blackout) alone(i int, mode, reason string) {
	s.t.Helper()
	hosttest.Eventually(s.t, fmt.Sprintf("mx%d tells its mode, and that it has changed", i+1), func() bool {
		st := s.state(i)
		return st.Mode == mode && st.Changes > 0
	})
	var out string
	for _, part := range []string{regexp.QuoteMeta(fmt.Sprintf("This node decides alone (store.outage = %q)", mode)), reason, `counts with a \* are what this node accepted`} {
		hosttest.EventuallyOr(s.t, func() string { return fmt.Sprintf("status says %q:\n%s", part, out) }, func() bool {
			out, _ = s.nodes[i].sluice(s.t, "status")
			return regexp.MustCompile(part).MatchString(out)
		})
	}
	d := s.nodes[i].domain(s.t, "example.com")
	if out, _ = s.nodes[i].sluice(s.t, "status", "example.com"); !d.Partial || !strings.Contains(out, "incomplete      Redis cannot be asked") {
		s.t.Errorf("status does not say that counts are incomplete: %+v\n%s", d, out)
	}
}

// logsOfModes finds the lines of the log that tell of another mode. That Redis is lost is told
// again when more is known of why.
var logsOfModes = regexp.MustCompile("Redis cannot be asked|Redis decides again")

// changes wants each change of the mode logged, and counted by status.
func (s *blackout) changes() {
	s.t.Helper()
	for i, n := range s.nodes {
		hosttest.Eventually(s.t, fmt.Sprintf("as many changes counted as logged on mx%d", i+1), func() bool {
			changes := s.state(i).Changes
			logged := slices.Compact(logsOfModes.FindAllString(n.log.String(), -1))
			return len(logged) > 1 && changes == int64(len(logged))
		})
	}
}

// A node is killed during the outage, and starts again before or after its end:
// what it accepted is merged once, and is the same after each further start.
func TestANodeIsKilledDuringTheOutage(t *testing.T) {
	for _, o := range outages {
		for _, when := range []string{"before", "after"} {
			t.Run(o.name+", started "+when+" its end", func(t *testing.T) {
				t.Parallel()
				s := newBlackout(t, "share")
				o.begin(s.redis)
				alone := s.offer(0, 20) + s.offer(1, 20)
				if alone != outageLimit-24 {
					t.Errorf("%d accepted without Redis, want %d", alone, outageLimit-24)
				}
				s.nodes[0].kill()
				if when == "after" {
					o.end(s.redis)
				}
				s.nodes[0].start(t)
				if when == "before" {
					// What it last saw went with it: its share is of half the limit.
					alone += s.offer(0, 20)
					if most := int64(outageLimit/4 + 8); alone > most {
						t.Errorf("%d accepted without Redis, want %d at most", alone, most)
					}
					o.end(s.redis)
				}
				s.shared()
				s.counted(24 + alone)
				for _, n := range s.nodes {
					n.kill()
					n.start(t)
				}
				s.shared()
				s.counted(24 + alone)
			})
		}
	}
}
