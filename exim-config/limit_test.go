package eximconfig_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"sluice/sidecar/hosttest"
)

// A domain's limit by SMTP, with the real sidecar:
//
//	client, AUTH ─→ Exim ─ RCPT: room? DATA: charge ─→ sluice
//	                  ├─→ 450, 550 with the text
//	                  └─→ sink: never more than the limit

func numbered(format string, from, to int) []string {
	var all []string
	for i := from; i <= to; i++ {
		all = append(all, fmt.Sprintf(format, i))
	}
	return all
}

func TestLimitOfTwenty(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 20")
	h.startExim(t)
	c := h.dial(t).Login("news@shop.example")

	c.Want(c.Send("news@shop.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 5)...), 250)
	c.Mail("other@shop.example")
	for _, rcpt := range append(numbered("r%d@far.example", 6, 20), "alice@here.example") {
		c.Want(c.Rcpt(rcpt), 250)
	}
	for range 3 { // one that tries again counts once
		wantRefused(t, c.Rcpt("r21@far.example"), 450, hourlyText("shop.example", 21, 20, laterText))
	}
	c.Want(c.Rcpt("bob@here.example"), 250) // local ones pass and never count
	for i := 22; i <= 24; i++ {
		wantRefused(t, c.Rcpt(fmt.Sprintf("r%d@far.example", i)), 450, hourlyText("shop.example", i, 20, laterText))
	}
	wantRefused(t, c.Rcpt("r25@far.example"), 550, hourlyText("shop.example", 25, 20, neverText))
	c.Want(c.Data(hosttest.Letter("x")), 250)
	hosttest.Eventually(t, "20 recipients are served", func() bool { return h.sink.Count() == 20 && h.mailbox(bob) != "" })
	if log := h.mainlog(); !strings.Contains(log, "rejected RCPT <r21@far.example>: "+hourlyText("shop.example", 21, 20, laterText)) {
		t.Error("the main log does not have the text on one line")
	}

	c.Want(c.Send("news@shop.example", hosttest.Letter("x"), "alice@here.example"), 250)
	free := h.dial(t).Login("joe@free.example")
	free.Want(free.Send("joe@free.example", hosttest.Letter("x"), "r1@far.example"), 250)
	inbound := h.dialFrom(t, "192.0.2.9") // merely claims the domain
	inbound.Want(inbound.Send("news@shop.example", hosttest.Letter("x"), "alice@here.example"), 250)
	if got := h.status(t, "shop.example"); got.Sent != 20 || got.Refused != 5 || got.HourlyPercent != 100 {
		t.Errorf("status: %+v", got)
	}
	hosttest.Eventually(t, "all is delivered", func() bool { return h.sink.Count() == 21 && len(h.queue()) == 0 })
}

func TestThirtyRecipientsAgainstRoomForTen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 10")
	h.startExim(t)
	c := h.dial(t).Login("news@shop.example")
	c.Mail("news@shop.example")
	taken := 0
	for _, rcpt := range numbered("r%d@far.example", 1, 30) {
		switch r := c.Rcpt(rcpt); r.Code {
		case 250:
			taken++
		case 450, 550:
		default:
			t.Fatal(r)
		}
	}
	c.Want(c.Data(hosttest.Letter("x")), 250)
	hosttest.Eventually(t, "it is delivered", func() bool { return len(h.queue()) == 0 && h.sink.Count() > 0 })
	if taken != 10 || h.sink.Count() != 10 {
		t.Errorf("%d recipients were taken and %d served, want 10", taken, h.sink.Count())
	}
}

// What a site's rule rejects at DATA is not charged, and what is lost because the client does not
// wait for the answer is charged no more.
func TestRejectedBySiteIsNotCharged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 3")
	h.startExim(t)
	c := h.dial(t).Login("news@shop.example")
	three := numbered("r%d@far.example", 1, 3)
	for range 3 {
		c.Want(c.Send("news@shop.example", hosttest.Letter("forbidden by the site"), three...), 550, "the site does not like this")
	}
	for range 3 {
		conn := h.connectAs(t, alice, h.ip)
		hasty := hosttest.NewClient(t, conn, conn).Login("news@shop.example")
		hasty.Mail("news@shop.example")
		hasty.Want(hasty.Rcpt("r1@far.example"), 250)
		hasty.Want(hasty.Cmd("DATA"), 354)
		hasty.Write(hosttest.OnTheWire(hosttest.Letter("lost")))
		conn.Close()
	}
	passed := 0 // where Exim did not notice in time that its client had left
	hosttest.Eventually(t, "what is lost is no send", func() bool {
		log := h.mainlog()
		passed = strings.Count(log, " <= news@shop.example ")
		return passed+strings.Count(log, " SMTP connection lost after final dot ") == 3 && h.sent(t)["shop.example"] == int64(passed)
	})
	if passed == 3 {
		t.Fatal("none is lost")
	}
	c.Want(c.Send("news@shop.example", hosttest.Letter("good"), three[passed:]...), 250)
	c.Mail("news@shop.example")
	wantRefused(t, c.Rcpt("r4@far.example"), 550, hourlyText("shop.example", 4, 3, neverText))
	hosttest.Eventually(t, "it is delivered", func() bool { return h.sink.Count() == 3 })
}

// Two clients both have room at RCPT; at DATA one is too late.
func TestRaceForTheLastRoom(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 1")
	h.startExim(t)
	a, b := h.dial(t).Login("a@shop.example"), h.dial(t).Login("b@shop.example")
	a.Mail("a@shop.example")
	b.Mail("b@shop.example")
	a.Want(a.Rcpt("x@far.example"), 250)
	b.Want(b.Rcpt("y@far.example"), 250)
	a.Want(a.Data(hosttest.Letter("x")), 250)
	wantRefused(t, b.Data(hosttest.Letter("x")), 450, hourlyText("shop.example", 2, 1, laterText))
	hosttest.Eventually(t, "one is delivered", func() bool { return h.sink.Count() == 1 && len(h.queue()) == 0 })
}

// Many clients at once: never over, and a message as a whole or not at all.
func TestManyClientsAreNeverOver(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 10")
	h.startExim(t)
	var clients []*hosttest.Client
	for i := range 6 {
		clients = append(clients, h.dial(t).Login(fmt.Sprintf("c%d@shop.example", i)))
	}
	var accepted atomic.Int64
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for n := range 3 {
				c.Write(fmt.Sprintf("MAIL FROM:<c%d@shop.example>\r\n", i))
				c.Reply()
				taken := int64(0)
				for _, rcpt := range numbered(fmt.Sprintf("c%d-%d-r%%d@far.example", i, n), 1, 3) {
					if c.Rcpt(rcpt).Code == 250 {
						taken++
					}
				}
				if taken > 0 && c.Data(hosttest.Letter("x")).Code == 250 {
					accepted.Add(taken)
				}
				c.Cmd("RSET")
			}
		})
	}
	wg.Wait()
	hosttest.Eventually(t, "all is delivered", func() bool { return int64(h.sink.Count()) == accepted.Load() && len(h.queue()) == 0 })
	if n := accepted.Load(); n > 10 || n < 8 {
		t.Errorf("%d recipients were accepted, want 10, or 8 where messages of three did not fit", n)
	}
}
