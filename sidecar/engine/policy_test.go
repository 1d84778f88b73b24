package engine_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/ratelimit/journal"
	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/engine"
	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/lockdir"
	"sluice/sidecar/notes"
	"sluice/sidecar/settings"
)

// A site is an Engine on its real store and lock directory, and an Exim that
// only records what it is asked to deliver.
type site struct {
	ids int // of messages so far
	*engine.Engine
	t      testing.TB
	config *config.Config
	store  *journal.Store
	locks  *lockdir.Dir
	stops  *lockdir.Dir
	ledger string // directories
	dir    string
	now    time.Time
	log    hosttest.Log

	anySender bool
	board     notes.Board     // nil: the site shares with nobody
	name      string          // of the node, if it shares
	shared    engine.Store    // has the counts, if it shares
	failing   bool            // Deliver fails
	slow      map[string]bool // messages that take until the end of the test

	running   atomic.Bool // its loops
	mu        sync.Mutex
	delivered []string
}

// Deliver is Exim's side of a release.
func (s *site) Deliver(ctx context.Context, ids []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.delivered = append(s.delivered, ids...)
	if s.slow[ids[0]] {
		s.mu.Unlock()
		<-ctx.Done()
		s.mu.Lock()
	}
	if s.failing {
		return errors.New("no such file or directory")
	}
	return nil
}

func (s *site) deliveries() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.delivered)
}

// newSite makes a site of a configuration. Its clock stands at noon.
func newSite(t testing.TB, config string) *site {
	t.Helper()
	s := &site{t: t, config: parsed(t, config), ledger: t.TempDir(), dir: t.TempDir(), now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	s.open()
	t.Cleanup(func() { s.store.Close() })
	return s
}

func (s *site) open() {
	s.t.Helper()
	queued := &event.Queue{}
	events := event.NewStream(event.NewLog(slog.New(slog.NewTextHandler(&s.log, nil))), event.Func(func(e event.Event) {
		if s.running.Load() { // now is the test's own
			e.At = time.Now()
		} else {
			e.At = s.now
		}
		queued.Emit(e)
	}))
	var err error
	s.store, err = journal.Open(s.ledger, journal.Options{Ledger: ratelimit.Options{Keep: s.config.LongestWindow(), MaxSubjects: int(s.config.Store.MaxSubjects)}})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.locks, err = lockdir.Open(lockdir.Options{Path: s.dir, Notes: s.store}); err != nil {
		s.t.Fatal(err)
	}
	if s.stops, err = lockdir.Open(lockdir.Options{Path: s.dir + "/stopped", Within: s.locks, Notes: s.store}); err != nil {
		s.t.Fatal(err)
	}
	s.Engine = engine.New(engine.Options{Config: s.config, Node: cmp.Or(s.name, "node1"), Exim: engine.Exim{User: "exim", AnySender: s.anySender}, Store: cmp.Or[engine.Store](s.shared, s.store),
		Notes: s.store, Board: s.board, Locks: s.locks, Stopped: s.stops, Queue: s, Events: events, Queued: queued, Now: s.now})
	s.store.KeepFor(s.now, s.Engine.Keep())
}

// restart stops a site and starts it again from what is on the disk.
func (s *site) restart() {
	s.t.Helper()
	if err := s.store.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
}

const limit20 = "[limits]\nhourly = 20\n"

// authed is a question of news@a.example, who has logged in.
func authed(stage sidecar.Stage) sidecar.Request {
	return sidecar.Request{Stage: stage, Sender: "news@a.example", Submitter: sidecar.Submitter{Auth: "news@a.example", ClientAddress: "192.0.2.1"}}
}

// send charges a message of n recipients at DATA.
func (s *site) send(n int) sidecar.Reply {
	s.ids++
	r := authed(sidecar.StageData)
	r.ID = fmt.Sprintf("1xUzSN-%06d-0q", s.ids)
	for i := range n {
		r.Recipients += fmt.Sprintf("u%d-%d@far.example, ", s.ids, i)
	}
	return s.Ask(context.Background(), s.now, r)
}

// rcpt asks about one more recipient of a message that has sent already.
func (s *site) rcpt(to string, sent int) sidecar.Reply {
	r := authed(sidecar.StageRcpt)
	r.Recipient, r.Sent = to, sent
	return s.Ask(context.Background(), s.now, r)
}

func (s *site) want(got sidecar.Reply, action sidecar.Action, text string) {
	s.t.Helper()
	if got.Action != action || !strings.HasPrefix(got.Text, text) {
		s.t.Fatalf("answered %d %q, want %d %q", got.Action, got.Text, action, text)
	}
}

const hourlyText = "Domain a.example has exceeded the max emails per hour (%s) allowed.  Message %s"

func TestTheTwentyFirstRecipientIsDeferredAndTheTwentyFifthRejected(t *testing.T) {
	s := newSite(t, limit20)
	for i := range 20 {
		if r := s.rcpt(fmt.Sprintf("u%d@far.example", i), i); r.Action != sidecar.Accept || r.Room != 20 {
			t.Fatalf("recipient %d: %+v", i+1, r)
		}
	}
	s.want(s.send(20), sidecar.Accept, "")
	for i := 21; i <= 26; i++ {
		action, what := sidecar.Defer, "will be reattempted later ["
		if i >= 25 {
			action, what = sidecar.Reject, "discarded. ["
		}
		ratio := fmt.Sprintf("%d/20 (%d%%)", i, i*5)
		for range 3 { // a client that tries again does not push the count
			s.want(s.rcpt(fmt.Sprintf("v%d@far.example", i), 0), action, fmt.Sprintf(hourlyText, ratio, what))
		}
	}
}

func TestOneMessageOfThirtyRecipientsAgainstRoomForTen(t *testing.T) {
	s := newSite(t, limit20)
	s.send(10)
	passed := 0
	for i := range 30 {
		if r := s.rcpt(fmt.Sprintf("u%d@far.example", i), passed); r.Action == sidecar.Accept {
			passed++
		}
	}
	if passed != 10 {
		t.Fatalf("%d recipients passed, want 10", passed)
	}
}

func TestTwoClientsRaceForTheLastRoom(t *testing.T) {
	s := newSite(t, limit20)
	s.send(15)
	s.want(s.send(4), sidecar.Accept, "")
	s.want(s.send(4), sidecar.Defer, fmt.Sprintf(hourlyText, "23/20 (115%)", "will be reattempted later ["))
	s.want(s.send(20), sidecar.Defer, fmt.Sprintf(hourlyText, "43/20 (215%)", "will be reattempted later ["))
	s.want(s.send(1), sidecar.Accept, "")
}

func TestAnAcceptedMessageAskedAgainIsChargedOnce(t *testing.T) {
	s := newSite(t, limit20)
	r := authed(sidecar.StageData)
	r.ID, r.Recipients = "1xUzSN-0005dd-0q", `BoB@far.example, bob@FAR.example, "bob"@far.example, x@local.example`
	for range 3 {
		if got := s.Ask(context.Background(), s.now, r); !got.Charged {
			t.Fatalf("%+v", got)
		}
	}
	route := authed(sidecar.StageRoute)
	route.ID, route.Recipient = r.ID, "bob@far.example"
	s.want(s.Ask(context.Background(), s.now, route), sidecar.Accept, "")
	s.sent("a.example", 3)
}

func (s *site) sent(domain string, want int64) {
	s.t.Helper()
	status, err := s.Status(context.Background(), s.now, "")
	if err != nil {
		s.t.Fatal(err)
	}
	for _, d := range status.Domains {
		if d.Domain == domain {
			if d.Sent != want {
				s.t.Fatalf("%s has sent %d, want %d", domain, d.Sent, want)
			}
			return
		}
	}
	if want != 0 {
		s.t.Fatalf("%s has sent nothing, want %d", domain, want)
	}
}

func TestSendmailBetweenLimitAndCutoffIsHeldAndFromTheCutoffRefused(t *testing.T) {
	s := newSite(t, limit20)
	s.send(20)
	local := sidecar.Request{Stage: sidecar.StageLocal, Sender: "www@a.example", Submitter: sidecar.Submitter{Login: "www"}}
	for i := 21; i <= 25; i++ {
		local.ID, local.Recipients = fmt.Sprintf("1xUzSN-%06d-1q", i), fmt.Sprintf("v%d@far.example", i)
		got := s.Ask(context.Background(), s.now, local)
		if i == 25 {
			s.want(got, sidecar.Reject, fmt.Sprintf(hourlyText, "25/20 (125%)", "discarded. ["))
			continue
		}
		if got.Action != sidecar.Accept || got.Charged {
			t.Fatalf("message %d: %+v, want it accepted uncharged", i, got)
		}
		route := local
		route.Stage, route.Recipient = sidecar.StageRoute, local.Recipients
		for range 3 { // queue runs
			s.want(s.Ask(context.Background(), s.now, route), sidecar.Defer,
				fmt.Sprintf(hourlyText, fmt.Sprintf("%d/20 (%d%%)", i, i*5), "will be reattempted later ["))
		}
	}
	s.held("a.example", 4)
}

func (s *site) held(domain string, want int) {
	s.t.Helper()
	status, err := s.Status(context.Background(), s.now, domain)
	if err != nil || status.Domains[0].Held != want {
		s.t.Fatalf("%s: %+v, %v, want %d held", domain, status.Domains, err, want)
	}
}

func TestAHeldRecipientIsChargedHoweverOldAndOthersAreNot(t *testing.T) {
	s := newSite(t, limit20)
	s.send(20)
	route := authed(sidecar.StageRoute)
	route.ID, route.Recipient = messageID(s.now), "held@far.example"
	s.want(s.Ask(context.Background(), s.now, route), sidecar.Defer, "Domain a.example has exceeded")
	s.now = s.now.Add(3 * time.Hour)
	s.want(s.Ask(context.Background(), s.now, route), sidecar.Accept, "")
	s.sent("a.example", 1)
	route.Recipient = "neverasked@far.example"
	s.want(s.Ask(context.Background(), s.now, route), sidecar.Accept, "")
	s.sent("a.example", 1)
	route.ID = messageID(s.now)
	s.want(s.Ask(context.Background(), s.now, route), sidecar.Accept, "")
	s.sent("a.example", 2)
}

// messageID is an Exim message id of a time.
func messageID(at time.Time) string {
	const digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	id := ""
	for n := at.Unix(); len(id) < 6; n /= 62 {
		id = string(digits[n%62]) + id
	}
	return id + "-0005dd-0q"
}

func TestWhoIsCharged(t *testing.T) {
	config := limit20 + `
[identity]
relay = ["192.0.2.0/24"]
[[identity.exempt]]
sender = "owner-list@lists.example"
auth = "lists@a.example"
[limits.account.bob]
hourly = 5
[limits.mailbox."news@a.example"]
hourly = 5
`
	auth := func(id, sender string) sidecar.Request {
		return sidecar.Request{Submitter: sidecar.Submitter{Auth: id, ClientAddress: "203.0.113.5"}, Sender: sender}
	}
	local := func(login, sender string) sidecar.Request {
		return sidecar.Request{Submitter: sidecar.Submitter{Login: login}, Sender: sender}
	}
	remote := func(client, sender, original string) sidecar.Request {
		return sidecar.Request{Submitter: sidecar.Submitter{ClientAddress: client}, Sender: sender, Original: original}
	}
	for name, c := range map[string]struct {
		request sidecar.Request
		want    string
	}{
		"auth with domain":                  {auth("News@A.example", "x@forged.example"), "a.example news@a.example"},
		"auth with domain, null sender":     {auth("news@a.example", ""), "a.example news@a.example"},
		"auth without domain":               {auth("bob", "x@b.example"), "account:bob b.example"},
		"auth without domain, null sender":  {auth("bob", ""), "service:bob"},
		"local":                             {local("bob", "x@b.example"), "account:bob b.example"},
		"local, null sender":                {local("bob", ""), "service:bob"},
		"local, redirected":                 {sidecar.Request{Submitter: sidecar.Submitter{Login: "bob"}, Sender: "x@b.example", Original: "l@local.example"}, "forward:local.example"},
		"local, redirected within a domain": {sidecar.Request{Submitter: sidecar.Submitter{Login: "bob"}, Sender: "x@b.example", Original: "l@b.example"}, "account:bob b.example"},
		"bounce of Exim":                    {local("exim", ""), ""},
		"bounce of Exim, redirected":        {sidecar.Request{Submitter: sidecar.Submitter{Login: "exim"}, Original: "fwd@c.example"}, "forward:c.example"},
		"redirected":                        {remote("203.0.113.5", "x@elsewhere.example", "fwd@C.example"), "forward:c.example"},
		"redirected, null sender":           {remote("203.0.113.5", "", "fwd@c.example"), "forward:c.example"},
		"auth, redirected":                  {sidecar.Request{Submitter: sidecar.Submitter{Auth: "news@a.example", ClientAddress: "203.0.113.5"}, Sender: "news@a.example", Original: "fwd@c.example"}, "forward:c.example"},
		"redirected by case only":           {remote("203.0.113.5", "x@elsewhere.example", `"U"@FAR.example`), "relay:203.0.113.5"},
		"relay":                             {remote("192.0.2.7", "x@b.example", ""), "b.example"},
		"relay over IPv6":                   {remote("::ffff:192.0.2.7", "x@b.example", ""), "b.example"},
		"relay that is not listed":          {remote("203.0.113.5", "x@a.example", ""), "relay:203.0.113.5"},
		"loopback":                          {remote("127.0.0.1", "x@b.example", ""), "loopback"},
		"loopback over IPv6":                {remote("::1", "x@b.example", ""), "loopback"},
		"exempt sender":                     {auth("Lists@a.example", "Owner-List@lists.example"), ""},
		"exempt sender, of somebody else":   {auth("news@a.example", "Owner-List@lists.example"), "a.example news@a.example"},
		"no domain to be found":             {local("bob", "nodomain"), "service:bob"},
		"domain in another script":          {local("bob", "x@bücher.example"), "account:bob xn--bcher-kva.example"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, config)
			r := c.request
			r.Stage, r.ID, r.Recipient = sidecar.StageRoute, messageID(s.now), "u@far.example"
			s.want(s.Ask(context.Background(), s.now, r), sidecar.Accept, "")
			var got []string
			s.store.Standings(s.now, func(st ratelimit.Standing) bool {
				got = append(got, st.Name)
				return true
			})
			if want := strings.Fields(c.want); strings.Join(sorted(got), " ") != strings.Join(want, " ") {
				t.Fatalf("charged %q, want %q", got, want)
			}
		})
	}
}

func sorted(s []string) []string {
	slices.Sort(s)
	return s
}

func TestTheRefusalThatSpeaks(t *testing.T) {
	s := newSite(t, `
[limits]
hourly = 20
daily = 40
[limits.mailbox."news@a.example"]
hourly = 10
[limits.account."bob"]
daily = 5
`)
	s.want(s.send(10), sidecar.Accept, "")
	s.want(s.rcpt("u@far.example", 0), sidecar.Defer,
		"Mailbox news@a.example has exceeded the max emails per hour (11/10 (110%)) allowed.  Message will be reattempted later "+
			"[10 sent in an hour; room at 2026-03-01 13:01:00 +0000; limit from test.toml:6; sluice on node1]")
	bob := sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(s.now), Submitter: sidecar.Submitter{Login: "bob"}, Sender: "bob@b.example",
		Recipients: "a@far.example, b@far.example, c@far.example, d@far.example, e@far.example"}
	s.want(s.Ask(context.Background(), s.now, bob), sidecar.Accept, "")
	bob.Stage, bob.Recipient, bob.ID = sidecar.StageRoute, "f@far.example", "1xUzSN-0005de-0q"
	s.want(s.Ask(context.Background(), s.now, bob), sidecar.Defer,
		"Account bob has exceeded the max emails per day (6/5 (120%)) allowed.  Message will be reattempted later "+
			"[5 sent in a day; room at 2026-03-02 12:24:00 +0000; limit from test.toml:8; sluice on node1]")
}

// With details = "operator" files and nodes are for the mail server's log only.
func TestWhatOnlyOperatorsNeed(t *testing.T) {
	s := newSite(t, limit20+`
[refusal]
help = "https://here.example/limits"
details = "operator"
`)
	s.SetPanel(s.now, settings.Panel{Blocks: map[string]settings.PanelBlock{"b.example": {Place: "hold_users:1"}}})
	s.want(s.send(20), sidecar.Accept, "")
	held := authed(sidecar.StageRcpt)
	held.Auth, held.Recipient = "b@b.example", "u@far.example"
	for _, c := range []struct {
		reply     sidecar.Reply
		said, log string
	}{
		{s.rcpt("u@far.example", 0),
			"20 sent in an hour; room at 2026-03-01 13:01:00 +0000; mostly news@a.example, 21 of 21; see https://here.example/limits]", "limit from test.toml:2; sluice on node1]"},
		{s.Ask(context.Background(), s.now, held),
			"Domain b.example is on hold.  Message will be reattempted later [see https://here.example/limits]", "hold_users:1; sluice on node1]"},
	} {
		said := strings.TrimSuffix(c.said, "]")
		if !strings.HasSuffix(c.reply.Text, c.said) || !strings.HasSuffix(c.reply.Log, said+"; "+c.log) {
			t.Errorf("told %q, logged %q, want %q and there also %q", c.reply.Text, c.reply.Log, c.said, c.log)
		}
	}
}

func TestAnOldHoldOfALockedDomain(t *testing.T) {
	s := newSite(t, limit20)
	ctx := context.Background()
	if _, err := s.Lock(ctx, s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	locked := "Domain a.example is locked.  Message will be reattempted later"
	s.want(s.rcpt("u@far.example", 0), sidecar.Defer, locked)
	s.want(s.send(1), sidecar.Defer, locked)
	local := sidecar.Request{Stage: sidecar.StageLocal, ID: messageID(s.now), Submitter: sidecar.Submitter{Login: "bob"}, Sender: "bob@a.example", Recipients: "u@far.example"}
	if r := s.Ask(ctx, s.now, local); r.Action != sidecar.Accept || r.Charged {
		t.Fatalf("sendmail under a lock by hand: %+v, want it accepted uncharged", r)
	}
	route := local
	route.Stage, route.Recipient = sidecar.StageRoute, "u@far.example"
	s.want(s.Ask(ctx, s.now, route), sidecar.Defer, locked)
	route.Charged = true // what was charged before the lock is held too
	s.want(s.Ask(ctx, s.now, route), sidecar.Defer, locked)
	s.sent("a.example", 0)
	if err := s.Unlock(ctx, s.now, "a.example", "root"); err != nil {
		t.Fatal(err)
	}
	s.want(s.rcpt("u@far.example", 0), sidecar.Accept, "")
}

// A backslash before a quote, which Exim takes outside of quotes too, must not
// make one recipient of many.
func TestABackslashHidesNoRecipients(t *testing.T) {
	for _, first := range []string{`a\"@far.example`, `"a,\"b"@far.example`, `"\\"@far.example`} {
		s := newSite(t, limit20)
		r := authed(sidecar.StageData)
		r.ID, r.Recipients = messageID(s.now), first
		for i := range 19 {
			r.Recipients += fmt.Sprintf(", v%d@far.example", i)
		}
		if got := s.Ask(context.Background(), s.now, r); !got.Charged {
			t.Fatalf("%s: %+v", first, got)
		}
		s.sent("a.example", 20)
	}
}

// However Exim and we may differ: what Exim has let pass and is not found in
// the list is asked about at the router.
func TestMoreRecipientsThanAreFoundAreNotAllCharged(t *testing.T) {
	s := newSite(t, limit20)
	r := authed(sidecar.StageData)
	r.ID, r.Sent = messageID(s.now), 3
	for recipients, charged := range map[string]bool{
		"a@far.example, b@far.example, c@far.example": true,
		"a@far.example, b@far.example":                false,
		"x@local.example":                             false,
	} {
		r.Recipients = recipients
		if got := s.Ask(context.Background(), s.now, r); got.Action != sidecar.Accept || got.Charged != charged {
			t.Errorf("%s: %+v", recipients, got)
		}
	}
}

// What Exim's router shows of a recipient names the same send as what came by
// SMTP.
func TestOddQuotesAreChargedOnce(t *testing.T) {
	for smtp, routed := range map[string]string{
		`b\ob@far.example`: "bob@far.example", `"a"."b"@far.example`: "a.b@far.example",
		`"\"q\""@far.example`: `"q"@far.example`, `a\@b@far.example`: "a@b@far.example",
	} {
		s := newSite(t, limit20)
		r := authed(sidecar.StageData)
		r.ID, r.Recipients = messageID(s.now), smtp
		s.Ask(context.Background(), s.now, r)
		r.Stage, r.Recipient, r.Recipients = sidecar.StageRoute, routed, ""
		s.Ask(context.Background(), s.now, r)
		s.sent("a.example", 1)
	}
}
