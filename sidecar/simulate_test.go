package sidecar_test

import (
	"cmp"
	"context"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"sluice/sidecar"
	"sluice/sidecar/mainlog"
	"sluice/sidecar/mainlog/mainlogtest"
)

// A liveExim is an Exim of hours within seconds: it asks a live Policy as our
// ACLs and routers do, logs what comes of it as Exim does, and has the Policy read
// that log. What the Policy decided is noted.
//
//	random clients, sendmail ─→ liveExim ─ask─→ Policy ─→ did
//	                               └─→ log ─┬─→ Policy
//	                                        └─→ Simulation ─→ the same
type liveExim struct {
	*site
	random *rand.Rand
	parser *mainlog.Parser
	log    strings.Builder
	due    []delivery // the soonest first
	n      int
	did    map[string]*deed
	locked map[string]time.Time // since when, by domain
}

// A deed is what a live Policy did to a domain.
type deed struct {
	sidecar.SimulatedDomain
	refused map[string]bool
	bad     map[string]bool
}

// A delivery is one recipient of an accepted message, to be attempted.
type delivery struct {
	at      time.Time
	q       sidecar.Request // at route
	domain  string
	fate    int // what the other side will do
	message *queued
}

// A queued message is in the queue until all its recipients are done.
type queued struct{ left int }

func newLiveExim(t *testing.T, seed uint64, config string) *liveExim {
	return &liveExim{site: newSite(t, config), random: rand.New(rand.NewPCG(seed, 1)), parser: mainlog.NewParser(time.UTC),
		did: map[string]*deed{}, locked: map[string]time.Time{}}
}

func (x *liveExim) deed(domain string) *deed {
	d := x.did[domain]
	if d == nil {
		d = &deed{SimulatedDomain: sidecar.SimulatedDomain{Domain: domain}, refused: map[string]bool{}, bad: map[string]bool{}}
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

// say logs a line, and the Policy reads it.
func (x *liveExim) say(format string, args ...any) {
	line := x.now.Format("2006-01-02 15:04:05.000 ") + fmt.Sprintf(format, args...)
	x.log.WriteString(line + "\n")
	var e sidecar.LogEntry
	if x.parser.Parse(x.now, line, &e) {
		x.Record(context.Background(), x.now, []sidecar.LogEntry{e})
	}
}

func (x *liveExim) ask(r sidecar.Request) sidecar.Reply {
	return x.Ask(context.Background(), x.now, r)
}

// smtp sends a message from an SMTP client, whose recipients are tried one by one.
func (x *liveExim) smtp(domain, user string, to []string) {
	x.n++
	id := mainlogtest.ID(x.now, x.n)
	from := user + "@" + domain
	r := sidecar.Request{Sender: from, Auth: from, ClientAddress: "192.0.2.1"}
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
	reply := x.ask(q)
	if reply.Action != sidecar.Accept {
		x.t.Fatalf("refused at DATA: %+v", reply)
	}
	x.say("%s <= %s H=(pc) [192.0.2.1] P=esmtpa A=plain:%s S=800", id, from, from)
	x.accept(q, domain, reply.Charged, passed)
}

// sendmail sends a message of one recipient by a local user, who owns a domain.
func (x *liveExim) sendmail(domain, user, directory string, to []string) {
	x.n++
	q := sidecar.Request{ID: mainlogtest.ID(x.now, x.n), Sender: "www@" + domain, Login: user, CWD: directory,
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

// inbound is a message from elsewhere to an alias, which sends it on to strangers.
func (x *liveExim) inbound(domain string, to []string) {
	x.n++
	q := sidecar.Request{ID: mainlogtest.ID(x.now, x.n), Sender: "friend@elsewhere.example", ClientAddress: "198.51.100.1"}
	x.say("%s <= %s H=(mx) [198.51.100.1] P=esmtp S=900", q.ID, q.Sender)
	q.Original = "all@" + domain
	x.accept(q, domain, false, to)
}

func (x *liveExim) accept(q sidecar.Request, domain string, charged bool, to []string) {
	d := x.deed(domain)
	if charged {
		d.Sent += int64(len(to))
	}
	m := &queued{left: len(to)}
	for _, rcpt := range to {
		q.Stage, q.Recipient, q.Recipients, q.Charged = sidecar.StageRoute, rcpt, "", charged
		x.queue(delivery{at: x.now.Add(time.Duration(x.random.IntN(20000)) * time.Millisecond), q: q, domain: domain, fate: x.random.IntN(100), message: m})
	}
}

func (x *liveExim) queue(d delivery) {
	i, _ := slices.BinarySearchFunc(x.due, d, func(a, b delivery) int { return cmp.Or(a.at.Compare(b.at), -1) })
	x.due = slices.Insert(x.due, i, d)
}

// deliver attempts a recipient, as the router and a transport do.
func (x *liveExim) deliver(d delivery) {
	asked, who := d.q.Recipient+d.q.ID, x.deed(d.domain)
	before := x.accepted()
	reply := x.ask(d.q)
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
	case d.fate < 16:
		x.say("%s == %s R=dnslookup T=remote_smtp defer (-44) H=mx.far.example [203.0.113.1]: SMTP error from remote mail server after RCPT TO:<%s>: 450 4.2.0 try later", d.q.ID, shown, d.q.Recipient)
		who.bad[asked] = true
		who.Sent += x.accepted() - before
		d.at, d.fate = x.now.Add(4*time.Minute), 50
		x.queue(d)
		return
	default:
		x.say("%s => %s R=dnslookup T=remote_smtp H=mx.far.example [203.0.113.1] C=\"250 OK\"", d.q.ID, shown)
		delete(who.bad, asked)
	}
	who.Sent += x.accepted() - before
	if d.message.left--; d.message.left == 0 {
		x.say("%s Completed", d.q.ID)
	}
}

// accepted is how many sends the Policy has charged when it was asked.
func (x *liveExim) accepted() int64 {
	s, _ := x.Status(context.Background(), x.now, "nobody.example") // unknown: only the totals matter
	return s.Totals.Accepted
}

// until lets the time pass: deliveries are due, locks come and go.
func (x *liveExim) until(end time.Time) {
	for tick := x.now.Truncate(time.Second).Add(time.Second); tick.Before(end); tick = tick.Add(time.Second) {
		for len(x.due) > 0 && x.due[0].at.Before(tick) {
			d := x.due[0]
			x.due = x.due[1:]
			x.now = d.at
			x.deliver(d)
		}
		x.now = tick
		x.Reconcile(context.Background(), x.now)
		if tick.Unix()%60 == 0 {
			x.ShowUsage(x.now)
		}
		x.watchLocks()
	}
	x.now = end
}

// watchLocks notes for how long there are locks.
func (x *liveExim) watchLocks() {
	now := map[string]bool{}
	for _, f := range x.locks.Files("") {
		now[f.Domain] = true
		d := x.deed(f.Domain)
		d.Tripped = d.Tripped || f.Kind == sidecar.LockDeferFail
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

// live has a live Policy decide on three hours of mail.
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
	for domain, since := range x.locked {
		x.deed(domain).Seconds += x.now.Sub(since).Seconds()
	}
	return x
}

// simulate simulates a log with the settings of a configuration.
func simulate(t *testing.T, log string, config *sidecar.Config, set ...sidecar.Setting) *sidecar.Simulation {
	t.Helper()
	s := sidecar.NewSimulation(sidecar.SimulationOptions{Config: config, Node: "node1", EximUser: "exim", Set: set})
	replay, parser := sidecar.NewReplay(s), mainlog.NewParser(time.UTC)
	var entries []sidecar.LogEntry
	for line := range strings.Lines(log) {
		var e sidecar.LogEntry
		if parser.Parse(time.Time{}, strings.TrimSuffix(line, "\n"), &e) {
			entries = append(entries, e)
		}
	}
	for block := range slices.Chunk(entries, 777) {
		replay.Read(t.Context(), block)
	}
	replay.End(t.Context())
	return s
}

// Whom a simulation would have refused, when first, how often and for how long is
// what the live Policy did while that log was written.
func TestSimulationEqualsWhatTheLivePolicyDid(t *testing.T) {
	for seed := range uint64(1) {
		x := live(t, seed, simulated)
		want := map[string]sidecar.SimulatedDomain{}
		for _, d := range x.did {
			d.Refused, d.Bad = int64(len(d.refused)), int64(len(d.bad))
			if d.Refused > 0 {
				want[d.Domain] = d.SimulatedDomain
			}
		}
		got := map[string]sidecar.SimulatedDomain{}
		for _, d := range simulate(t, x.log.String(), x.config).Report().Domains {
			seconds := want[d.Domain].Seconds
			if diff := d.Seconds - seconds; diff < -0.02*seconds-60 || diff > 0.02*seconds+60 {
				t.Errorf("seed %d: %s was at its limit for %.0f s, and would have been for %.0f s", seed, d.Domain, seconds, d.Seconds)
			}
			d.Seconds, d.Peak, d.Mostly, d.MostlyOf = seconds, 0, "", 0
			got[d.Domain] = d
		}
		if diff := gocmp.Diff(want, got); diff != "" || len(want) < 4 {
			t.Errorf("seed %d: %d domains, -live +simulated:\n%s", seed, len(want), diff)
		}
		t.Logf("seed %d: %d lines: %+v", seed, strings.Count(x.log.String(), "\n"), want)
	}
}
