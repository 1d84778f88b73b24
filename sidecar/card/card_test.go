package card

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func at(minute float64) time.Time { return noon.Add(time.Duration(minute * float64(time.Minute))) }

func TestMain(m *testing.M) {
	time.Local = time.UTC // cards show times
	os.Exit(m.Run())
}

// stolen is the incident of a stolen mailbox that was stopped, with a colleague and a customer
// of another account.
func stolen() *Card {
	c := &Card{Incident: incident.Incident{ID: incident.ID{Node: "mx1", Number: 42}, Revision: 1, Domain: "example.com", Severity: incident.Warning, Opened: noon, Closed: at(30),
		Causes:  []incident.Cause{{Name: incident.CauseCulprit, Scope: "hacked@example.com", Since: at(4.5), Gone: at(20)}},
		Culprit: incident.Culprit{Author: "hacked@example.com", Kind: "mailbox", Proof: "proven", Count: 461, Of: 487, Stopped: true, Usual: 12},
		Timeline: []incident.Entry{{At: at(4.5), Last: at(4.5), Count: 1, Event: event.Stopped, By: "sluice", Scope: "hacked@example.com", Text: "scope hacked@example.com"},
			{At: at(20), Last: at(20), Count: 1, Event: event.Started, By: "alice", Scope: "hacked@example.com", Text: "scope hacked@example.com"}},
		Evidence: incident.Evidence{At: at(4), Sent: 461, Tried: 900, Limit: 500, Who: []incident.Sender{
			{Author: "hacked@example.com", Proof: "proven", Networks: []string{"203.0.113.0/24", "198.51.100.0/24"}, Destinations: []string{"victim.example"}, Subject: "secret subject"},
			{Author: "script:/home/carol/public_html", Proof: "claimed", Sent: 3}},
			Lines: []incident.Line{{Cause: "called-spam", Text: "** reader@victim.example: 550 blocked"}}},
		Minutes: incident.Minutes{Author: "hacked@example.com", From: at(-2), Until: at(8.2),
			Tried: []int64{0, 0, 100, 300, 200, 100, 200, 50, 0, -1, 7}, Sent: []int64{0, 0, 100, 200, 100, 50, 11, 0, 0, -1, 0},
			OthersTried: []int64{1, 0, 0, 2, 0, 1, 0, 0, 4, -1, 0}, OthersSent: []int64{1, 0, 0, 2, 0, 1, 0, 0, 4, -1, 0}}},
		Deeds:  []Deed{{At: at(6), What: "suspend-login", Whom: "hacked@example.com", By: "alice", Undo: "sluice undo mx1:58", State: "done"}},
		Queued: &Queued{Node: "mx1"}}
	return c
}

// The picture has each minute once, the stop where it was, and nothing where nothing is known.
func TestChart(t *testing.T) {
	want := `
sends/min   11:58 to 12:09, # sent  . refused  | the stop
   300 |   .  |
       |   #. .
       |  ###..
       |  #####.  .
     0 |______|__ _
others |▂  ▄ ▂  █    at most 4
`
	if got := "\n" + strings.Join(stolen().Chart().Lines(), "\n") + "\n"; got != want {
		t.Errorf("drawn is%s, want%s", got, want)
	}
	c := stolen()
	c.Minutes = incident.Minutes{}
	if chart := c.Chart(); chart != nil {
		t.Errorf("of nothing it draws %+v", chart)
	}
}

// Of three hours each column has three minutes; a column with one minute that is known is drawn.
func TestChartOfThreeHours(t *testing.T) {
	c := stolen()
	m := incident.Minutes{Author: c.Culprit.Author, From: at(-120)}
	for n := range 180 {
		tried := int64(n)
		if n < 31 && n != 29 {
			tried = -1
		}
		m.Tried, m.Sent, m.OthersTried, m.OthersSent = append(m.Tried, tried), append(m.Sent, tried), append(m.OthersTried, tried), append(m.OthersSent, tried)
	}
	c.Minutes = m
	chart := c.Chart()
	if n := len(chart.Columns); n != 60 || chart.Step != 3 || chart.Stop != 41 || chart.Most != 178 || chart.Columns[8].Known || !chart.Columns[9].Known || chart.Columns[9].Sent != 29 {
		t.Errorf("%d columns of %d, stop in %d, at most %d, %+v", n, chart.Step, chart.Stop, chart.Most, chart.Columns[8:10])
	}
}

// What was sent, before and after the stop, and what it cost the others, is counted.
func TestFacts(t *testing.T) {
	c := stolen()
	var b strings.Builder
	fmt.Fprintln(&b, c.Headline())
	for _, f := range c.Facts() {
		fmt.Fprintf(&b, "%s %s\n", f.Label, f.Text)
	}
	want := `STOPPED BY SLUICE 12:04:30, 5m after it began, and started again 12:20:00
SENT hacked@example.com tried 957 and sent 461
AFTER the stop it sent 0, and tried 57
OTHERS 8 sent, 0 refused: nobody else noticed
WHO hacked@example.com, 461 of 487, from 2 networks, usually 12 in its busiest hours, stopped alone   [proven]
DONE 12:04:30 stopped (sluice)  12:06:00 suspend-login (alice)  12:20:00 started (alice)
LEFT nothing of it is in the queue of mx1
WITHOUT Sluice: 500 an hour for the whole domain, and its 1 other sender would have been refused too
`
	if b.String() != want {
		t.Errorf("it says\n%s, want\n%s", &b, want)
	}
	if c.IsStopped() {
		t.Error("it is stopped, and was started")
	}
	if c.Timeline = c.Timeline[:1]; !c.IsStopped() {
		t.Error("it is not stopped")
	}
	c.Minutes.OthersTried[3]++
	if f := c.Facts()[2]; f.Text != "8 sent, 1 refused" {
		t.Errorf("of a refusal it says %s", f.Text)
	}
	c.Queued = &Queued{"mx1", 3, []string{"mx2", "mx3"}}
	if f := c.Facts()[5]; f.Text != "3 messages of it in the queue of mx1; not known of mx2, mx3" {
		t.Errorf("of other nodes it says %s", f.Text)
	}
	c.Minutes, c.Queued, c.Evidence.Tried = incident.Minutes{}, nil, 400
	for _, f := range c.Facts() {
		if f.Label == "AFTER" || f.Label == "LEFT" || f.Label == "WITHOUT" || f.Label == "SENT" {
			t.Errorf("what is not known is shown: %v", f)
		}
	}
}

// The file for a browser says first that it is internal, loads nothing and runs nothing.
func TestHTML(t *testing.T) {
	var b bytes.Buffer
	if err := stolen().WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	hosttest.Golden(t, "testdata/card.html", b.String())
	first, _, _ := strings.Cut(b.String(), "\n")
	if !strings.Contains(first, "INTERNAL") || regexp.MustCompile(`(?i)<script|src=|href=|url\(|@import|on\w+=`).Match(b.Bytes()) {
		t.Errorf("it begins with %s, or loads or runs something:\n%s", first, &b)
	}
	svg := b.String()[strings.Index(b.String(), "<svg"):]
	d := xml.NewDecoder(strings.NewReader(svg[:strings.Index(svg, "</svg>")+6]))
	for {
		if _, err := d.Token(); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("the drawing is no XML: %v\n%s", err, svg)
		}
	}
}

// The letter to a customer has the names of its own account, and nothing of anybody else.
func TestLetter(t *testing.T) {
	letter, _ := stolen().Letter("bob")
	var b bytes.Buffer
	if err := letter.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	hosttest.Golden(t, "testdata/letter.txt", letter.Text())
	for _, text := range []string{letter.Text(), b.String()} {
		if !strings.Contains(text, "hacked@example.com was stopped") {
			t.Errorf("it does not name the mailbox:\n%s", text)
		}
		for _, other := range []string{"carol", "victim", "reader", "203.0.113", "alice", "secret", "550"} {
			if strings.Contains(text, other) {
				t.Errorf("it has %q:\n%s", other, text)
			}
		}
	}
	for account, own := range map[string]bool{"": false, "bob": false, "carol": true} {
		c := stolen()
		c.Culprit = incident.Culprit{Author: "script:/home/carol/public_html", Kind: "script", Account: "carol", Count: 5}
		letter, is := c.Letter(account)
		if !is || strings.Contains(letter.Text(), "/home/carol") != own {
			t.Errorf("the customer %q reads\n%s", account, letter.Text())
		}
	}
	if _, is := (&Card{Incident: incident.Incident{Condition: incident.Redis}}).Letter(""); is {
		t.Error("there is a letter about a node")
	}
}

// Nothing that others chose is shown raw, or is HTML.
func TestHostileTexts(t *testing.T) {
	const hostile = "<script>x\u202e\u009b\x1b[2J\n\u200b\xff&\"'</script>"
	c := stolen()
	c.Domain, c.Culprit.Author, c.Culprit.Kind, c.Minutes.Author = hostile, hostile, hostile, hostile
	c.Causes[0].Scope = hostile
	for n := range c.Timeline {
		e := &c.Timeline[n]
		e.By, e.Text, e.Scope, e.Event = hostile, hostile, hostile, hostile
	}
	for n := range c.Evidence.Who {
		s := &c.Evidence.Who[n]
		s.Author, s.Networks, s.Destinations = hostile, []string{hostile}, []string{hostile}
	}
	c.Evidence.Lines[0] = incident.Line{Cause: hostile, Text: hostile}
	c.Deeds[0] = Deed{At: noon, What: hostile, Whom: hostile, By: hostile, Undo: hostile, State: hostile}
	c.Queued.Node, c.Node = hostile, hostile
	var b bytes.Buffer
	if err := c.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	letter := Letter{Title: hostile, Paragraphs: []string{hostile}, Todo: []string{hostile}}
	if err := letter.WriteHTML(&b); err != nil {
		t.Fatal(err)
	}
	b.WriteString(strings.ReplaceAll(letter.Text(), "<script>", ""))
	if s := b.String(); strings.Contains(s, "<script") || strings.ContainsAny(s, "\u202e\u009b\x1b\u200b\ufffd") || !utf8.ValidString(s) || strings.Contains(s, "\n&") {
		t.Errorf("shown is\n%q", s)
	}
}

// The picture in README.md is what this program prints.
func TestReadmeShowsTheCard(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	c := &Card{Incident: incident.Incident{ID: incident.ID{Node: "mx1", Number: 42}, Domain: "shop.example", Severity: incident.Warning, Opened: at(0), Closed: at(52),
		Causes:   []incident.Cause{{Name: incident.CauseCulprit, Scope: "hacked@shop.example", Since: at(1.2), Gone: at(41)}},
		Culprit:  incident.Culprit{Author: "hacked@shop.example", Kind: "mailbox", Proof: "proven", Count: 365, Of: 387, Stopped: true, Usual: 12},
		Timeline: []incident.Entry{{At: at(1.2), Event: event.Stopped, By: "sluice", Scope: "hacked@shop.example"}},
		Evidence: incident.Evidence{Sent: 387, Tried: 1900, Limit: 500, Who: []incident.Sender{{Author: "hacked@shop.example", Proof: "proven", Networks: make([]string, 9)},
			{Author: "ann@shop.example"}, {Author: "ben@shop.example"}, {Author: "cid@shop.example"}}},
		Minutes: incident.Minutes{Author: "hacked@shop.example", From: at(-24), Until: at(30)}},
		Deeds:  []Deed{{At: at(6.1), What: "suspend-login", By: "alice", State: "done"}, {At: at(6.2), What: "queue-quarantine", By: "alice", State: "done"}},
		Queued: &Queued{Node: "mx1"}}
	m := &c.Minutes
	for minute := range 54 {
		tried, sent, others := int64(0), int64(0), int64((minute*7+3)%5/3)
		if from := minute - 15; from >= 0 {
			tried = min(120, int64(8+from*from))
			sent = tried
		}
		if minute > 24 {
			sent = 0
		}
		if minute > 44 {
			tried = 0
		}
		m.Tried, m.Sent, m.OthersTried, m.OthersSent = append(m.Tried, tried), append(m.Sent, sent), append(m.OthersTried, others), append(m.OthersSent, others)
	}
	if text := strings.TrimSuffix(c.Text(), "\n"); !strings.Contains(string(readme), "```text\n"+text+"\n```") {
		t.Errorf("README.md has another picture than\n%s", text)
	}
}
