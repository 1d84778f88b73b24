package eximconfig_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/simulate"
)

// What a simulation says of a real Exim's log, and what the sidecar did while that
// was written:
//
//	client, sendmail, alias ─→ Exim ─asks─→ sluice ─→ status
//	                             └─→ main log ─→ sluice simulate ─→ the same
func TestSimulateTellsWhatTheSidecarDid(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.addMacros(t, "MAIN_LOG_SELECTOR = +millisec +arguments +pid")
	h.write(t, "/etc/exim4/sinks", fmt.Sprintf("bad.to: %s\n*: %s\n", grim{"RCPT": "550 5.1.1 nobody of that name"}.listen(t), route(h.sink.Port)))
	h.startSluice(t, "[limits]\nhourly = 20\ndeferfail_min = 5\n[limits.mailbox.\"few@shop.example\"]\nhourly = 2\n")
	h.startExim(t)

	refused := map[string]int64{}
	type span struct{ from, to time.Time }
	first := map[string]span{} // when the first refusal of each domain was logged
	from := time.Now()
	refuse := func(domain string) {
		if refused[domain]++; refused[domain] == 1 {
			first[domain] = span{from, time.Now()}
		}
	}
	c := h.dial(t).Login("news@shop.example")
	c.Want(c.Send("news@shop.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 15)...), 250)
	few := h.dial(t).Login("few@shop.example")
	few.Mail("few@shop.example")
	for _, to := range numbered("f%d@far.example", 1, 3) {
		from = time.Now()
		if few.Rcpt(to).Code != 250 {
			refuse("shop.example")
		}
	}
	few.Want(few.Data(hosttest.Letter("x")), 250)
	c = h.dial(t).Login("news@shop.example") // which believes no room
	c.Mail("news@shop.example")
	for _, to := range append(numbered("s%d@far.example", 1, 6), "alice@here.example", "s7@far.example", "s7@far.example") {
		if c.Rcpt(to).Code != 250 {
			refuse("shop.example")
		}
	}
	refused["shop.example"]-- // s7 was tried twice
	c.Want(c.Data(hosttest.Letter("x")), 250)

	for i := range 23 { // from sendmail: what is over the limit is held
		from = time.Now()
		h.sendmail(t, alice, "site", hosttest.Letter("x"), "-f", "a@local.test", fmt.Sprintf("l%d@far.example", i))
		if i >= 20 {
			refuse("local.test")
		}
	}
	for i := range 6 { // bad addresses: it trips
		bad := h.dial(t).Login("bob@trip.test")
		hosttest.Eventually(t, "it is known what became of the last ones", func() bool { return h.status(t, "trip.test").Failed == int64(min(i, 5)) })
		bad.Mail("bob@trip.test")
		from = time.Now()
		if r := bad.Rcpt(fmt.Sprintf("nobody%d@bad.to", i)); r.Code == 550 {
			refuse("trip.test")
		} else {
			bad.Want(r, 250)
			bad.Want(bad.Data(hosttest.Letter("x")), 250)
		}
		time.Sleep(10 * time.Millisecond) // between two lines of a log in milliseconds
	}
	outside := h.dialFrom(t, "192.0.2.9") // forwarded by an alias, which pays
	outside.Want(outside.Send("friend@elsewhere.example", hosttest.Letter("x"), "forward@here.example", "list@here.example"), 250)
	hosttest.Eventually(t, "only what is held is in the queue", func() bool { return len(h.queue()) == 3 })
	hosttest.Eventually(t, "five bad ones and their bounces are counted", func() bool { return h.status(t, "trip.test").Sent == 10 })
	first["local.test"] = span{first["local.test"].from, time.Now()} // a script's mail is held when it is delivered

	want := map[string]simulate.DomainReport{}
	for _, domain := range []string{"shop.example", "local.test", "trip.test"} {
		s := h.status(t, domain)
		bounces := s.Failed // one each, which was counted and not asked about
		want[domain] = simulate.DomainReport{Domain: domain, Sent: s.Sent - bounces, Refused: refused[domain], Bad: s.Deferred + s.Failed, Tripped: domain == "trip.test"}
	}
	out := h.run(t, h.sluice(t, "simulate", "--json", "/var/log/exim4/mainlog")...)
	var found struct{ Simulation simulate.Report }
	if err := json.Unmarshal([]byte(out), &found); err != nil {
		t.Fatal(err)
	}
	got := map[string]simulate.DomainReport{}
	mostly := map[string]string{}
	for _, d := range found.Simulation.Domains {
		if was := first[d.Domain]; d.First.Before(was.from.Truncate(time.Second)) || d.First.After(was.to) {
			t.Errorf("%s was refused first from %v to %v, and would have been at %v", d.Domain, was.from, was.to, d.First)
		}
		mostly[d.Domain] = d.Mostly
		got[d.Domain] = simulate.DomainReport{Domain: d.Domain, Sent: d.Sent, Refused: d.Refused, Bad: d.Bad, Tripped: d.Tripped}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-sidecar +simulated:\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"shop.example": "news@shop.example", "local.test": "script:/run/home/alice/site", "trip.test": "bob@trip.test"}, mostly); diff != "" {
		t.Errorf("whose it was mostly, -want +got:\n%s", diff)
	}
	if sent := h.forwards(t, "here.example").Windows[0].Sent; sent != 4 || found.Simulation.Sent != want["shop.example"].Sent+want["local.test"].Sent+want["trip.test"].Sent+4 {
		t.Errorf("forwarded were %d; in all %d would have been sent", sent, found.Simulation.Sent)
	}
	if strings.Contains(out, "sluice.invalid") {
		t.Errorf("names of our own in the report:\n%s", out)
	}
}
