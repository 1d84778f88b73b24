package alert

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/config"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
)

// at is a time of the morning of the incidents below.
func at(clock string) time.Time {
	t, err := time.ParseInLocation("2006-01-02 15:04:05", "2026-11-29 "+clock, time.UTC)
	if err != nil {
		panic(err)
	}
	return t
}

// hacked is an incident of a mailbox that is stolen, which alone was stopped.
func hacked() incident.Incident {
	return incident.Incident{ID: incident.ID{Node: "mx1", Number: 42}, Revision: 2, Domain: "example.com", Severity: incident.Warning, Opened: at("10:52:03"),
		Causes: []incident.Cause{
			{Name: incident.CauseNear, Severity: incident.Info, Since: at("10:52:03"), Gone: at("11:00:00")},
			{Name: incident.CauseCulprit, Scope: "hacked@example.com", Severity: incident.Warning, Since: at("11:07:12")},
		},
		Culprit: incident.Culprit{Author: "hacked@example.com", Kind: "mailbox", Proof: "proven", Count: 461, Of: 487, Stopped: true, Usual: 12},
		Timeline: []incident.Entry{
			{At: at("10:52:03"), Count: 1, Event: "limit-near", Severity: incident.Info, Text: "400 of 500, full in 3m"},
			{At: at("11:07:12"), Count: 3, Event: "stop", Severity: incident.Warning, Text: "scope hacked@example.com"},
		},
		Evidence: incident.Evidence{Sent: 487, Tried: 518, Refused: 31, Limit: 500,
			Who: []incident.Sender{
				{Author: "hacked@example.com", Proof: "proven", Tried: 461, Sent: 461, Bad: 175, Recipients: 458, Networks: []string{"203.0.113.0/24", "198.51.100.0/24", "192.0.2.0/24", "2001:db8::/48"}, Destinations: []string{"mail.example", "post.example"}, Subject: "Your invoice \u202e8841"},
				{Author: "info@example.com", Proof: "proven", Tried: 7, Sent: 7},
			},
			Lines: []incident.Line{{Cause: "called-spam", Text: "2026-11-29 11:06:58 1sempe-0005dd-0q ** a@post.example R=dnslookup T=remote_smtp: 550 5.7.1 blocked for spam\x1b[2J"}}},
	}
}

// cases are incidents as they are told, by the name of their golden file.
func cases() map[string]incident.Incident {
	stopped := hacked()
	over := hacked()
	over.Revision, over.Closed = 3, at("11:40:00")
	limit := hacked()
	limit.Causes = []incident.Cause{{Name: incident.CauseLimit, Severity: incident.Warning, Since: at("11:07:12")}}
	limit.Culprit.Stopped, limit.Evidence.Lines = false, nil
	near := limit
	near.Severity, near.Causes = incident.Info, hacked().Causes[:1]
	trip := hacked()
	trip.Severity, trip.Causes = incident.Critical, []incident.Cause{{Name: incident.CauseDeferfail, Severity: incident.Critical, Since: at("11:07:12")}}
	trip.Culprit = incident.Culprit{}
	script := limit
	script.Culprit = incident.Culprit{Author: "script:/home/bob/it's \u202ehere", Kind: "script", Proof: "claimed", Count: 90, Of: 100}
	spike := limit
	spike.Causes = append(slices.Clone(limit.Causes), incident.Cause{Name: incident.CauseSpike, Scope: "hacked@example.com", Severity: incident.Warning, Since: at("11:01:00")})
	spike.Timeline = []incident.Entry{{At: at("11:01:00"), Count: 1, Event: "spike", Severity: incident.Warning, Text: "scope hacked@example.com, sends 51, busiest hour 12"}}
	queue := incident.Incident{ID: incident.ID{Node: "mx1", Number: 44}, Revision: 1, Condition: incident.Queue, Severity: incident.Warning, Opened: at("12:00:00"),
		Causes: []incident.Cause{{Name: "queue-growth", Severity: incident.Warning, Since: at("12:00:00")}},
		Timeline: []incident.Entry{{At: at("12:00:00"), Count: 1, Event: "queue-growth", Severity: incident.Warning,
			Text: "messages 2400, week 310, author news@example.com, author messages 1900, to mail.example, to recipients 1704, reason connection timed out"}}}
	redis := incident.Incident{ID: incident.ID{Node: "mx1", Number: 43}, Revision: 1, Condition: incident.Redis, Severity: incident.Warning, Opened: at("12:00:00"),
		Causes:   []incident.Cause{{Name: "redis-away", Scope: "192.0.2.7:6379", Severity: incident.Warning, Since: at("12:00:00")}},
		Timeline: []incident.Entry{{At: at("12:00:00"), Count: 1, Event: "redis-away", Severity: incident.Warning, Text: "server 192.0.2.7:6379, outage share"}}}
	back := redis
	back.Revision, back.Closed = 2, at("12:21:30")
	all := map[string]incident.Incident{"stopped": stopped, "stopped-over": over, "limit": limit, "near": near, "trip": trip, "script": script, "redis": redis, "redis-over": back, "spike": spike, "queue": queue}
	for _, name := range []string{"limit", "near", "trip", "spike", "queue"} {
		ended := all[name]
		ended.Revision, ended.Closed = ended.Revision+1, ended.Opened.Add(48*time.Minute)
		all[name+"-over"] = ended
	}
	return all
}

func TestNoticesAreWorded(t *testing.T) {
	was := time.Local
	time.Local = time.UTC
	defer func() { time.Local = was }()
	a := &Alerts{Options: Options{Node: "mx1", Card: cardOf}}
	c := rule{Channel: config.Channel{Kind: config.AlertMail}}
	for name, i := range cases() {
		state, number := StateOpen, int64(1)
		if !i.Open() {
			state, number = StateClosed, 2
		}
		n := a.notice(at("11:08:00"), &c, &i, state, number)
		if want := map[bool]string{true: cardOf(i)}[i.Domain != ""]; n.Card != want { // of a node there is none
			t.Errorf("%s has the card %q, want %q", name, n.Card, want)
		}
		hosttest.Golden(t, "testdata/"+name, fmt.Sprintf("%s\n%s\n\n%s", n.ID, n.Title, n.Text))
	}
}

// Webhooks and programs are told no subjects, not in lines of the log either.
func TestSubjectsAreToldByMailOnly(t *testing.T) {
	i := hacked()
	i.Evidence.Lines[0].Text = `2026-11-29 11:06:58 1sempe-0005dd-0q <= a@example.com T="secret \" more" for b@post.example`
	i.Evidence.Who[0].Subject = "secret"
	a := &Alerts{Options: Options{Node: "mx1", Card: cardOf}}
	for _, c := range []struct {
		channel config.Channel
		told    bool
	}{
		{config.Channel{Kind: config.AlertMail}, true},
		{config.Channel{Kind: config.AlertWebhook}, false},
		{config.Channel{Kind: config.AlertExec}, false},
		{config.Channel{Kind: config.AlertExec, Subjects: true}, true},
	} {
		n := a.notice(noon, &rule{Channel: c.channel}, &i, StateOpen, 0)
		if strings.Contains(n.Text, "secret") != c.told || !strings.Contains(n.Text, " for b@post.example") {
			t.Errorf("%+v is told\n%s", c.channel, n.Text)
		}
	}
}

// However long the texts of an incident are, a notice has a bound, and each line of it.
func TestNoticesHaveABound(t *testing.T) {
	i := hacked()
	long := strings.Repeat("\u00e7\x1b", 10000)
	i.Domain, i.Culprit.Author, i.Evidence.Who[0].Author = long, long, long
	for n := range 100 {
		i.Timeline = append(i.Timeline, incident.Entry{At: noon, Event: "trip", Text: long, Count: int64(n)})
	}
	a := &Alerts{Options: Options{Node: "mx1", Card: func(incident.Incident) string { return strings.Repeat(long+"\n", 100) }}}
	n := a.notice(noon, &rule{}, &i, StateOpen, 0)
	if len(n.Title) > maxTitle || len(n.Text) > maxText+10 || len(n.Card) > maxText+10 || strings.Contains(n.Title+n.Text+n.Card, "\x1b") {
		t.Errorf("title %d, text %d, card %d", len(n.Title), len(n.Text), len(n.Card))
	}
	for line := range strings.Lines(n.Text + n.Card) {
		if len(line) > maxLine+1 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// A directory whose name is a sentence is in quotes, whatever it begins or ends with: no tenant has a notice say what it likes.
func TestNamesMakeNoSentences(t *testing.T) {
	i := hacked()
	const chosen = `script:/home/bob/". It is over; nothing is to be done`
	const quoted = `"script:/home/bob/'. It is over; nothing is to be done"`
	i.Culprit.Author, i.Culprit.Kind, i.Culprit.Stopped, i.Evidence.Who[0].Author = chosen, "script", false, chosen
	for _, cause := range []string{incident.CauseCulprit, incident.CauseDeferfail, incident.CauseSpike, incident.CauseLimit, incident.CauseNear} {
		for _, scope := range []string{"", chosen} {
			i.Causes = []incident.Cause{{Name: cause, Scope: scope, Severity: incident.Warning, Since: noon}}
			n := (&Alerts{Options: Options{Node: "mx1", Card: cardOf}}).notice(noon, &rule{}, &i, StateOpen, 1)
			first, _, _ := strings.Cut(n.Text, "\n")
			if !strings.Contains(n.Title, quoted) || !strings.HasPrefix(first, quoted+" has tried ") || strings.Contains(strings.ReplaceAll(n.Title, quoted, ""), "It is over") {
				t.Errorf("%s of %q:\n%s\n%s", cause, scope, n.Title, first)
			}
		}
	}
	if inWords("news+x@shop.example") != "news+x@shop.example" || inWords("script:/home/bob/public_html/wp-1.2") != "script:/home/bob/public_html/wp-1.2" {
		t.Error("plain names are quoted")
	}
}
