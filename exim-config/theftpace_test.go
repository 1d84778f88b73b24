package eximconfig_test

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
)

// thiefsPace is how often the thief sends: 30 messages a minute over all connections, slowly enough
// to stay below limits of connections and rates.
const thiefsPace = 2 * time.Second

// A pace is a thief who sends one message after the other in the background, whatever becomes of them.
type pace struct {
	accepted, refused, logins atomic.Int64 // messages, and logins that were refused
	stop, ended               chan struct{}
}

// steals has the thief send at its pace over nine kept connections: to strangers, some of whom do
// not exist, and some of whose servers have it come again later. Where it is refused it logs in anew.
func (th *theft) steals(t *testing.T) *pace {
	p := &pace{stop: make(chan struct{}), ended: make(chan struct{})}
	for i := range th.homes {
		th.kept = append(th.kept, th.from(t, i).Login(thief))
	}
	go func() {
		defer close(p.ended)
		tick := time.NewTicker(thiefsPace)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-p.stop:
				return
			case <-tick.C:
			}
			th.sends(t, p, n)
		}
	}()
	return p
}

// sends has the thief send one message.
func (th *theft) sends(t *testing.T, p *pace, n int) {
	to := fmt.Sprintf("t%d@far.example", n)
	switch n % 3 {
	case 1:
		th.sink.Refuse(to, 550, "5.1.1 no such user")
	case 2:
		th.sink.Refuse(to, 451, "4.7.1 greylisted, try again later")
	}
	i := n % len(th.homes)
	if accepted, _ := many(th.kept[i], thief, to); accepted > 0 {
		p.accepted.Add(1)
		return
	}
	p.refused.Add(1)
	again := th.from(t, i)
	if r := again.Cmd("AUTH PLAIN %s", plain(thief)); r.Code == 535 {
		p.logins.Add(1)
	}
	again.Cmd("QUIT")
}

func TestATheftAtThePaceOfAThief(t *testing.T) {
	if t.Parallel(); !hosttest.Soak() {
		t.Skip("takes some minutes: make soak")
	}
	th := newTheft(t)
	denied := th.denied()
	for range 6 {
		th.flows(t)
	}
	hosttest.Eventually(t, "the colleagues' mail is delivered", func() bool { return th.status(t, "here.example").Delivered == 18 })
	began := time.Now()
	p := th.steals(t)
	for !slices.ContainsFunc(th.notices(), func(subject string) bool { return strings.Contains(subject, thief) }) {
		th.flows(t)
		if time.Since(began) > 10*hosttest.Patience() {
			t.Fatalf("nobody is told of %d messages of the thief", p.accepted.Load())
		}
		time.Sleep(3 * time.Second)
	}
	told := time.Now()
	t.Logf("the notice came %v after the first message, after %d messages", told.Sub(began).Round(time.Second), p.accepted.Load())

	done := make(chan cleanUp, 1)
	go func() { defer close(done); done <- th.clean(t, 0, th.incidentOf(t, "here.example", thief).ID.String()) }()
	c, over := cleanUp{}, false
	for !over {
		th.flows(t) // meanwhile
		select {
		case c = <-done:
			over = true
		case <-time.After(time.Second):
		}
	}
	took := time.Since(told)
	hosttest.NotLonger(t, "from the notice to the end of clean", took, 20*time.Second)
	gone, accepted, refused, logins := th.ofThief(), p.accepted.Load(), p.refused.Load(), p.logins.Load()
	for range 20 { // a minute, in which the thief tries some thirty times
		th.flows(t)
		time.Sleep(3 * time.Second)
	}
	close(p.stop)
	<-p.ended
	tried, denials := p.refused.Load()-refused, p.logins.Load()-logins
	t.Logf("clean was done %v after the notice; then the thief tried %d times, and %d logins were refused", took.Round(100*time.Millisecond), tried, denials)
	if more := p.accepted.Load() - accepted; more > 0 || tried < 20 || denials < tried-1 { // one may have begun before
		t.Errorf("after clean %d more messages were accepted, %d refused, with %d logins refused", more, tried, denials)
	}
	th.queueRun(t, "-qff")
	th.onceEach(t, "c", th.letters)
	if now := th.ofThief(); now != gone {
		t.Errorf("%d messages of the thief have left, %d before the end of clean", now, gone)
	}
	quarantined := th.spoolFiles(t, logline.QuarantineQueue)
	th.run(t, th.sluice(t, strings.Fields(strings.TrimPrefix(c.Undo, "sluice "))...)...)
	if diff := cmp.Diff(quarantined, th.spoolFiles(t, "")); diff != "" || len(quarantined) == 0 {
		t.Errorf("the queue - in the quarantine + after undo:\n%s", diff)
	}
	th.net.in(t, func() { th.want(t, thief, true) })
	if got := th.denied(); got != denied {
		t.Errorf("the denied logins are %q, and were %q", got, denied)
	}
}
