package cluster

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"sluice/ratelimit"
	"sluice/sidecar"
	"sluice/sidecar/notes"
)

// A cable is a board that carries what is told, at once.
type cable struct {
	notes.Board
	watchers []func(key string, value []byte)
	told     []string
}

func (c *cable) Watch(_ string, f func(key string, value []byte)) { c.watchers = append(c.watchers, f) }

func (c *cable) Tell(key string, value []byte, _ time.Duration) {
	c.told = append(c.told, key)
	for _, f := range c.watchers {
		f(key, value)
	}
}

// A node has one author of a.example, who has sent so much.
type node struct {
	*Feed
	sent   int64
	silent map[string]time.Duration
	soon   []string
}

func newNode(c *cable, name string, sent int64) *node {
	n := &node{sent: sent, silent: map[string]time.Duration{}}
	n.Feed = New(Options{Board: c, Node: func() string { return name },
		Report: func(_ time.Time, subject string) (Report, bool) {
			return Report{Tried: n.sent, Authors: []Author{{Key: "eve@a.example", Tried: n.sent, Sent: n.sent}}}, subject == "a.example" && n.sent > 0
		},
		Used:   func(st ratelimit.Standing) int64 { return st.Refused },
		Soon:   func(subjects ...string) { n.soon = append(n.soon, subjects...) },
		Silent: func() map[string]time.Duration { return n.silent }})
	return n
}

// runs has a node do what it is to do soon.
func (n *node) runs(t *testing.T, now time.Time) {
	t.Helper()
	soon := n.soon
	n.soon = nil
	for _, subject := range soon {
		if err := n.Reconcile(t.Context(), now, subject); err != nil {
			t.Error(err)
		}
	}
}

// of is what a node has heard of a.example.
func (n *node) of(now time.Time) string {
	var all []string
	for _, r := range n.Of(now, "a.example") {
		all = append(all, fmt.Sprintf("%s %d", r.Node, r.Authors[0].Sent))
	}
	return strings.Join(all, ", ")
}

func (n *node) surveys(now time.Time, used map[string]int64) {
	each, done := n.Survey(now)
	for _, name := range slices.Sorted(maps.Keys(used)) {
		each(ratelimit.Standing{Name: name, Refused: used[name]})
	}
	done()
}

// Who is asked answers, at once; what was told is heard until it is old.
func TestNodesAnswer(t *testing.T) {
	c, now := &cable{}, time.Unix(1000, 0)
	a, b, x := newNode(c, "a", 1), newNode(c, "b", 2), newNode(c, "x", 3)
	a.silent = map[string]time.Duration{"b": time.Second, "x": time.Second, "away": 31 * time.Second}
	a.Ask(now, "a.example")
	if got := b.of(now); got != "a 1" {
		t.Errorf("b has heard %q", got)
	}
	b.runs(t, now)
	if a.Answered(now, "a.example", now) {
		t.Error("not all have answered")
	}
	x.runs(t, now)
	if !a.Answered(now, "a.example", now) || a.of(now) != "b 2, x 3" {
		t.Errorf("all have answered: %q", a.of(now))
	}
	if a.Answered(now.Add(time.Second), "a.example", now.Add(time.Second)) {
		t.Error("an earlier answer counts")
	}
	if len(a.soon)+len(b.soon)+len(x.soon) != 0 {
		t.Error("answers are answered")
	}
	if got := a.Missing(); !slices.Equal(got, []string{"away"}) {
		t.Errorf("missing are %q", got)
	}
	b.sent = 20
	b.AskSoon(now.Add(20*time.Second), "a.example")
	b.runs(t, now.Add(20*time.Second))
	for _, step := range []struct {
		after int
		want  string
	}{{20, "b 20, x 3"}, {31, "b 20"}, {51, ""}} {
		if got := a.of(now.Add(time.Duration(step.after) * time.Second)); got != step.want {
			t.Errorf("after %d s: %q, want %q", step.after, got, step.want)
		}
	}
}

// Told is of whoever has used half of a limit, or was asked about within a minute, by whomever;
// of 200 at most, those who have used most.
func TestOfWhomIsTold(t *testing.T) {
	c, now := &cable{}, time.Unix(1000, 0)
	a, b := newNode(c, "a", 1), newNode(c, "b", 2)
	told := func(n *node, after time.Duration, used map[string]int64) int {
		c.told = nil
		n.surveys(now.Add(after), used)
		return len(c.told)
	}
	if told(a, 0, map[string]int64{"a.example": 49}) != 0 || told(a, 0, map[string]int64{"a.example": 50}) != 1 || told(a, 0, map[string]int64{"b.example": 50}) != 0 {
		t.Errorf("told is %q", c.told)
	}
	a.Ask(now, "a.example")
	if told(b, 0, nil) != 1 || told(b, time.Minute, nil) != 1 {
		t.Errorf("the other has asked: told %q", c.told)
	}
	if told(a, 61*time.Second, nil) != 0 {
		t.Errorf("a minute later: told %q", c.told)
	}
	used := map[string]int64{"a.example": 51}
	for i := range maxSubjects {
		used[fmt.Sprintf("%d.example", i)] = 52
	}
	if told(a, 2*time.Minute, used) != 0 {
		t.Error("the least used is among those that are told of")
	}
	if used["a.example"] = 53; told(a, 2*time.Minute, used) != 1 {
		t.Error("the most used is not told of")
	}
}

// Whoever can write to the Redis writes nothing that is taken, or takes room without bound.
func TestWhatNoNodeHasWritten(t *testing.T) {
	c, now := &cable{}, time.Unix(1000, 0)
	a := newNode(c, "a", 1)
	long := strings.Repeat("x", 300)
	author := func(more string) string { return `{"a":[{"k":"eve@a.example"` + more + `}]}` }
	for key, value := range map[string]string{
		"who/b/a.example":             author(""),
		"who/c/a.example":             author(`,"w":[{"n":"` + long + `","s":1},{"n":"\u001b[1m","s":2}],"j":"\u202e"`),
		"who/1/a.example":             "garbage",
		"who/2/a.example":             author(`,"s":-1`),
		"who/3/a.example":             author(`,"t":9223372036854775807`),
		"who/4/a.example":             author(`,"c":{"no such cause":1}`),
		"who/5/a.example":             author(`,"p":9`),
		"who/6/a.example":             author(`,"x":-1`),
		"who/7/a.example":             `{"a":[{"k":""}]}`,
		"who/8/a.example":             `{"a":[{"k":"\u001b[1m"}]}`,
		"who/9/a.example":             `{"a":[{"k":"` + long + `"}]}`,
		"who/10/a.example":            `{"a":[` + strings.Repeat(`{"k":"e"},`, MaxAuthors) + `{"k":"e"}]}`,
		"who/11/a.example":            author(`,"u":"` + strings.Repeat("x", maxBytes) + `"`),
		"who/a/a.example":             author(""), // itself
		"who/12":                      author(""),
		"who/\x1b/a.example":          author(""),
		"who/13/news@a.example":       author(""), // counted only where a limit names it
		"who/14/a.example":            "",
		"who/15/" + long + ".example": author(""),
	} {
		for _, f := range c.watchers {
			f(key, []byte(value))
		}
	}
	if got := a.of(now); got != "b 0, c 0" {
		t.Fatalf("heard %q", got)
	}
	e := a.Of(now, "a.example")[1].Authors[0]
	if text, _ := json.Marshal(e); len(e.Networks[0].Name) != maxText || e.Networks[1].Name != `\u001b[1m` || e.Subject != `\u202e` {
		t.Errorf("heard %s", text)
	}
	for i := range 3 * maxReports {
		for _, f := range c.watchers {
			f(fmt.Sprintf("who/b/%d.example", i), []byte(author(`,"s":1`)))
		}
		if i == 2*maxReports {
			if len(a.news) > maxNews {
				t.Errorf("%d wait", len(a.news))
			}
			a.Of(now, "a.example")
		}
	}
	if a.Of(now, "a.example"); a.size > maxReports {
		t.Errorf("%d are kept", a.size)
	}
	a.surveys(now.Add(time.Hour), nil)
	if a.size != 0 || len(a.reports) != 0 {
		t.Errorf("%d are kept for ever", a.size)
	}
}

// A report fits: what is left out is the evidence of who has sent least, and then who has.
func TestAReportFits(t *testing.T) {
	for _, name := range []int{1, 60, 190} {
		r := Report{Tried: 1}
		for i := range 40 {
			r.Authors = append(r.Authors, Author{Key: fmt.Sprintf("%s%d@a.example", strings.Repeat("x", name), i), Tried: 1 << 30, Sent: 1 << 30, First: 1 << 31,
				Causes:   map[sidecar.Cause]int64{sidecar.NoSuchUser: 1 << 20},
				Evidence: &Evidence{Networks: []Share{{"192.0.2.0/24", 1 << 20}}, Subject: strings.Repeat("\n", 100)}})
		}
		value, err := r.encode()
		if err != nil || len(value) > maxBytes {
			t.Fatalf("%d bytes, %v", len(value), err)
		}
		got, err := decode(value)
		if err != nil || len(got.Authors) < min(MaxAuthors, maxBytes/(name+150)) || len(got.Authors) > MaxAuthors || got.Authors[0].Key != r.Authors[0].Key {
			t.Errorf("names of %d bytes: %d authors, %v\n%s", name, len(got.Authors), err, value)
		}
		if name == 1 && got.Authors[0].Evidence == nil {
			t.Error("there is no evidence")
		}
	}
}
