package deferfail

import (
	"fmt"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/event"
	"sluice/sidecar/logline"
)

// Each rule with its edges: what is the least that excuses, and what is just not enough.

// answers tells how a place has answered to accounts, in this order: one character for each,
// an upper-case one if it was bad.
func answers(p *places, name, all string) {
	for i, c := range all {
		account, at := string(c|0x20), int64(100+i)
		if c < 'a' {
			s := badSend{Place: p.wrong(name, account, answered, at), Account: account, Fault: answered}
			p.count(&s, 1)
		} else {
			p.all[name].deliver(account, at)
		}
	}
}

func TestAnAnswerIsExcused(t *testing.T) {
	for name, c := range map[string]struct {
		answers string
		since   int64
		want    bool
	}{
		"two others, one bad each, of which it has half": {"XXBC", 0, true},
		"more than half":                          {"XXXBC", 0, false},
		"one other account":                       {"XBBBB", 0, false},
		"80 percent of the answers to others":     {"XBCBCb", 0, true},
		"less than that":                          {"XBCBcb", 0, false},
		"its own deliveries tell nothing":         {"XBCxxxxxxxx", 0, true},
		"a second account with good answers only": {"XBBBBBBBBc", 0, false},
		"before the window":                       {"XBCD", 103, false},
		"nobody else":                             {"XXXX", 0, false},
	} {
		p := places{all: map[string]*place{}}
		answers(&p, "mx.example", c.answers)
		s := badSend{Place: "mx.example", Account: "x", Fault: answered, At: 100}
		if got := p.explain(&s, c.since, sharers) != ""; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What Exim itself refuses for good, as a message that is too big, is nobody else's fault. What it
// tries again, as where its transport was killed, may be the host's.
func TestWhatEximRefuses(t *testing.T) {
	for _, cause := range []sidecar.Cause{sidecar.OtherCause, sidecar.DNS} {
		if f := faultOf(&logline.Outcome{Cause: cause, Result: ratelimit.Failed}); f != ownFault {
			t.Errorf("%s, failed: %d", cause, f)
		}
		if f := faultOf(&logline.Outcome{Cause: cause, Result: ratelimit.Deferred}); f != noAnswer {
			t.Errorf("%s, deferred: %d", cause, f)
		}
	}
	if f := faultOf(&logline.Outcome{Cause: sidecar.Unreachable, Result: ratelimit.Failed}); f != noAnswer {
		t.Errorf("unreachable until Exim gave up: %d", f)
	}
}

// However much one account sends, half of the answers that are kept are those of others.
func TestOneAccountDoesNotPushOutTheAnswersOfOthers(t *testing.T) {
	p := places{all: map[string]*place{}}
	answers(&p, "mx.example", "XBCDEBCDEBCDEBCDEBCDEBCDEBCDEBCDEB")
	for range 1000 {
		p.all["mx.example"].add(answer{"x", 200, false})
	}
	kept := map[string]int{}
	for _, a := range p.all["mx.example"].Answers {
		kept[a.Account]++
	}
	if kept["x"] != answersKept/2 || len(p.all["mx.example"].Answers) != answersKept {
		t.Errorf("kept %v", kept)
	}
}

func TestNoAnswerIsExcused(t *testing.T) {
	for name, c := range map[string]struct {
		others int
		failed string // accounts without an answer, in this order; - for a delivery
		want   bool
	}{
		"two others":                  {2, "xbc", true},
		"one other":                   {2, "xb", false},
		"one other, again":            {2, "xbbbb", false},
		"two others and a delivery":   {2, "xb-c", false},
		"in the outage of before":     {2, "xbc-", true},
		"others before its outage":    {2, "bc-x", false},
		"a host with two accounts":    {1, "xb", true},
		"alone on such a host":        {1, "x", false},
		"the only account of a host":  {0, "x", true},
		"many others, itself not yet": {2, "bcdefx", true},
	} {
		p := places{all: map[string]*place{}}
		s := badSend{Place: "mx.example", Account: "x", Fault: noAnswer}
		for i, account := range c.failed {
			at := int64(100 + 10*i)
			switch account {
			case '-':
				p.all["mx.example"].deliver("z", at)
				p.all[everywhere].deliver("z", at)
			case 'x':
				s.At = at
				fallthrough
			default:
				p.wrong("mx.example", string(account), noAnswer, at)
			}
		}
		if got := p.explain(&s, 0, c.others) != ""; got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// What gets no answer at many places fails everywhere as long as nothing is delivered
// anywhere.
func TestNothingGoesAnywhere(t *testing.T) {
	p := places{all: map[string]*place{}}
	s := badSend{Place: "a.example", Account: "x", Fault: noAnswer, At: 100}
	for i, account := range []string{"x", "b", "c"} {
		p.wrong(string(rune('a'+i))+".example", account, noAnswer, int64(100+i))
	}
	if got := p.explain(&s, 0, sharers); got != everywhere {
		t.Errorf("explained by %q", got)
	}
	p.delivered(&logline.Outcome{Entry: &logline.Entry{At: time.Unix(110, 0), Attempt: logline.Attempt{Host: "mx.other.example"}}, To: "other.example"}, "b")
	p.wrong("a.example", "x", noAnswer, 120)
	s.At = 120
	if got := p.explain(&s, 0, sharers); got != "" {
		t.Errorf("behind a delivery elsewhere, explained by %q", got)
	}
}

// A delivery is a success at the host and at the recipient's domain, for failures without a
// host are kept under the domain.
func TestADeliveryIsASuccessAtTheDomainToo(t *testing.T) {
	p := places{all: map[string]*place{}}
	p.wrong("big.example", "x", noAnswer, 100)
	p.delivered(&logline.Outcome{Entry: &logline.Entry{At: time.Unix(110, 0), Attempt: logline.Attempt{Host: "MX.big.example"}}, To: "big.example"}, "b")
	for _, name := range []string{"big.example", everywhere} {
		if o := p.all[name].Outages; len(o) != 1 || o[0].Until != 110 {
			t.Errorf("%s: %+v", name, o)
		}
	}
}

// Somebody who sends to domains without number pushes out places that excuse nobody so far,
// and not those where several accounts have trouble.
func TestPlacesAreBounded(t *testing.T) {
	p := places{all: map[string]*place{}}
	p.wrong("relay.example", "b", noAnswer, 100)
	p.wrong("relay.example", "c", noAnswer, 100)
	for n := range 3 * maxPlaces {
		p.wrong(fmt.Sprintf("d%d.example", n), "x", noAnswer, 101)
		if len(p.all) > maxPlaces {
			t.Fatalf("%d places", len(p.all))
		}
	}
	alone := places{all: map[string]*place{}}
	for n := range 3 * maxPlaces {
		alone.wrong(fmt.Sprintf("d%d.example", n), "x", noAnswer, int64(n))
	}
	if since := alone.all[everywhere].Outages[0].Since; since != 0 {
		t.Errorf("nothing goes anywhere since %d, want since the beginning", since)
	}
	p.wrong("relay.example", "x", noAnswer, 102)
	s := badSend{Place: "relay.example", Account: "x", Fault: noAnswer, At: 102}
	if p.explain(&s, 0, sharers) != "relay.example" || p.all[everywhere] == nil {
		t.Error("what several accounts have was forgotten")
	}
	p.prune(200)
	if len(p.all) != 0 {
		t.Errorf("%d places are left of before the window", len(p.all))
	}
}

// memory is notes for as long as a test runs.
type memory map[string][]byte

func (m memory) Note(key string, value []byte) error { m[key] = value; return nil }
func (m memory) Forget(key string) error             { delete(m, key); return nil }
func (m memory) Notes(prefix string, f func(string, []byte)) {
	for key, value := range m {
		if len(key) >= len(prefix) && key[:len(prefix)] == prefix {
			f(key, value)
		}
	}
}

// tell notes what became of a send of an account at mx.example.
func (b *badSends) tell(account string, token ratelimit.Token, result ratelimit.Outcome) {
	o := &logline.Outcome{Author: &sidecar.Author{}, Entry: &logline.Entry{At: time.Unix(100, 0), Attempt: logline.Attempt{Host: "mx.example"}}, When: time.Unix(100, 0),
		Payer: &sidecar.Payer{Domain: account}, Token: token, To: "far.example", Result: result, Cause: sidecar.RemoteDefer}
	b.note(o, account, nil)
}

// How many sends of an account are bad at a place follows what becomes of each.
func TestBadSendsAreCountedOnce(t *testing.T) {
	b := newBadSends(memory{}, event.NewStream())
	b.tell("x", 1, ratelimit.Deferred)
	b.tell("x", 1, ratelimit.Failed)
	b.tell("x", 2, ratelimit.Deferred)
	b.tell("b", 3, ratelimit.Deferred)
	x := b.places.all["mx.example"]
	if x.total != 3 || x.bad["x"] != 2 {
		t.Errorf("counted %d, %v", x.total, x.bad)
	}
	b.tell("x", 2, ratelimit.Delivered)
	if x.total != 2 || x.bad["x"] != 1 {
		t.Errorf("after a delivery counted %d, %v", x.total, x.bad)
	}
}

// Notes of places and sends go with them, and how many of an account are bad is counted
// anew at a start.
func TestPlacesAreSavedAndDropped(t *testing.T) {
	notes, nobody := memory{}, event.NewStream()
	b := newBadSends(notes, nobody)
	for n := range 3 {
		b.tell(fmt.Sprintf("u%d.example", n), 7, ratelimit.Deferred)
	}
	if err := b.save(time.Unix(100, 0)); err != nil {
		t.Fatal(err)
	}
	if again := newBadSends(notes, nobody).places.all["mx.example"]; again == nil || again.total != 3 || again.bad["u1.example"] != 1 || len(again.Answers) != 3 {
		t.Errorf("after a restart: %+v", again)
	}
	b.prune(time.Unix(200, 0))
	if err := b.save(time.Unix(200, 0)); err != nil {
		t.Fatal(err)
	}
	for key := range notes {
		if key != "accounts/all" {
			t.Errorf("%s is left", key)
		}
	}
}

// Who could name any account by himself is one: three websites that a script claims to be of
// are no three accounts.
func TestWhoIsBehindASend(t *testing.T) {
	for want, who := range map[string]sidecar.Payer{
		"bob":                {Domain: "addon.example", Account: "bob"},
		"a.example":          {Domain: "a.example"},
		"web:":               {Special: "web:bob", Domain: "b.example", Account: "bob"},
		"carl":               {Special: "forward:c.example", Domain: "c.example", Account: "carl"},
		"d.example":          {Special: "forward:d.example", Domain: "d.example"},
		"service:www":        {Special: "service:www"},
		"relay:198.51.100.7": {Special: "relay:198.51.100.7"},
	} {
		if got := accountOf(&who, false); got != want {
			t.Errorf("%+v is %s, want %s", who, got, want)
		}
		if who.Domain != "" && who.Account == "" {
			want = unowned
		}
		if got := accountOf(&who, true); got != want {
			t.Errorf("with an owner map %+v is %s, want %s", who, got, want)
		}
	}
}
