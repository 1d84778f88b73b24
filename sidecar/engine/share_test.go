package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/stop"
)

// An office is a domain whose people send at certain times, and who of them was refused.
type office struct {
	*site
	max           int
	accepted      []time.Time // since the last reset
	sent, refused map[string]int
	worst         int // most accepted in an hour
	action        sidecar.Action
	text          string // of the last refusal
	messages      int
}

func newOffice(t testing.TB, max int, config string) *office {
	o := &office{site: newSite(t, fmt.Sprintf("[limits]\nhourly = %d\n%s", max, config)), max: max}
	o.now = time.Date(2026, 3, 2, 0, 0, 0, 0, time.UTC)
	o.clear()
	return o
}

func (o *office) clear() { o.sent, o.refused = map[string]int{}, map[string]int{} }

// from is who sends: a mailbox, or bob's program in a directory, or the web server's in one of
// the web's.
func from(name string) sidecar.Submitter {
	if strings.HasPrefix(name, "/home/web/") {
		return sidecar.Submitter{Login: "www-data", CWD: name}
	}
	if strings.HasPrefix(name, "/") {
		return sidecar.Submitter{Login: "bob", CWD: name}
	}
	return sidecar.Submitter{Auth: name + "@a.example", ClientAddress: "192.0.2.1"}
}

// try sends a message to n recipients, by the questions of Exim's ACLs, to those that are not
// refused, and returns to how many.
func (o *office) try(name string, n int) int {
	o.messages++
	r := sidecar.Request{Sender: "x@a.example", Submitter: from(name)}
	to := func(i int) string { return fmt.Sprintf("u%d-%d@far.example", o.messages, i) }
	room, passed := 0, 0
	for i := range n {
		if passed >= room && r.Auth != "" {
			r.Stage, r.Recipient, r.Sent = sidecar.StageRcpt, to(i), passed
			reply := o.Ask(context.Background(), o.now, r)
			if reply.Action != sidecar.Accept {
				o.refused[name], o.action, o.text = o.refused[name]+1, reply.Action, reply.Text
				continue
			}
			room = reply.Room
		}
		r.Recipients += to(i) + ", "
		passed++
	}
	if passed == 0 {
		return 0
	}
	r.ID, r.Stage, r.Recipient = fmt.Sprintf("1xUzSN-%06d-0q", o.messages), sidecar.StageData, ""
	if r.Auth == "" {
		r.Stage = sidecar.StageLocal
	}
	reply := o.Ask(context.Background(), o.now, r)
	if !reply.Charged {
		o.refused[name], o.action, o.text = o.refused[name]+passed, reply.Action, reply.Text
		return 0
	}
	o.sent[name] += passed
	for range passed {
		o.accepted = append(o.accepted, o.now)
	}
	for len(o.accepted) > 0 && !o.accepted[0].After(o.now.Add(-time.Hour)) {
		o.accepted = o.accepted[1:]
	}
	o.worst = max(o.worst, len(o.accepted))
	return passed
}

// A rate is how many messages somebody sends an hour, evenly.
type rate struct {
	name   string
	hourly int
}

// run has people send for so many minutes.
func (o *office) run(minutes int, people ...rate) {
	for m := range minutes {
		for _, p := range people {
			for range (m+1)*p.hourly/60 - m*p.hourly/60 {
				o.try(p.name, 1)
			}
		}
		o.now = o.now.Add(time.Minute)
	}
}

// week has people work from 9 to 17 for so many days, and ends at noon of another.
func (o *office) week(days int, people ...rate) {
	for range days {
		o.now = o.now.Truncate(24 * time.Hour).Add(9 * time.Hour)
		o.run(8*60, people...)
		o.now = o.now.Add(12 * time.Hour)
	}
	o.now = o.now.Truncate(24 * time.Hour).Add(9 * time.Hour)
	o.run(3*60, people...)
}

func (o *office) refusedOf(people ...rate) (n int) {
	for _, p := range people {
		n += o.refused[p.name]
	}
	return n
}

var colleagues = []rate{{"ann", 10}, {"bea", 10}, {"cid", 10}, {"dan", 10}}

// The promise: a stolen mailbox is refused, and its four colleagues are not.
func TestAStolenMailboxBesideFourColleagues(t *testing.T) {
	for _, perMinute := range []int{30, 500} {
		t.Run(fmt.Sprint(perMinute), func(t *testing.T) {
			o := newOffice(t, 100, "")
			all := append([]rate{{"eve", 3}}, colleagues...)
			o.week(7, all...)
			if o.refusedOf(all...) > 0 {
				t.Fatalf("in the week before: %v", o.refused)
			}
			o.clear()
			o.run(7*60, append([]rate{{"eve", 60 * perMinute}}, colleagues...)...)
			t.Logf("sent %v, refused %v, at most %d in an hour", o.sent, o.refused, o.worst)
			if o.refusedOf(colleagues...) > 0 || o.worst > 100 {
				t.Errorf("colleagues are refused, or the limit is exceeded")
			}
			if o.sent["eve"]+o.refused["eve"] != 7*60*perMinute || o.sent["eve"] > 7*75 {
				t.Errorf("the culprit: %d sent, %d refused", o.sent["eve"], o.refused["eve"])
			}
			if !strings.HasPrefix(o.text, "Mailbox eve@a.example has exceeded the max emails per hour (") || !strings.Contains(o.text, " of a.example less ") || o.action != sidecar.Defer {
				t.Errorf("%v %q", o.action, o.text)
			}
		})
	}
}

// Likewise a script under a web server, and an address that forwards what strangers send to it,
// which counts apart. Who it is stands in the first refusal, in who and in status.
func TestAWebServersScriptAndAForwarderBesideFourColleagues(t *testing.T) {
	o := newOffice(t, 100, "")
	o.week(7, colleagues...)
	o.clear()
	var script, forward sidecar.Reply // the first refusals
	for minute := range 7 * 60 {
		for i := range 30 {
			r := sidecar.Request{Stage: sidecar.StageRoute, ID: fmt.Sprintf("1xUzSN-%03d%03d-1q", minute, i), Sender: "x@else.example", Original: "info@a.example",
				Recipient: "u@far.example", Submitter: sidecar.Submitter{ClientAddress: "203.0.113.9"}}
			if reply := o.Ask(t.Context(), o.now, r); reply.Action != sidecar.Accept && forward.Text == "" {
				forward = reply
			}
			if o.try("/home/web/shop", 1) == 0 && script.Text == "" { // it is accepted, and the router holds it
				r = sidecar.Request{Stage: sidecar.StageRoute, ID: fmt.Sprintf("1xUzSN-%06d-0q", o.messages), Sender: "x@a.example", Recipient: "u@far.example", Submitter: from("/home/web/shop")}
				script = o.Ask(t.Context(), o.now, r)
			}
		}
		for _, p := range colleagues {
			if minute%6 == 0 {
				o.try(p.name, 1)
			}
		}
		o.now = o.now.Add(time.Minute)
	}
	t.Logf("sent %v, at most %d in an hour; %q; %q", o.sent, o.worst, script.Text, forward.Log)
	if o.refusedOf(colleagues...) > 0 || o.worst > 100 || o.sent["/home/web/shop"] < 7*30 {
		t.Errorf("refused %v", o.refused)
	}
	o.want(script, sidecar.Defer, "Script /home/web/shop has exceeded the max emails per hour (")
	o.want(forward, sidecar.Defer, "Forwarder a.example has exceeded the max emails per hour (101/100 (101%)) allowed.")
	if !strings.Contains(forward.Log, "mostly forward:info@a.example, 101 of 101") {
		t.Errorf("logged of a forward is %q", forward.Log)
	}
	for subject, key := range map[string]string{"a.example": "script:/home/web/shop", "forward:a.example": "forward:info@a.example"} {
		who, err := o.WhoSends(o.now, subject, 20)
		if err != nil || len(who.Domains) == 0 || who.Domains[0].Authors[0].Key != key {
			t.Errorf("who %s: %+v, %v", subject, who, err)
		}
	}
	if top := o.status("a.example").Domains[0].Authors; len(top) == 0 || top[0].Key != "script:/home/web/shop" {
		t.Errorf("status: %+v", top)
	}
	if stops, err := o.Stops(o.now, ""); err != nil || len(stops) != 0 {
		t.Errorf("stopped are %+v, %v", stops, err)
	}
}

// Without the share, the same colleagues are refused: so the promise is not kept by chance.
func TestWithoutAShareColleaguesAreRefused(t *testing.T) {
	for _, config := range []string{"others_share = 0\n", "culprit = \"name\"\n", "culprit = \"off\"\n"} {
		o := newOffice(t, 100, config)
		o.week(2, colleagues...)
		o.clear()
		o.run(60, append([]rate{{"eve", 30 * 60}}, colleagues...)...)
		if o.refusedOf(colleagues...) == 0 || o.worst > 100 || !strings.HasPrefix(o.text, "Domain a.example has exceeded") {
			t.Errorf("%s: %v, %q", config, o.refused, o.text)
		}
	}
}

// The replays of the documentation, with a limit of 500 and four colleagues of 5 an hour.
func TestReplaysOfTheShare(t *testing.T) {
	quiet := []rate{{"ann", 5}, {"bea", 5}, {"cid", 5}, {"dan", 5}}
	six, rotating := []rate{}, []rate{}
	for i := range 6 {
		six = append(six, rate{fmt.Sprint("x", i), 300})
	}
	for i := range 60 {
		rotating = append(rotating, rate{fmt.Sprint("/home/bob/", i), 30})
	}
	for _, c := range []struct {
		name     string
		people   []rate
		culprits []rate
	}{
		{"two regular senders", append([]rate{{"fay", 150}, {"gus", 180}}, quiet...), []rate{{"eve", 1800}}},
		{"a busy colleague", append([]rate{{"fay", 120}}, quiet...), []rate{{"eve", 1800}}},
		{"six culprits", quiet, six},
		{"rotating directories", quiet, rotating},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := newOffice(t, 500, "")
			o.week(7, c.people...)
			o.clear()
			o.run(3*60, append(append([]rate{}, c.culprits...), c.people...)...)
			t.Logf("refused of the others %d of %d; culprits sent %d; at most %d in an hour",
				o.refusedOf(c.people...), o.refusedOf(c.people...)+o.sentOf(c.people...), o.sentOf(c.culprits...), o.worst)
			if o.refusedOf(c.people...) > 0 || o.worst > 500 || o.refusedOf(c.culprits...) == 0 {
				t.Errorf("%v", o.refused)
			}
		})
	}
	t.Run("one large message", func(t *testing.T) {
		o := newOffice(t, 500, "")
		o.week(7, quiet...)
		o.clear()
		passed := o.try("eve", 480)
		o.run(2*60, quiet...)
		t.Logf("%d of 480 recipients fit; refused of the others %d of %d; at most %d in an hour", passed, o.refusedOf(quiet...), o.refusedOf(quiet...)+o.sentOf(quiet...), o.worst)
		if o.refusedOf(quiet...) > 0 || passed < 440 || passed == 480 {
			t.Errorf("%d fit, %v", passed, o.refused)
		}
	})
	t.Run("a lone sender", func(t *testing.T) {
		o := newOffice(t, 500, "")
		o.week(7, rate{"ann", 5})
		o.now = o.now.Add(2 * time.Hour)
		if passed := o.try("ann", 501); passed != 500 {
			t.Errorf("%d of 500", passed)
		}
	})
}

func (o *office) sentOf(people ...rate) (n int) {
	for _, p := range people {
		n += o.sent[p.name]
	}
	return n
}

// Random offices: authors, limits, resets, restarts and steps of the clock. Never are more
// accepted than the limit in any hour; who sends no more than it does every day is never
// refused while all of that fits into the share; and a lone author gets all of the limit.
func TestAnyOffice(t *testing.T) {
	for seed := range uint64(25) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			random := rand.New(rand.NewPCG(seed, 19))
			limit, percent := 40+random.IntN(400), 20+random.IntN(60)
			o := newOffice(t, limit, fmt.Sprintf("others_share = %d\n", percent))
			var people, culprits []rate
			for left := limit * percent / 100 * 5 / 8; len(people) < 6; { // half as much again is kept for each
				p := rate{fmt.Sprint("p", len(people)), 1 + random.IntN(1+limit/10)}
				if left -= p.hourly + 1; left < 0 {
					break
				}
				people = append(people, p)
			}
			for i := range random.IntN(4) {
				culprits = append(culprits, rate{[]string{"eve", "/home/bob/x", "mal", "/home/bob/y"}[i], 60 + random.IntN(2000)})
			}
			o.week(2+random.IntN(3), people...)
			if n := o.refusedOf(people...); n > 0 {
				t.Fatalf("before: %d", n)
			}
			for range 6 {
				switch random.IntN(4) {
				case 0:
					if err := o.Reset(context.Background(), o.now, "a.example", "root"); err == nil {
						o.accepted, o.now = nil, o.now.Add(time.Second)
					}
				case 1:
					o.Who.Stop(t.Context(), o.now)
					o.restart()
				case 2:
					o.now = o.now.Add(-time.Duration(random.IntN(300)) * time.Second)
				}
				o.run(10+random.IntN(40), append(append([]rate{}, culprits...), people...)...)
			}
			if n := o.refusedOf(people...); n > 0 || o.worst > limit {
				t.Errorf("limit %d, share %d%%, %v beside %v: refused %v, at most %d in an hour", limit, percent, people, culprits, o.refused, o.worst)
			}
			lone := newOffice(t, limit, "")
			lone.week(random.IntN(3), rate{"ann", 3})
			lone.now = lone.now.Add(90 * time.Minute)
			if n := lone.try("ann", limit+3); n != limit {
				t.Errorf("alone: %d of %d", n, limit)
			}
		})
	}
}

// A refusal for the others' share is 450 at SMTP and a hold elsewhere, whatever over_limit says,
// has no mark and makes no lock; room is told up to where it would begin.
func TestWhatTheShareAnswers(t *testing.T) {
	for _, over := range []string{"cutoff", "defer", "reject", "discard"} {
		o := newOffice(t, 100, fmt.Sprintf("over_limit = %q\ndefer_cutoff = 100\n", over))
		o.week(2, colleagues...)
		o.now = o.now.Add(2 * time.Hour)
		ask := authed(sidecar.StageRcpt)
		ask.Auth, ask.Recipient = "eve@a.example", "x@far.example"
		if r := o.Ask(t.Context(), o.now, ask); r.Action != sidecar.Accept || r.Room != 75 {
			t.Fatalf("%s: %+v", over, r)
		}
		ask.Submitter = from("ann")
		if r := o.Ask(t.Context(), o.now, ask); r.Action != sidecar.Accept || r.Room != 75 { // beyond 15 it leaves room, too
			t.Fatalf("%s: %+v", over, r)
		}
		if n := o.try("eve", 75); n != 75 {
			t.Fatalf("%s: %d", over, n)
		}
		want := "Mailbox eve@a.example has exceeded the max emails per hour (76/75 (101%)) allowed.  Message will be reattempted later [75 is 100 of a.example less 25 that its other senders usually send; room as its own sends leave the window, at the latest at 2026-03-04 15:01:00 +0000; limit from test.toml:2; sluice on node1]"
		ask.Auth = "eve@a.example"
		for range 3 {
			if r := o.Ask(t.Context(), o.now, ask); r.Action != sidecar.Defer || r.Text != want {
				t.Errorf("%s: %+v", over, r)
			}
		}
		local := sidecar.Request{Stage: sidecar.StageLocal, ID: "1xUzSN-999999-0q", Sender: "x@a.example", Recipients: "x@far.example", Submitter: from("/home/bob/wp")}
		if r := o.Ask(t.Context(), o.now, local); r.Action != sidecar.Accept || r.Charged {
			t.Errorf("%s: local %+v", over, r)
		}
		local.Stage, local.Recipient = sidecar.StageRoute, "x@far.example"
		if r := o.Ask(t.Context(), o.now, local); r.Action != sidecar.Defer || !strings.HasPrefix(r.Text, "Script /home/bob/wp has exceeded the max emails per hour (76/75 (101%)) allowed") {
			t.Errorf("%s: route %+v", over, r)
		}
		o.Step(t.Context(), o.now)
		st, err := o.Status(t.Context(), o.now, "a.example")
		if err != nil || st.Domains[0].Refused != 0 || len(st.Domains[0].Locks) != 0 || st.Domains[0].Sent != 75 {
			t.Errorf("%s: %+v, %v", over, st.Domains, err)
		}
		if n := o.try("ann", 15); n != 15 {
			t.Errorf("%s: a colleague sent %d", over, n)
		}
	}
}

// A simulation learns what is usual as it reads, says from when on it knows, and then refuses
// the same.
func TestASimulationLeavesRoomToo(t *testing.T) {
	var log strings.Builder
	n := 0
	line := func(at time.Time, mailbox string) {
		n++
		id := fmt.Sprintf("1xUz%02d-%06d-0q", n/1000000, n)
		fmt.Fprintf(&log, "%s %s <= x@a.example H=c.example [192.0.2.1] P=esmtpsa A=plain:%s@a.example S=500 for u%d@far.example\n", at.Format(time.DateTime), id, mailbox, n)
		fmt.Fprintf(&log, "%s %s => u%d@far.example R=dnslookup T=remote_smtp H=mx.far.example [203.0.113.1] C=\"250 OK\"\n%[1]s %[2]s Completed\n", at.Format(time.DateTime), id, n)
	}
	day := time.Date(2026, 3, 2, 9, 0, 0, 0, time.Local)
	for d := range 4 {
		for m := range 240 {
			at := day.AddDate(0, 0, d).Add(time.Duration(m) * time.Minute)
			if m%12 == 0 {
				line(at, "ann")
				line(at, "bea")
			}
			if d == 3 && m >= 60 {
				line(at, "eve")
				line(at, "eve")
			}
		}
	}
	config := "[limits]\nhourly = 100\n"
	with, without := replayed(t, log.String(), parsed(t, config)).Report(), replayed(t, log.String(), parsed(t, config+"culprit = \"name\"\n")).Report()
	if with.UsualFrom.Before(day.AddDate(0, 0, 1)) || with.UsualFrom.After(day.AddDate(0, 0, 2)) {
		t.Errorf("known from %s", with.UsualFrom)
	}
	if len(with.Domains) != 1 || len(without.Domains) != 1 || with.Domains[0].Refused <= without.Domains[0].Refused {
		t.Errorf("%+v\n%+v", with, without)
	}
}

// Where limits are only watched, so is the share.
func TestTheShareIsWatched(t *testing.T) {
	o := newOffice(t, 100, "mode = \"watch\"\n")
	o.week(2, colleagues...)
	o.now = o.now.Add(2 * time.Hour)
	if n := o.try("eve", 80); n != 80 || o.refused["eve"] > 0 {
		t.Errorf("%d, %v", n, o.refused)
	}
	o.sentIs(75) // as it would be
	if watched := o.Totals.Decisions().Watched; watched != 0 {
		t.Errorf("%d", watched)
	}
	ask := sidecar.Request{Stage: sidecar.StagePostfixRcpt, Sender: "x@a.example", Recipient: "x@far.example", Submitter: from("eve"), Postfix: sidecar.Postfix{Instance: "1a2.3"}}
	if r := o.Ask(t.Context(), o.now, ask); r.Action != sidecar.Accept || r.Warning != "Mailbox eve@a.example has exceeded the max emails (76/75 (101%)) allowed.  Watched only, not refused" {
		t.Errorf("%+v", r)
	}
}

func (o *office) sentIs(want int64) {
	o.t.Helper()
	st, err := o.Status(context.Background(), o.now, "a.example")
	if err != nil || st.Domains[0].Sent != want {
		o.t.Errorf("%+v, %v", st.Domains, err)
	}
}

// What the share holds of an author is not tried again before there is room for it, which would
// start an Exim for each message and each second, and a colleague's does not wait for it.
func TestWhatTheShareHoldsStartsNoExim(t *testing.T) {
	t.Parallel() // it waits
	o := newOffice(t, 100, "")
	for days := 3; days > 0; days-- {
		o.now = time.Now().AddDate(0, 0, -days)
		o.run(60, colleagues...)
	}
	o.now = time.Now()
	if n := o.try("/home/bob/wp", 75); n != 75 {
		t.Fatalf("the script has sent %d", n)
	}
	o.try("ann", 15)
	held := func(number int, who sidecar.Submitter) string {
		id := strings.Replace(messageID(o.now), "0005dd", fmt.Sprintf("%06d", number), 1)
		r := sidecar.Request{Stage: sidecar.StageRoute, ID: id, Sender: "x@a.example", Recipient: "u@far.example", Submitter: who}
		o.want(o.Ask(t.Context(), o.now, r), sidecar.Defer, "")
		return id
	}
	for i := range 100 {
		held(i, from("/home/bob/wp"))
	}
	o.stop(stop.Request{Scope: "bea@a.example"})
	colleague := held(999, from("bea"))
	o.start("bea@a.example", false)
	o.Holds.ReleaseAll(t.Context(), time.Now())
	o.Holds.Wait()
	if got := o.deliveries(); len(got) != 1 || got[0] != colleague {
		t.Errorf("tried are %d, want only the colleague's", len(got))
	}
}

// A script that yesterday sent one message from each of many directories is as little within
// its usual hour today, from all of them, as one that is new.
func TestManyDirectoriesDoNotEscapeTheShare(t *testing.T) {
	o := newOffice(t, 500, "")
	quiet := []rate{{"ann", 5}, {"bea", 5}, {"cid", 5}, {"dan", 5}}
	o.week(5, quiet...)
	directory := func(i int) string { return fmt.Sprint("/home/bob/", i) }
	for i := range 60 {
		o.try(directory(i), 1)
	}
	o.week(1, quiet...)
	o.clear()
	culprits := []rate{}
	for i := range 60 {
		culprits = append(culprits, rate{directory(i), 60})
	}
	o.run(2*60, append(culprits, quiet...)...)
	t.Logf("culprits sent %d, colleagues refused %d", o.sentOf(culprits...), o.refusedOf(quiet...))
	if o.refusedOf(quiet...) > 0 || o.worst > 500 {
		t.Errorf("refused %v", o.refused)
	}
}
