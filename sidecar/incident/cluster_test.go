package incident

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/notes"
)

// A cluster is nodes that share a board.
type cluster struct {
	t      *testing.T
	board  *away
	silent map[string]bool
	nodes  map[string]*script
}

// away is a board that can be out of reach.
type away struct {
	notes.Board
	is bool
}

func (a *away) Post(ctx context.Context, key string, value []byte) ([]byte, error) {
	if a.is {
		return nil, errors.New("connection refused")
	}
	return a.Board.Post(ctx, key, value)
}

func newCluster(t *testing.T, names ...string) *cluster {
	c := &cluster{t: t, board: &away{Board: notes.Board{Notes: hosttest.Notes{}}}, silent: map[string]bool{}, nodes: map[string]*script{}}
	for _, name := range names {
		s := &script{t: t, notes: hosttest.Notes{}, there: map[string]bool{}, view: map[string]View{}, node: name, board: c.board,
			alive: func(node string) bool { return !c.silent[node] }}
		s.restart(noon)
		c.nodes[name] = s
	}
	return c
}

// until ticks all nodes that are not silent every ten seconds, in the order of names.
func (c *cluster) until(from, to float64) {
	for now := from; now <= to; now += 1.0 / 6 {
		for _, name := range []string{"mx1", "mx2", "mx3"} {
			if s := c.nodes[name]; s != nil && !c.silent[name] {
				s.Tick(c.t.Context(), at(now))
			}
		}
	}
}

// limit has a node see that a domain is, or is no more, at its limit.
func (c *cluster) limit(node string, minute float64, domain string, is bool) {
	s := c.nodes[node]
	if s.there[domain+" limit"] = is; is {
		s.Event(event.Event{Kind: event.LimitReached, At: at(minute), Domain: domain, Attrs: event.Attrs("sent", "20/20")})
	}
}

// What several nodes see of a domain is one incident, of which one node tells; it is over when
// all of them say so.
func TestOneIncidentOfTheCluster(t *testing.T) {
	c := newCluster(t, "mx1", "mx2")
	mx1, mx2 := c.nodes["mx1"], c.nodes["mx2"]
	c.limit("mx2", 0, "a.example", true)
	c.until(0, 0.5)
	c.limit("mx1", 0.5, "a.example", true)
	mx1.Event(event.Event{Kind: event.Command, At: at(0.5), Attrs: event.Attrs("who", "alice", "command", "reset", "scope", "a.example")})
	c.until(0.6, 2)
	mx2.expect("mx2-1 r1 a.example info open ")
	mx1.expect()
	if i := mx1.only(); i.ID.String() != "mx2-1" || len(i.Causes) != 1 {
		t.Errorf("mx1 has %s, %+v", i.ID, i.Causes)
	}
	mx1.there["a.example deferfail"] = true
	mx1.Event(event.Event{Kind: event.Tripped, At: at(2), Domain: "a.example"})
	c.until(2, 2.5)
	mx2.expect("mx2-1 r2 a.example critical open ")
	var seen []string
	for _, e := range mx2.only().Timeline {
		seen = append(seen, fmt.Sprintf("%s%s %s", e.Event, e.Node, e.By))
	}
	if got := strings.Join(seen, ", "); got != "limit-reached , limit-reachedmx1 , commandmx1 alice, tripmx1 " {
		t.Errorf("the timeline is %s", got)
	}
	c.limit("mx2", 3, "a.example", false)
	c.until(3, 20)
	mx2.expect()
	clear(mx1.there)
	c.until(20, 31)
	mx2.expect("mx2-1 r3 a.example critical closed ")
	mx1.expect()
	if i := mx1.only(); i.Open() {
		t.Error("it is open on mx1")
	}

	c.until(78, 79)
	keys := 0
	if c.board.Entries(boardKeys, func(string, []byte) { keys++ }); keys != 2 {
		t.Errorf("%d keys are on the board while it may be opened again", keys)
	}
	c.limit("mx1", 80, "a.example", true)
	c.until(80, 81)
	mx2.expect("mx2-1 r4 a.example critical open ")
	c.limit("mx1", 81, "a.example", false)
	c.until(81, 100)
	mx2.expect("mx2-1 r5 a.example critical closed ")
	c.until(150, 165)
	c.board.Entries(boardKeys, func(key string, _ []byte) { t.Errorf("%s is left on the board", key) })
	c.limit("mx1", 170, "a.example", true)
	c.until(170, 171)
	mx1.expect("mx1-2 r1 a.example info open ")
	if mx1.unread+mx2.unread != 0 {
		t.Errorf("%d and %d events", mx1.unread, mx2.unread)
	}
}

// The first to post it leads, also if both have seen it before.
func TestTwoOpenAtOnce(t *testing.T) {
	c := newCluster(t, "mx1", "mx2", "mx3")
	for _, node := range []string{"mx1", "mx2", "mx3"} {
		c.limit(node, 0, "a.example", true)
		c.limit(node, 0, "relay:2001:db8::/64", true)
	}
	c.until(0, 1)
	c.nodes["mx1"].expect("mx1-1 r1 a.example info open ", "mx1-2 r1 relay:2001:db8::/64 info open ")
	c.nodes["mx2"].expect()
	c.nodes["mx3"].expect()
	if got := c.nodes["mx3"].List(func(*Incident) bool { return true }); got[0].ID.String() != "mx1-2" || got[1].ID.String() != "mx1-1" || len(c.nodes["mx3"].notes) != 3 {
		t.Errorf("mx3 has %s and %s in %d notes", got[0].ID, got[1].ID, len(c.nodes["mx3"].notes))
	}
}

// Nobody is told of an incident before it is known whose it is, and what cannot be posted in one
// Tick is in the next.
func TestManyOpenAtOnce(t *testing.T) {
	c := newCluster(t, "mx1", "mx2")
	for n := range maxPosts + 10 {
		c.limit("mx1", 0, fmt.Sprintf("d%d.example", n), true)
		c.limit("mx2", 0, fmt.Sprintf("d%d.example", n), true)
	}
	mx1, mx2 := c.nodes["mx1"], c.nodes["mx2"]
	c.until(0, 0)
	if len(mx1.told) != maxPosts {
		t.Errorf("%d are told at once", len(mx1.told))
	}
	c.until(0.2, 0.2)
	if both := len(mx1.told) + len(mx2.told); both != maxPosts+10 {
		t.Errorf("%d are told by mx1, %d by mx2", len(mx1.told), len(mx2.told))
	}
	for _, told := range append(mx1.told, mx2.told...) {
		if !strings.Contains(told, " r1 ") {
			t.Errorf("told first: %s", told)
		}
	}
}

// Where the node that leads is silent, exactly one other takes over, and tells it; what the
// silent one had seen counts as gone. When it is back it follows.
func TestTheNextTakesOver(t *testing.T) {
	c := newCluster(t, "mx1", "mx2", "mx3")
	for _, node := range []string{"mx1", "mx2", "mx3"} {
		c.limit(node, 0, "a.example", true)
	}
	c.until(0, 1)
	c.nodes["mx1"].told = nil
	c.silent["mx1"] = true
	c.until(1, 3)
	c.nodes["mx2"].expect("mx1-1 r2 a.example info open ")
	c.nodes["mx3"].expect()

	c.silent["mx1"] = false
	c.nodes["mx1"].restart(at(3))
	c.nodes["mx2"].restart(at(3))
	c.nodes["mx2"].expect("mx1-1 r2 a.example info open ")
	c.until(3, 4)
	for _, s := range c.nodes {
		s.expect()
	}
	c.silent["mx2"] = true
	c.until(4, 6)
	c.nodes["mx1"].expect("mx1-1 r2 a.example info open ")
	c.nodes["mx3"].expect()
	c.limit("mx1", 6, "a.example", false)
	c.limit("mx3", 6, "a.example", false)
	c.until(6, 17)
	c.nodes["mx1"].expect("mx1-1 r3 a.example info closed ")
}

// While the board is away each node has its own: better twice than not at all.
func TestBoardAway(t *testing.T) {
	c := newCluster(t, "mx1", "mx2")
	c.board.is = true
	c.limit("mx1", 0, "a.example", true)
	c.limit("mx2", 0, "a.example", true)
	c.until(0, 0)
	c.nodes["mx1"].expect("mx1-1 r1 a.example info open ")
	c.nodes["mx2"].expect("mx2-1 r1 a.example info open ")
	if c.nodes["mx1"].unread != 1 {
		t.Errorf("%d events", c.nodes["mx1"].unread)
	}
}

// An incident that was dropped for want of room is no one's any more.
func TestDroppedIncidentsLeaveTheBoard(t *testing.T) {
	c := newCluster(t, "mx1")
	c.limit("mx1", 0, "a.example", true)
	c.until(0, 0.2)
	c.nodes["mx1"].drop(c.nodes["mx1"].all[0])
	c.until(1, 1.2)
	c.board.Entries(boardKeys, func(key string, _ []byte) { t.Errorf("%s is left", key) })
}

// Values of others that cannot be right are left out, and reported.
func TestHostileBoard(t *testing.T) {
	c := newCluster(t, "mx1")
	good := `{"node":"mx2","number":1,"opened":"2026-03-01T12:00:00Z"}`
	for key, value := range map[string]string{
		"incident/a.example":            `{"node":"mx2","number":0,"opened":"2026-03-01T12:00:00Z"}`,
		"incident/b.example":            "no",
		"incident/c.example":            good,
		"incident/c.example/lead/0":     "mx2",
		"incident/c.example/lead/x":     "mx2",
		"incident/c.example/lead/101":   "mx2",
		"incident/c.example/node/mx3":   "no",
		"incident/c.example/node/mx2/x": "{}",
		"incident/c.example/other":      "{}",
		"incident/%zz":                  good,
		"incident/d.example/node/mx2":   `{"entries":[` + strings.Repeat(`{"severity":"info"},`, maxPart) + `{"severity":"info"}]}`,
	} {
		if _, err := c.board.Post(t.Context(), key, []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	mx1 := c.nodes["mx1"]
	c.limit("mx1", 0, "a.example", true)
	c.limit("mx1", 0, "c.example", true)
	c.until(0, 1)
	mx1.expect("mx1-1 r1 a.example info open ")
	if mx1.unread != 10 {
		t.Errorf("%d events", mx1.unread)
	}
	if i := mx1.List(func(i *Incident) bool { return i.Domain == "c.example" }); len(i) != 1 || i[0].ID.String() != "mx2-1" {
		t.Errorf("%+v", i)
	}
}
