package eximconfig_test

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/logline"
)

// A stolen mailbox, from the first message of the thief to the end of it all, with nine addresses,
// each in a network namespace of its own:
//
//	thief, from 10.1.1.6 to 10.1.9.6 ─ nine kept connections ─┐             ┌─→ notice ─→ operator: clean, undo
//	ann, ben, cid ────────────────────────────────────────────┴─→ Exim ─ sluice ─→ sink
//	                                                               └─ AUTH ─→ Dovecot ←─ IMAP

// A theft is all of that.
type theft struct {
	dovecot
	world   *netns             // of the colleagues and the sink
	homes   [9]*netns          // of the thief
	kept    []*hosttest.Client // the thief's, one of each home
	letters int                // of colleagues, all of whom are to be served
}

const thief = "hacked@here.example"

func newTheft(t *testing.T) *theft {
	t.Helper()
	needExim(t)
	own, world := newNetns(t), newNetns(t)
	link(t, port{own, "world", "10.9.0.1"}, port{world, "mx", "10.9.0.2"})
	h := bootHost(t, firstInstallation(t, "debian", "perl").dir, "debian", "perl", own)
	h.ip = "10.9.0.1"
	world.in(t, func() { h.sink = hosttest.NewSinkOn(t, "0.0.0.0:25") })
	h.write(t, "/etc/exim4/sinks", "*: 10.9.0.2::25\n")
	h.write(t, "/etc/aliases", siteAliases+"hacked: bob\n") // where bounces end
	h.knows(t, "ann@here.example", "ben@here.example", "cid@here.example")
	th := &theft{world: world}
	for i := range th.homes {
		th.homes[i] = newNetns(t)
		link(t, port{own, fmt.Sprintf("thief%d", i+1), fmt.Sprintf("10.1.%d.5", i+1)}, port{th.homes[i], "mx", fmt.Sprintf("10.1.%d.6", i+1)})
		th.homes[i].ip(t, "route", "add", h.ip, "via", fmt.Sprintf("10.1.%d.5", i+1))
	}
	users := []string{thief}
	for _, name := range colleagues {
		users = append(users, name+"@here.example")
	}
	own.in(t, func() { th.dovecot = h.startDovecot(t, users...) })
	h.startSluice(t, "[limits]\nhourly = 200\ndeferfail_min = 8\ndeferfail_percent = 10\n"+strings.Replace(told, "[alert]\n", "[alert]\ngroup_wait = \"0s\"\n", 1)+quarantineConfig)
	own.in(t, func() { h.startExim(t) })
	th.denies(t)
	own.in(t, func() {
		hosttest.Eventually(t, "Dovecot is back", func() bool { return th.auth(t, thief).Code == 235 })
	})
	return th
}

// from connects to Exim from one of the thief's addresses.
func (th *theft) from(t *testing.T, i int) (c *hosttest.Client) {
	t.Helper()
	var conn net.Conn
	var err error
	th.homes[i].in(t, func() { conn, err = net.Dial("tcp", th.smtpAddress()) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * hosttest.Patience()))
	return hosttest.NewClient(t, conn, conn)
}

// flows has each colleague send a message.
func (th *theft) flows(t *testing.T) {
	t.Helper()
	for _, name := range colleagues {
		var c *hosttest.Client
		th.world.in(t, func() { c = th.dial(t) })
		c.Login(name + "@here.example")
		c.Want(c.Send(name+"@here.example", hosttest.Letter("colleague"), fmt.Sprintf("c%d@far.example", th.letters)), 250)
		c.Cmd("QUIT")
		th.letters++
	}
}

// attack has the thief send over all connections: some of it is to nobody, and some waits for a
// greylist.
func (th *theft) attack(t *testing.T) {
	t.Helper()
	for i := range th.homes {
		th.sink.Refuse(fmt.Sprintf("n%d@far.example", i), 550, "5.1.1 no such user")
		th.sink.Refuse(fmt.Sprintf("m%d@far.example", i), 550, "5.1.1 no such user")
		th.sink.Refuse(fmt.Sprintf("w%d@far.example", i), 451, "4.7.1 greylisted, try again later")
		c := th.from(t, i).Login(thief)
		for _, to := range []string{"v%d@far.example", "w%d@far.example", "n%d@far.example", "m%d@far.example"} {
			if _, r := many(c, thief, fmt.Sprintf(to, i)); r.Code != 250 { // the machine has stopped it by now
				c.WantPart(r, 450, "Mailbox "+thief)
			}
		}
		th.kept = append(th.kept, c)
	}
}

// ofThief is how much of the thief's mail has left this host.
func (th *theft) ofThief() (n int) {
	for _, m := range th.sink.Received() {
		if m.From == thief {
			n++
		}
	}
	return n
}

// refused fails the test unless nothing of the thief gets in any more.
func (th *theft) refused(t *testing.T) {
	t.Helper()
	for i, c := range th.kept {
		c.Mail(thief)
		c.WantPart(c.Rcpt("more@far.example"), 450, "4.7.1 Mailbox "+thief+" is stopped.  Message will be reattempted later")
		again := th.from(t, i)
		again.Want(again.Cmd("AUTH PLAIN %s", plain(thief)), 535)
		again.Cmd("QUIT")
	}
}

func TestATheftFromTheNoticeToItsEnd(t *testing.T) {
	t.Parallel()
	th := newTheft(t)
	denied := th.denied()
	var reading mailClient
	th.net.in(t, func() { reading, _ = th.imap(t, thief) })
	for range 6 { // so that it is known of enough of theirs that it goes well
		th.flows(t)
	}
	hosttest.Eventually(t, "the colleagues' mail is delivered", func() bool { return th.status(t, "here.example").Delivered == 18 })
	th.attack(t)
	hosttest.Eventually(t, "the operator is told who it is", func() bool {
		return slices.ContainsFunc(th.notices(), func(subject string) bool { return strings.Contains(subject, thief) })
	})
	start := time.Now()
	th.flows(t)
	is := th.incidentOf(t, "here.example", thief)
	hosttest.Eventually(t, "only the thief's mail waits", func() bool {
		return th.onlyOfThief(t) && th.served("c")[fmt.Sprintf("c%d@far.example", th.letters-1)] == 1
	})
	before, gone := th.spoolFiles(t, ""), th.ofThief()

	c := th.clean(t, 0, is.ID.String())
	hosttest.NotLonger(t, "from the notice to the end of clean", time.Since(start), 20*time.Second)
	th.refused(t)
	reading.ended(t)
	if got := c.did("login"); got != "the login "+thief+" is suspended (dovecot)" {
		t.Errorf("the step login: %q", got)
	}
	th.flows(t)
	for i := range th.homes {
		th.sink.Accept(fmt.Sprintf("w%d@far.example", i))
	}
	th.queueRun(t, "-qff")
	th.onceEach(t, "c", th.letters)
	// The sink has a message before Exim has taken it off its queue.
	hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("in the queue are %v", th.queue()) }, func() bool { return len(th.spoolFiles(t, "")) == 0 })
	if now := th.ofThief(); now != gone {
		t.Errorf("%d messages of the thief have gone, %d before clean", now, gone)
	}

	out := th.run(t, th.sluice(t, strings.Fields(strings.TrimPrefix(c.Undo, "sluice "))...)...)
	if strings.Contains(out, "stays as it is") {
		t.Errorf("undo:\n%s", out)
	}
	th.net.in(t, func() { th.want(t, thief, true) })
	if diff := cmp.Diff(before, th.spoolFiles(t, "")); diff != "" || len(th.spoolFiles(t, logline.QuarantineQueue)) > 0 {
		t.Errorf("the queue - before + after:\n%s", diff)
	}
	if got := th.denied(); got != denied {
		t.Errorf("the denied logins are %q, and were %q", got, denied)
	}
}

// onlyOfThief reports whether nothing in the queue is anybody else's.
func (th *theft) onlyOfThief(t *testing.T) bool {
	t.Helper()
	all := th.spoolFiles(t, "")
	return len(all) > 0 && !slices.ContainsFunc(th.queue(), func(id string) bool { return !strings.Contains(all[id+"-H"], thief) })
}
