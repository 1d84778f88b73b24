package engine_test

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"sluice/sidecar"
	"sluice/sidecar/config"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/limit"
	"sluice/sidecar/logline"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/mainlog/mainlogtest"
	"sluice/sidecar/simulate"
)

// A liveExim is an Exim of hours within seconds: it asks a live engine as our
// ACLs and routers do, logs what comes of it as Exim does, and has the engine read
// that log. What the engine decided is noted.
//
//	random clients, sendmail ─→ liveExim ─ask─→ engine ─→ did
//	                               └─→ log ─┬─→ engine
//	                                        └─→ Simulation ─→ the same
type liveExim struct {
	*site
	random *rand.Rand
	parser *mainlog.Parser
	log    strings.Builder
	due    []liveDelivery // the soonest first
	n      int
	did    map[string]*deed
	locked map[string]time.Time // since when, by domain
}

// A deed is what a live engine did to a domain.
type deed struct {
	simulate.DomainReport
	refused map[string]bool
	bad     map[string]bool
}

// A liveDelivery is one recipient of an accepted message, to be attempted.
type liveDelivery struct {
	at      time.Time
	q       sidecar.Request // at route
	domain  string
	fate    int // what the other side will do
	message *liveMessage
}

// A liveMessage message is in the queue until all its recipients are done.
type liveMessage struct{ left int }

func newLiveExim(t *testing.T, seed uint64, config string) *liveExim {
	return &liveExim{site: newSite(t, config), random: rand.New(rand.NewPCG(seed, 1)), parser: mainlog.NewParser(time.UTC),
		did: map[string]*deed{}, locked: map[string]time.Time{}}
}

func (x *liveExim) deed(domain string) *deed {
	d := x.did[domain]
	if d == nil {
		d = &deed{DomainReport: simulate.DomainReport{Domain: domain}, refused: map[string]bool{}, bad: map[string]bool{}}
		x.did[domain] = d
	}
	return d
}

func (d *deed) refuse(key string, now time.Time) {
	if len(d.refused) == 0 {
		d.First = now
	}
	d.refused[key] = true
	d.Last = now
}

// say logs a line, and the engine reads it.
func (x *liveExim) say(format string, args ...any) {
	line := x.now.Format("2006-01-02 15:04:05.000 ") + fmt.Sprintf(format, args...)
	x.log.WriteString(line + "\n")
	var e logline.Entry
	if x.parser.Parse(x.now, line, &e) {
		x.Record(context.Background(), x.now, []logline.Entry{e})
		x.Step(context.Background(), x.now)
	}
}

func (x *liveExim) ask(r sidecar.Request) sidecar.Reply {
	reply := x.Ask(context.Background(), x.now, r)
	x.Step(context.Background(), x.now)
	return reply
}

// smtp sends a message from an SMTP client, whose recipients are tried one by one.
func (x *liveExim) smtp(domain, user string, to []string) {
	x.n++
	id := mainlogtest.ID(x.now, x.n)
	from := user + "@" + domain
	r := sidecar.Request{Sender: from, Submitter: sidecar.Submitter{Auth: from, ClientAddress: "192.0.2.1"}}
	said := fmt.Sprintf("H=(pc) [192.0.2.1] F=<%s> A=plain:%s", from, from)
	var passed []string
	room := 0
	for _, rcpt := range to {
		if len(passed) >= room {
			q := r
			q.Stage, q.Recipient, q.Sent = sidecar.StageRcpt, rcpt, len(passed)
			reply := x.ask(q)
			if reply.Action != sidecar.Accept {
				temporarily := map[sidecar.Action]string{sidecar.Defer: "temporarily "}[reply.Action]
				x.say("%s %srejected RCPT <%s>: %s", said, temporarily, rcpt, reply.Text)
				x.deed(domain).refuse(rcpt, x.now)
				continue
			}
			room = reply.Room
		}
		passed = append(passed, rcpt)
	}
	if len(passed) == 0 {
		return
	}
	q := r
	q.ID, q.Stage, q.Recipients, q.Sent = id, sidecar.StageData, strings.Join(passed, ", "), len(passed)
	before := x.counted(domain)
	reply := x.ask(q)
	if reply.Action != sidecar.Accept {
		x.t.Fatalf("refused at DATA: %+v", reply)
	}
	x.deed(domain).Watched += int64(len(passed)) - (x.counted(domain) - before) // what is over a watched limit of the domain's is not counted
	x.say("%s <= %s H=(pc) [192.0.2.1] P=esmtpa A=plain:%s S=800", id, from, from)
	x.accept(q, domain, reply.Charged, passed)
}

// sendmail sends a message of one recipient by a local user, who owns a domain.
func (x *liveExim) sendmail(domain, user, directory string, to []string) {
	x.n++
	q := sidecar.Request{ID: mainlogtest.ID(x.now, x.n), Sender: "www@" + domain, Submitter: sidecar.Submitter{Login: user, CWD: directory},
		Stage: sidecar.StageLocal, Recipients: strings.Join(to, ", ")}
	x.say("cwd=%s 3 args: /usr/sbin/sendmail -t -i", directory)
	reply := x.ask(q)
	if reply.Action != sidecar.Accept {
		x.say("%s U=%s F=<%s> rejected by non-SMTP ACL: %s", q.ID, user, q.Sender, reply.Text)
		x.deed(domain).refuse(q.ID, x.now)
		return
	}
	x.say("%s <= %s U=%s P=local S=700", q.ID, q.Sender, user)
	x.accept(q, domain, reply.Charged, to)
}

// inbound is a message from elsewhere, sometimes a bounce, to an alias, which sends it on to
// strangers. Now and then that takes hours: until then the alias names nobody.
func (x *liveExim) inbound(domain string, to []string) {
	x.n++
	q := sidecar.Request{ID: mainlogtest.ID(x.now, x.n), Sender: "friend@elsewhere.example", Submitter: sidecar.Submitter{ClientAddress: "198.51.100.1"}}
	if x.n%3 == 0 {
		q.Sender = ""
	}
	x.say("%s <= %s H=(mx) [198.51.100.1] P=esmtp S=900", q.ID, cmp.Or(q.Sender, "<>"))
	q.Original = "all@" + domain
	x.accept(q, sidecar.ForwardPrefix+domain, false, to)
}

// bounce has Exim tell the sender of a message that it has failed. Where the sender is a
// list, Exim asks about each member.
func (x *liveExim) bounce(of sidecar.Request) {
	if of.Sender == "" {
		return
	}
	x.n++
	q := sidecar.Request{ID: mainlogtest.ID(x.now, x.n), Stage: sidecar.StageRoute, Recipient: of.Sender, Submitter: sidecar.Submitter{Login: "exim"}}
	x.say("%s <= <> R=%s U=exim P=local S=1000", q.ID, of.ID)
	if x.n%4 == 0 {
		q.Original = "all@local.example"
		x.accept(q, sidecar.ForwardPrefix+"local.example", false, []string{of.Sender, "member@far.example"})
		return
	}
	x.say("%s => %s R=dnslookup T=remote_smtp H=mx.far.example [203.0.113.1] C=\"250 OK\"", q.ID, of.Sender)
	x.say("%s Completed", q.ID)
}

func (x *liveExim) accept(q sidecar.Request, domain string, charged bool, to []string) {
	d := x.deed(domain)
	if charged {
		d.Sent += int64(len(to))
	}
	m := &liveMessage{left: len(to)}
	for _, rcpt := range to {
		q.Stage, q.Recipient, q.Recipients, q.Charged = sidecar.StageRoute, rcpt, "", charged
		at := x.now.Add(time.Duration(x.random.IntN(20000)) * time.Millisecond)
		if q.Original != "" && x.n%7 == 0 {
			at = at.Add(90 * time.Minute)
		}
		x.queue(liveDelivery{at: at, q: q, domain: domain, fate: x.random.IntN(100), message: m})
	}
}

func (x *liveExim) queue(d liveDelivery) {
	i, _ := slices.BinarySearchFunc(x.due, d, func(a, b liveDelivery) int { return cmp.Or(a.at.Compare(b.at), -1) })
	x.due = slices.Insert(x.due, i, d)
}

// deliver attempts a recipient, as the router and a transport do.
func (x *liveExim) deliver(d liveDelivery) {
	asked, who := d.q.Recipient+d.q.ID, x.deed(d.domain)
	accepted, counted := x.accepted(), x.counted(d.domain)
	reply := x.ask(d.q)
	charged := x.accepted() - accepted
	who.Sent += charged
	who.Watched += charged - (x.counted(d.domain) - counted)
	shown := d.q.Recipient
	if d.q.Original != "" {
		shown += " <" + d.q.Original + ">"
	}
	switch {
	case reply.Action == sidecar.Defer:
		hash := sha1.Sum([]byte(d.q.Recipient))
		x.say("%s == %s-%s@hold.sluice.invalid <%s> R=sluice_hold defer (-1): %s", d.q.ID, d.q.ID, hex.EncodeToString(hash[:])[:12], cmp.Or(d.q.Original, d.q.Recipient), reply.Text)
		who.refuse(asked, x.now)
		d.at = x.now.Add(3 * time.Minute) // the next queue run
		x.queue(d)
		return
	case d.fate < 6:
		x.say("%s ** %s R=dnslookup T=remote_smtp H=mx.far.example [203.0.113.1]: SMTP error from remote mail server after RCPT TO:<%s>: 550 5.1.1 no such user", d.q.ID, shown, d.q.Recipient)
		who.bad[asked] = true
		x.bounce(d.q)
	case d.fate < 16:
		x.say("%s == %s R=dnslookup T=remote_smtp defer (-44) H=mx.far.example [203.0.113.1]: SMTP error from remote mail server after RCPT TO:<%s>: 450 4.2.0 try later", d.q.ID, shown, d.q.Recipient)
		who.bad[asked] = true
		d.at, d.fate = x.now.Add(4*time.Minute), 50
		x.queue(d)
		return
	default:
		x.say("%s => %s R=dnslookup T=remote_smtp H=mx.far.example [203.0.113.1] C=\"250 OK\"", d.q.ID, shown)
		delete(who.bad, asked)
	}
	if d.message.left--; d.message.left == 0 {
		x.say("%s Completed", d.q.ID)
	}
}

// counted is how many sends of a domain count now.
func (x *liveExim) counted(domain string) int64 {
	for _, w := range x.store.Standing(x.now, domain).Windows {
		return w.Sent
	}
	return 0
}

// accepted is how many sends the engine has charged when it was asked.
func (x *liveExim) accepted() int64 {
	s, _ := x.Status(context.Background(), x.now, "nobody.example") // unknown: only the totals matter
	return s.Totals.Accepted
}

// until lets the time pass: deliveries are due, locks come and go.
func (x *liveExim) until(end time.Time) {
	for tick := x.now.Truncate(time.Second).Add(time.Second); tick.Before(end); tick = tick.Add(time.Second) {
		x.deliverUntil(tick)
		x.now = tick
		x.Reconcile(context.Background(), x.now)
		if tick.Unix()%60 == 0 {
			x.ShowUsage(x.now)
			x.Step(context.Background(), x.now)
		}
		x.watchLocks()
	}
	x.deliverUntil(end)
	x.now = end
}

func (x *liveExim) deliverUntil(end time.Time) {
	for len(x.due) > 0 && x.due[0].at.Before(end) {
		d := x.due[0]
		x.due = x.due[1:]
		x.now = d.at
		x.deliver(d)
	}
}

// watchLocks notes for how long there are locks.
func (x *liveExim) watchLocks() {
	now := map[string]bool{}
	for _, f := range x.locks.Files("") {
		now[f.Domain] = true
		if _, before := x.locked[f.Domain]; !before {
			x.locked[f.Domain] = x.now
		}
	}
	for domain, since := range x.locked {
		if !now[domain] {
			x.deed(domain).Seconds += x.now.Sub(since).Seconds()
			delete(x.locked, domain)
		}
	}
}

const simulated = `
[limits]
hourly = 40
deferfail_percent = 12
deferfail_min = 5
[limits.mailbox."news@d1.example"]
hourly = 15
[limits.domain."d2.example"]
hourly = 0
daily = 150
`

// Some refuse, and some are only watched.
const simulatedWatch = `
[limits]
hourly = 40
deferfail_percent = 12
deferfail_min = 5
mode = "watch"
[limits.domain."d1.example"]
mode = "enforce"
[limits.domain."d2.example"]
daily = 150
[limits.domain."web.example"]
mode = "enforce"
`

// live has a live engine decide on three hours of mail.
func live(t *testing.T, seed uint64, config string) *liveExim {
	x := newLiveExim(t, seed, config)
	end := x.now.Add(3 * time.Hour)
	for x.now.Before(end) {
		x.until(x.now.Add(time.Duration(1000+x.random.IntN(24000)) * time.Millisecond))
		to := []string{}
		for i := range 1 + x.random.IntN(4) {
			to = append(to, fmt.Sprintf("u%d.%d@far.example", x.n, i))
		}
		switch n := x.random.IntN(100); {
		case n < 70:
			x.smtp(fmt.Sprintf("d%d.example", x.random.IntN(5)), []string{"news", "bob"}[x.random.IntN(2)], to)
		case n < 90:
			x.sendmail("web.example", "bob", "/home/bob/site", to[:1])
		default:
			x.inbound("local.example", to)
		}
	}
	x.until(x.now.Add(90 * time.Minute))
	x.say("%s Completed", mainlogtest.ID(x.now, 0))
	for name, d := range x.did {
		d.Tripped = strings.Contains(x.site.log.String(), `domain locked" domain=`+name+` bad=`)
	}
	for domain, since := range x.locked {
		x.deed(domain).Seconds += x.now.Sub(since).Seconds()
	}
	return x
}

// simulated simulates a log with the settings of a configuration.
func replayed(t *testing.T, log string, config *config.Config, set ...limit.Setting) *simulate.Simulation {
	t.Helper()
	s := simulate.New(simulate.Options{Config: config, Node: "node1", EximUser: "exim", Set: set})
	replay, parser := simulate.NewReplay(s), mainlog.NewParser(time.UTC)
	var entries []logline.Entry
	for line := range strings.Lines(log) {
		var e logline.Entry
		if parser.Parse(time.Time{}, strings.TrimSuffix(line, "\n"), &e) {
			entries = append(entries, e)
		}
	}
	for block := range slices.Chunk(entries, 777) {
		replay.Prepare(block)(t.Context())
	}
	replay.End(t.Context())
	return s
}

// Whom a simulation would have refused, when first, how often and for how long is
// what the live engine did while that log was written, and so is what passed
// limits that are only watched. The soak tries other mail.
func TestSimulationEqualsWhatTheLivePolicyDid(t *testing.T) {
	seeds := uint64(1)
	if hosttest.Soak() {
		seeds = 20
	}
	for _, c := range []struct {
		name, config     string
		refused, watched int // domains, at least
	}{{"enforce", simulated, 4, 0}, {"watch", simulatedWatch, 2, 4}} {
		for seed := range seeds {
			t.Run(fmt.Sprint(c.name, seed), func(t *testing.T) {
				x := live(t, seed, c.config)
				want, refused, watched := x.report()
				if refused < c.refused || watched < c.watched {
					t.Errorf("live, %d domains were refused and %d watched: %+v", refused, watched, want)
				}
				got := map[string]simulate.DomainReport{}
				for _, d := range replayed(t, x.log.String(), x.config).Report().Domains {
					seconds := want[d.Domain].Seconds
					if diff := d.Seconds - seconds; diff < -0.02*seconds-60 || diff > 0.02*seconds+60 {
						t.Errorf("%s was at its limit for %.0f s, and would have been for %.0f s", d.Domain, seconds, d.Seconds)
					}
					d.Seconds, d.Peak, d.Mostly, d.MostlyOf = seconds, 0, "", 0
					got[d.Domain] = d
				}
				if diff := gocmp.Diff(want, got); diff != "" {
					t.Errorf("-live +simulated:\n%s", diff)
				}
			})
		}
	}
}

// report is what the live engine did to the domains that it has refused something,
// or has watched.
func (x *liveExim) report() (domains map[string]simulate.DomainReport, refused, watched int) {
	domains = map[string]simulate.DomainReport{}
	for _, d := range x.did {
		d.Refused, d.Bad = int64(len(d.refused)), int64(len(d.bad))
		if d.Refused > 0 || d.Watched > 0 {
			domains[d.Domain] = d.DomainReport
		}
		refused += min(len(d.refused), 1)
		watched += int(min(d.Watched, 1))
	}
	return domains, refused, watched
}

// What is kept of a log is what is in the windows, however long the log is: once
// they are full, twice as much of it takes no more memory.
func TestSimulationKeepsNoMoreOfALongerLog(t *testing.T) {
	config, err := config.Parse("test.toml", "[limits]\nwindow = \"1m\"\nhourly = 4\ndeferfail_percent = 50\n[exim]\nlocal_domains = [\"here.example\"]\n")
	if err != nil {
		t.Fatal(err)
	}
	log := mainlogtest.New(7, 300, time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC), 40*time.Millisecond)
	s := simulate.New(simulate.Options{Config: config, Node: "node1"})
	replay, parser := simulate.NewReplay(s), mainlog.NewParser(time.UTC)
	alive := [2]int64{}
	for n := range alive {
		for size := 0; size < 12<<20; {
			block := make([]logline.Entry, 0, 500)
			for len(block) < cap(block)-20 {
				for _, line := range log.Next() {
					size += len(line)
					var e logline.Entry
					if parser.Parse(time.Time{}, strings.TrimSuffix(line, "\n"), &e) {
						block = append(block, e)
					}
				}
			}
			replay.Prepare(block)(t.Context())
		}
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		alive[n] = int64(m.HeapAlloc)
	}
	replay.End(t.Context())
	if r := s.Report(); r.Refused == 0 || r.Bad == 0 {
		t.Errorf("too little has happened: %+v", r)
	}
	if grown := alive[1] - alive[0]; grown > 1<<20 {
		t.Errorf("after 12 MB of log %d bytes were alive, after 24 MB %d: %d more", alive[0], alive[1], grown)
	}
	runtime.KeepAlive(log)
}

// What is delivered while it is received is logged before it has arrived, and other
// lines may stand in between. It is charged then, and asked about no more.
func TestSimulationChargesACutthroughDelivery(t *testing.T) {
	c, err := config.Parse("test.toml", "[limits]\nhourly = 2\n")
	if err != nil {
		t.Fatal(err)
	}
	start := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	var log strings.Builder
	for n := range 3 {
		now := start.Add(time.Duration(n) * time.Second)
		id, other := mainlogtest.ID(now, 2*n), mainlogtest.ID(now, 2*n+1)
		stamp := now.Format("2006-01-02 15:04:05 ")
		for _, line := range []string{
			id + " >> u%d@far.example R=dnslookup T=remote_smtp H=mx.far.example [203.0.113.1] C=\"250 OK\"",
			other + " <= friend%d@elsewhere.example H=(mx) [198.51.100.1] P=esmtp S=900",
			id + " <= news@d%d.example H=(pc) [192.0.2.1] P=esmtpa A=plain:news@d.example S=800",
			id + " Completed",
		} {
			log.WriteString(stamp + strings.Replace(line, "%d", fmt.Sprint(n), 1) + "\n")
		}
	}
	if r := replayed(t, log.String(), c).Report(); r.Senders != 1 || r.Sent != 3 || r.Refused != 0 {
		t.Errorf("of three deliveries that were made, with a limit of two: %+v", r)
	}
}
