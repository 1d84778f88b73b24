package eximconfig_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
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
	c := h.dial(t).login("news@shop.example")

	c.want(c.send("news@shop.example", letter("x"), numbered("r%d@far.example", 1, 5)...), 250)
	c.mail("other@shop.example")
	for _, rcpt := range append(numbered("r%d@far.example", 6, 20), "alice@here.example") {
		c.want(c.rcpt(rcpt), 250)
	}
	for range 3 { // one that tries again counts once
		c.wantRefused(c.rcpt("r21@far.example"), 450, hourlyText("shop.example", 21, 20, laterText))
	}
	c.want(c.rcpt("bob@here.example"), 250) // local ones pass and never count
	for i := 22; i <= 24; i++ {
		c.wantRefused(c.rcpt(fmt.Sprintf("r%d@far.example", i)), 450, hourlyText("shop.example", i, 20, laterText))
	}
	c.wantRefused(c.rcpt("r25@far.example"), 550, hourlyText("shop.example", 25, 20, neverText))
	c.want(c.data(letter("x")), 250)
	eventually(t, "20 recipients are served", func() bool { return h.sink.count() == 20 && h.mailbox(bob) != "" })
	if log := h.mainlog(); !strings.Contains(log, "rejected RCPT <r21@far.example>: "+hourlyText("shop.example", 21, 20, laterText)) {
		t.Error("the main log does not have the text on one line")
	}

	c.want(c.send("news@shop.example", letter("x"), "alice@here.example"), 250)
	free := h.dial(t).login("joe@free.example")
	free.want(free.send("joe@free.example", letter("x"), "r1@far.example"), 250)
	inbound := h.dialFrom(t, "192.0.2.9") // merely claims the domain
	inbound.want(inbound.send("news@shop.example", letter("x"), "alice@here.example"), 250)
	if got := h.status(t, "shop.example"); got.Sent != 20 || got.Refused != 5 || got.HourlyPercent != 100 {
		t.Errorf("status: %+v", got)
	}
	eventually(t, "all is delivered", func() bool { return h.sink.count() == 21 && len(h.queue()) == 0 })
}

func TestThirtyRecipientsAgainstRoomForTen(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 10")
	h.startExim(t)
	c := h.dial(t).login("news@shop.example")
	c.mail("news@shop.example")
	taken := 0
	for _, rcpt := range numbered("r%d@far.example", 1, 30) {
		switch r := c.rcpt(rcpt); r.code {
		case 250:
			taken++
		case 450, 550:
		default:
			t.Fatal(r)
		}
	}
	c.want(c.data(letter("x")), 250)
	eventually(t, "it is delivered", func() bool { return len(h.queue()) == 0 && h.sink.count() > 0 })
	if taken != 10 || h.sink.count() != 10 {
		t.Errorf("%d recipients were taken and %d served, want 10", taken, h.sink.count())
	}
}

// What a site's rule rejects at DATA is not charged.
func TestRejectedBySiteIsNotCharged(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 3")
	h.startExim(t)
	c := h.dial(t).login("news@shop.example")
	three := numbered("r%d@far.example", 1, 3)
	for range 3 {
		c.want(c.send("news@shop.example", letter("forbidden by the site"), three...), 550, "the site does not like this")
	}
	c.want(c.send("news@shop.example", letter("good"), three...), 250)
	c.mail("news@shop.example")
	c.wantRefused(c.rcpt("r4@far.example"), 550, hourlyText("shop.example", 4, 3, neverText))
	eventually(t, "it is delivered", func() bool { return h.sink.count() == 3 })
}

// Two clients both have room at RCPT; at DATA one is too late.
func TestRaceForTheLastRoom(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 1")
	h.startExim(t)
	a, b := h.dial(t).login("a@shop.example"), h.dial(t).login("b@shop.example")
	a.mail("a@shop.example")
	b.mail("b@shop.example")
	a.want(a.rcpt("x@far.example"), 250)
	b.want(b.rcpt("y@far.example"), 250)
	a.want(a.data(letter("x")), 250)
	b.wantRefused(b.data(letter("x")), 450, hourlyText("shop.example", 2, 1, laterText))
	eventually(t, "one is delivered", func() bool { return h.sink.count() == 1 && len(h.queue()) == 0 })
}

// Many clients at once: never over, and a message as a whole or not at all.
func TestManyClientsAreNeverOver(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, "[limits]\nhourly = 10")
	h.startExim(t)
	var clients []*client
	for i := range 6 {
		clients = append(clients, h.dial(t).login(fmt.Sprintf("c%d@shop.example", i)))
	}
	var accepted atomic.Int64
	var wg sync.WaitGroup
	for i, c := range clients {
		wg.Go(func() {
			for n := range 3 {
				c.write(fmt.Sprintf("MAIL FROM:<c%d@shop.example>\r\n", i))
				c.reply()
				taken := int64(0)
				for _, rcpt := range numbered(fmt.Sprintf("c%d-%d-r%%d@far.example", i, n), 1, 3) {
					if c.rcpt(rcpt).code == 250 {
						taken++
					}
				}
				if taken > 0 && c.data(letter("x")).code == 250 {
					accepted.Add(taken)
				}
				c.cmd("RSET")
			}
		})
	}
	wg.Wait()
	eventually(t, "all is delivered", func() bool { return int64(h.sink.count()) == accepted.Load() && len(h.queue()) == 0 })
	if n := accepted.Load(); n > 10 || n < 8 {
		t.Errorf("%d recipients were accepted, want 10, or 8 where messages of three did not fit", n)
	}
}
