package engine_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/lockfile"
)

// What operators complain of in the limits that they have today, in their words,
// and how it is here. Those of single parts have their tests beside these.

// sendAs charges a message to one recipient that somebody sends who has logged in.
func (s *site) sendAs(mailbox string) sidecar.Reply {
	s.ids++
	r := authed(sidecar.StageData)
	r.Sender, r.Auth, r.ID, r.Recipients = mailbox, mailbox, fmt.Sprintf("1xUzSN-%06d-0q", s.ids), fmt.Sprintf("u%d@far.example", s.ids)
	return s.Ask(context.Background(), s.now, r)
}

// 450 says that the message will be reattempted, 550 that it is discarded, and
// neither says the other.
func TestDeferredOrDiscardedIsUnclear(t *testing.T) {
	s := newSite(t, limit20)
	s.send(20)
	for n := 21; n < 30; n++ {
		got := s.rcpt(fmt.Sprintf("x%d@far.example", n), 0)
		deferred, discarded := strings.Contains(got.Text, "will be reattempted later"), strings.Contains(got.Text, "Message discarded.")
		if deferred == discarded || deferred != (got.Action == sidecar.Defer) || discarded != (got.Action == sidecar.Reject) {
			t.Errorf("the %dth of 20: %d %q", n, got.Action, got.Text)
		}
	}
}

// Who is over a limit of his own is named, and stops nobody else of the domain. What
// trips a domain is shown with the line of the log that tells the message.
func TestTheWholeDomainIsBlockedAndNobodyKnowsByWhom(t *testing.T) {
	s := newSite(t, quarter+"[limits.mailbox.\"form@a.example\"]\nhourly = 2\n")
	s.now = time.Now()
	for range 2 {
		s.want(s.sendAs("form@a.example"), sidecar.Accept, "")
	}
	s.want(s.sendAs("form@a.example"), sidecar.Defer, "Mailbox form@a.example has exceeded the max emails per hour (3/2 (150%))")
	s.want(s.sendAs("news@a.example"), sidecar.Accept, "")
	id := s.arrived("a.example")
	s.failed(id, "x@far.example", noSuchUser)
	if d := s.outcomes("a.example"); len(d.Causes) != 1 || !strings.Contains(d.Causes[0].LastLine, id) || !strings.Contains(d.Causes[0].LastLine, "x@far.example") {
		t.Errorf("causes: %+v", d.Causes)
	}
}

func TestNoLimitPerMailbox(t *testing.T) {
	s := newSite(t, limit20)
	s.set("form@a.example", "hourly=3")
	for range 3 {
		s.want(s.sendAs("form@a.example"), sidecar.Accept, "")
	}
	s.want(s.sendAs("form@a.example"), sidecar.Defer, "Mailbox form@a.example has exceeded the max emails per hour (4/3 (133%))")
	s.want(s.sendAs("news@a.example"), sidecar.Accept, "")
	s.sent("a.example", 4)
}

// Up to the cutoff it is 450, for which every client has a queue, always where
// over_limit says so, and at the router in any case.
func TestA5xxMakesApplicationsWriteRecipientsOff(t *testing.T) {
	for config, last := range map[string]int{limit20: 24, limit20 + "over_limit = \"defer\"\n": 60} {
		s := newSite(t, config)
		s.send(20)
		for n := 21; n <= last; n++ {
			s.want(s.rcpt(fmt.Sprintf("x%d@far.example", n), 0), sidecar.Defer, "Domain a.example has exceeded")
		}
		for n := range 40 {
			s.hold(fmt.Sprintf("h%d@far.example", n))
		}
	}
}

// What is over the limit is refused before it is accepted, so that nothing bounces;
// what others bounce is counted, and shown with the last line of the log.
func TestSentThenBouncedUnseen(t *testing.T) {
	s := newSite(t, limit20)
	s.now = time.Now()
	s.send(20)
	s.want(s.rcpt("x@far.example", 0), sidecar.Defer, "Domain a.example has exceeded")
	s.want(s.send(1), sidecar.Defer, "Domain a.example has exceeded") // of two clients that raced
	s.failed(s.arrived("b.example"), "x@far.example", noSuchUser)
	if d := s.outcomes("b.example"); d.Failed != 1 || len(d.Causes) != 1 || d.Causes[0].Cause != sidecar.NoSuchUser || !strings.Contains(d.Causes[0].LastLine, "no such user") {
		t.Errorf("%+v", d)
	}
}

// sluice status has it, and so has a file beside the locks.
func TestUsageIsHardToSee(t *testing.T) {
	s := newSite(t, limit20)
	s.send(15)
	s.wantUsage("a.example", "15/20 (75%)")
	if d := s.outcomes("a.example"); d.Sent != 15 || d.Hourly != 20 || d.HourlyPercent != 75 || d.FreesAt != nil {
		t.Errorf("%+v", d)
	}
	s.send(5)
	if d := s.outcomes("a.example"); d.HourlyPercent != 100 || d.FreesAt == nil || !d.FreesAt.After(s.now) {
		t.Errorf("at its limit: %+v", d)
	}
}

// The log tells who is locked, why and mostly by what, and when it is over; status
// has the lock.
func TestNoNotice(t *testing.T) {
	s := ago(t, "[limits]\nhourly = 6\n")
	for range 5 {
		s.failed(s.arrived("a.example"), "x@far.example", noSuchUser)
	}
	for range 6 {
		s.sendAs("news@b.example")
	}
	s.Reconcile(t.Context(), s.now)
	s.eventually("a notice of the trip", func() bool {
		return strings.Contains(s.log.String(), `msg="too many defers and failures, domain locked" domain=a.example bad="5/5 (100%)" mostly=no-such-address`)
	})
	s.eventually("the lock in status", func() bool {
		d := s.outcomes("a.example")
		return len(d.Locks) == 1 && d.Locks[0].Kind == lockfile.DeferFail && d.Locks[0].Owner == "sluice"
	})
	s.eventually("a notice of the limit", func() bool {
		return strings.Contains(s.log.String(), `msg="limit reached, domain locked" domain=b.example sent="6/6 (100%)"`)
	})
	s.run()
	s.eventually("notices of the ends", func() bool {
		return strings.Contains(s.log.String(), `msg="defers and failures low again, domain released" domain=a.example`) &&
			strings.Contains(s.log.String(), `msg="below the limit again, locked no more" domain=b.example`)
	})
}

// Something like "(3/-1 (-300%))" is never said: what would lead there is refused
// where it is set, and 0, which is no limit, divides nothing.
func TestOddValuesLikeMinus300Percent(t *testing.T) {
	for _, bad := range []string{"hourly = -1", "daily = -1", "deferfail_min = -1", "deferfail_min = 0", "deferfail_percent = -1", "defer_cutoff = -1", "defer_cutoff = 0"} {
		if _, err := config.Parse("test.toml", "[limits]\n"+bad+"\n"); err == nil || !strings.Contains(err.Error(), "test.toml:2") {
			t.Errorf("%s: %v", bad, err)
		}
	}
	sane := regexp.MustCompile(`\(\d+/[1-9]\d* \(\d+%\)\)`)
	for _, limit := range []string{"hourly = 1", "hourly = 0\ndaily = 1", "hourly = 3\ndeferfail_min = 1"} {
		s := running(t, "[limits]\n"+limit+"\n")
		for range 3 {
			s.failed(s.arrived("a.example"), "x@far.example", noSuchUser) // charged from the log, beyond the limit
		}
		s.eventually("a refusal", func() bool {
			got := s.rcpt("y@far.example", 0)
			if got.Action != sidecar.Accept && !sane.MatchString(got.Text) {
				t.Errorf("%s: %q", limit, got.Text)
			}
			return got.Action != sidecar.Accept
		})
		if d := s.outcomes("a.example"); d.HourlyPercent < 0 || d.DeferfailNow < 0 || d.DeferfailNow > 100 {
			t.Errorf("%s: %+v", limit, d)
		}
		if err := s.Unlock(t.Context(), s.now, "a.example", "root"); err != nil {
			t.Fatal(err)
		}
		s.failed(s.arrived("a.example"), "x@far.example", noSuchUser)
		if d := s.outcomes("a.example"); d.Sent != 1 || d.Failed != 1 || d.DeferfailNow != 100 {
			t.Errorf("%s, after a reset: %+v", limit, d)
		}
	}
}

// Domains that somebody makes up take no more memory than max_subjects allows, and
// push out nobody.
func TestMetricsEatTheMemory(t *testing.T) {
	s := newSite(t, "[store]\nmax_subjects = 100\n"+limit20)
	s.send(20)
	for n := range 5000 {
		s.sendAs(fmt.Sprintf("news@made-up-%d.example", n))
	}
	st, err := s.Status(t.Context(), s.now, "")
	if err != nil || st.Totals.Subjects != 100 || len(st.Domains) > 100 || st.Totals.Uncounted != 4901 {
		t.Errorf("%d subjects, %d domains in status, %d sends uncounted: %v", st.Totals.Subjects, len(st.Domains), st.Totals.Uncounted, err)
	}
	s.want(s.send(1), sidecar.Defer, "Domain a.example has exceeded")
}

// A client that tries a refused recipient again does not push what is counted, and
// what was accepted and is asked about again, for its reply was lost, is charged once.
func TestClientRetriesCountTwice(t *testing.T) {
	s := newSite(t, limit20)
	r := authed(sidecar.StageData)
	r.ID, r.Recipients = messageID(s.now), "x@far.example, y@far.example"
	for range 3 {
		s.want(s.Ask(t.Context(), s.now, r), sidecar.Accept, "")
	}
	s.sent("a.example", 2)
	s.send(18)
	for range 10 { // the 21st each time, and not the 25th that would be rejected
		s.want(s.rcpt("z@far.example", 0), sidecar.Defer, fmt.Sprintf(hourlyText, "21/20 (105%)", "will be reattempted later"))
	}
	if d := s.outcomes("a.example"); d.Sent != 20 || d.Refused != 1 {
		t.Errorf("%+v", d)
	}
}
