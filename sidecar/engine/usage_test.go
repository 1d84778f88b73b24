package engine_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar/lockfile"
)

// sendFor charges n sends of a domain at DATA.
func (s *site) sendFor(domain string, n int) {
	s.t.Helper()
	_, err := s.store.Take(context.Background(), s.now, ratelimit.Take{Subjects: []ratelimit.Subject{{
		Name: domain, Limits: []ratelimit.Limit{{Window: time.Hour}, {Window: 24 * time.Hour}}}}, Tokens: tokens(n)})
	if err != nil {
		s.t.Fatal(err)
	}
}

var lastToken ratelimit.Token

func tokens(n int) (all []ratelimit.Token) {
	for range n {
		lastToken += 1 << 40
		all = append(all, lastToken)
	}
	return all
}

// wantUsage checks a domain's usage file after a refresh.
func (s *site) wantUsage(domain, want string) {
	s.t.Helper()
	s.ShowUsage(s.now)
	if got := s.content(domain); got != want {
		s.t.Errorf("usage file of %s: %q, want %q", domain, got, want)
	}
}

func TestUsageFileFromHalfOfALimit(t *testing.T) {
	s := newSite(t, limit20)
	s.sendFor("a.example", 9)
	s.wantUsage("a.example", "")
	s.sendFor("a.example", 1)
	s.wantUsage("a.example", "10/20 (50%)")
	s.sendFor("a.example", 15) // let pass by Exim, counted later
	s.wantUsage("a.example", "25/20 (125%)")
	s.now = s.now.Add(62 * time.Minute)
	s.wantUsage("a.example", "")
}

func TestUsageFileOfTheFullestLimit(t *testing.T) {
	s := newSite(t, `
[limits]
hourly = 20
daily = 100
[limits.domain."b.example"]
daily = 15
[limits.domain."odd.example"]
hourly = 3
[limits.domain."free.example"]
hourly = 0
daily = 0
[limits.mailbox."news@m.example"]
hourly = 10
[limits.account."bob"]
hourly = 10
`)
	for domain, want := range map[string]string{
		"a.example": "10/20 (50%)", "b.example": "10/15 (66%)", "odd.example": "10/3 (333%)", "free.example": ""} {
		s.sendFor(domain, 10)
		s.wantUsage(domain, want)
	}
	s.sendFor("news@m.example", 10)
	s.sendFor("account:bob", 10)
	s.ShowUsage(s.now)
	if entries, _ := os.ReadDir(s.dir); len(entries) != 4 { // one is the directory of the stopped
		t.Errorf("a mailbox or an account has a usage file: %v", entries)
	}
	s.now = s.now.Add(62 * time.Minute)
	s.wantUsage("a.example", "")
	s.wantUsage("b.example", "10/15 (66%)")
}

func TestUsageFileOfASmallLimitRoundsUpTheHalf(t *testing.T) {
	s := newSite(t, "[limits]\nhourly = 3\n")
	s.sendFor("a.example", 1)
	s.wantUsage("a.example", "")
	s.sendFor("a.example", 1)
	s.wantUsage("a.example", "2/3 (66%)")
}

// watchLocks is run without the refreshes of the usage files.
func (s *site) watchLocks() {
	ctx, stop := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { s.locks.Run(ctx, func(e lockfile.Event) { s.LockEvent(ctx, time.Now(), e) }) })
	s.t.Cleanup(func() { stop(); loop.Wait() })
}

func TestAHandThatRemovesTheUsageFileResets(t *testing.T) {
	s := newSite(t, limit20)
	s.now = time.Now()
	s.watchLocks()
	s.send(15)
	s.wantUsage("a.example", "15/20 (75%)")
	if err := os.Remove(s.lockPath("a.example")); err != nil {
		t.Fatal(err)
	}
	s.eventually("reset", func() bool {
		return s.store.Standing(time.Now(), "a.example").Epoch > 0 && strings.Contains(s.log.String(), "usage file removed by hand")
	})
	s.now = time.Now()
	s.sent("a.example", 0)
	s.wantUsage("a.example", "")
}

// rm * is one reset: what was sent after the first is not forgotten.
func TestUsageFileOfAnEarlierEpochResetsNothing(t *testing.T) {
	s := newSite(t, limit20)
	s.now = time.Now()
	s.send(15)
	s.wantUsage("a.example", "15/20 (75%)")
	s.watchLocks()
	if err := s.Reset(context.Background(), s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.send(12)
	if err := os.Remove(s.lockPath("a.example")); err != nil {
		t.Fatal(err)
	}
	s.eventually("event", func() bool { return strings.Contains(s.log.String(), "released or reset since it was made") })
	s.sent("a.example", 12)
}

func TestRunWritesUsageFiles(t *testing.T) {
	s := newSite(t, limit20)
	s.now = time.Now()
	s.send(15)
	s.run()
	s.eventually("usage file", func() bool { return s.content("a.example") == "15/20 (75%)" })
}

// BenchmarkUsageRound measures the going through all domains, of which one in
// ten is at half of its limit.
func BenchmarkUsageRound(b *testing.B) {
	for _, domains := range []int{100_000, 1_000_000} {
		b.Run(fmt.Sprint(domains), func(b *testing.B) {
			s := newSite(b, limit20)
			for i := range domains {
				sends := 3
				if i%10 == 0 {
					sends = 10 + i/10%10
				}
				s.sendFor(fmt.Sprintf("d%07d.example", i), sends)
			}
			s.ShowUsage(s.now)
			for b.Loop() {
				s.ShowUsage(s.now)
			}
		})
	}
}
