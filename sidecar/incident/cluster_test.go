package incident

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
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
	notes.LocalBoard
	is bool
}

func (a *away) Post(ctx context.Context, key string, value []byte) ([]byte, error) {
	if a.is {
		return nil, errors.New("connection refused")
	}
	return a.LocalBoard.Post(ctx, key, value)
}

func newCluster(t *testing.T, names ...string) *cluster {
	c := &cluster{t: t, board: &away{LocalBoard: notes.LocalBoard{Notes: hosttest.Notes{}}}, silent: map[string]bool{}, nodes: map[string]*script{}}
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
	if c.board.Entries(boardKeys, func(string, []byte) { keys++ }); keys != 3 {
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

// busy is a board that changes as soon as it is watched.
type busy struct {
	notes.Board
	changes sync.WaitGroup
}

func (b *busy) Watch(prefix string, f func(key string, value []byte)) {
	b.Board.Watch(prefix, f)
	b.changes.Go(func() { f(domainKey("b.example"), nil) })
}

// The board may change while a node starts that has incidents; -race sees whether that is safe.
func TestTheBoardChangesAtStart(t *testing.T) {
	c := newCluster(t, "mx1")
	mx1 := c.nodes["mx1"]
	c.limit("mx1", 0, "a.example", true)
	c.until(0, 1)
	b := &busy{Board: c.board}
	mx1.board = b
	mx1.restart(at(2))
	b.changes.Wait()
	if !mx1.all[0].led {
		t.Error("it leads its incident no more")
	}
}

// While the board is away each node has its own: better twice than not at all. When it is back they
// become one, the others end, and what was only seen without the board is told by who leads.
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
	c.limit("mx2", 1, "b.example", true)
	c.until(1, 2)
	c.nodes["mx2"].expect("mx2-2 r1 b.example info open ")
	c.board.is = false
	c.until(2.2, 3)
	c.nodes["mx1"].expect()
	c.nodes["mx2"].expect("mx2-1 r2 a.example info closed ")
	for _, s := range c.nodes {
		of := s.List(func(i *Incident) bool { return i.Domain == "a.example" && i.Open() })
		if len(of) != 1 || of[0].ID.String() != "mx1-1" {
			t.Errorf("%s has %+v", s.node, of)
		}
	}
	if i := c.nodes["mx1"].List(func(i *Incident) bool { return i.Domain == "a.example" })[0]; len(i.Causes) != 2 || i.Causes[1].Node != "mx2" {
		t.Errorf("who leads knows of %+v", i.Causes)
	}
	c.limit("mx1", 3, "a.example", false)
	c.limit("mx2", 3, "b.example", false)
	c.until(3, 20)
	c.nodes["mx1"].expect()
	c.nodes["mx2"].expect("mx2-2 r2 b.example info closed ")
	c.limit("mx2", 20, "a.example", false)
	c.until(20, 31)
	c.nodes["mx1"].expect("mx1-1 r2 a.example info closed ")
	c.nodes["mx2"].expect()
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

		"incident/c.example/told/mail-1/x":   `{"revision":1,"severity":"info"}`,
		"incident/c.example/told/mail-1/0":   `{"revision":0,"severity":"info"}`,
		"incident/c.example/told/mail-1/2":   `{"revision":3,"severity":"info"}`,
		"incident/c.example/told/mail-1/4":   `{"revision":4}`,
		"incident/c.example/told/mail-1/5":   "no",
		"incident/c.example/told/mail-1/6/7": `{"revision":7,"severity":"info"}`,
		"incident/%zz":                       good,
		"incident/d.example/node/mx2":        `{"entries":[` + strings.Repeat(`{"severity":"info"},`, maxPart) + `{"severity":"info"}]}`,
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
	if mx1.unread != 16 {
		t.Errorf("%d events", mx1.unread)
	}
	if i := mx1.List(func(i *Incident) bool { return i.Domain == "c.example" }); len(i) != 1 || i[0].ID.String() != "mx2-1" {
		t.Errorf("%+v", i)
	}
}

// What was told is known on all nodes, the last of each channel, as long as the incident may be opened again.
func TestWhatWasToldIsOnTheBoard(t *testing.T) {
	c := newCluster(t, "mx1", "mx2")
	mx1, mx2 := c.nodes["mx1"], c.nodes["mx2"]
	c.limit("mx1", 0, "a.example", true)
	c.limit("mx2", 0, "a.example", true)
	c.until(0, 0.2)
	i := mx1.only()
	for n, number := range []int64{1, 2, 2, 1} {
		if err := mx1.ShareNotified(t.Context(), &i, "mail-1", Notified{Number: number, Severity: Info, Culprit: fmt.Sprint(n), At: at(0.2)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := mx1.ShareNotified(t.Context(), &i, "exec-1", Notified{Number: 1, Severity: Info, At: at(0.2)}); err != nil {
		t.Fatal(err)
	}
	if got, is := mx2.LastNotified(&i, "mail-1"); !is || got.Number != 2 || got.Culprit != "1" {
		t.Errorf("told is %+v", got)
	}
	keys := 0
	if c.board.Entries("incident/a.example/told/", func(string, []byte) { keys++ }); keys != 2 {
		t.Errorf("%d keys", keys)
	}
	if !mx1.Leads(i.ID) || mx2.Leads(i.ID) || !mx2.Leads(ID{"mx9", 7}) {
		t.Error("who leads")
	}
	other := i
	other.Number++
	if _, is := mx1.LastNotified(&other, "mail-1"); is || mx1.ShareNotified(t.Context(), &other, "mail-1", Notified{Number: 9}) != nil {
		t.Error("of another incident")
	}
	c.limit("mx1", 1, "a.example", false)
	c.limit("mx2", 1, "a.example", false)
	c.until(1, 90)
	c.board.Entries(boardKeys, func(key string, _ []byte) { t.Errorf("%s is left on the board", key) })
	if mx1.unread+mx2.unread != 0 {
		t.Errorf("%d and %d events", mx1.unread, mx2.unread)
	}
}

// What only a silent node has seen another one closes, with its number and culprit; and what a silent
// node has closed leaves the board when it cannot be opened again.
func TestTheNextClosesWhatOnlyASilentNodeHasSeen(t *testing.T) {
	c := newCluster(t, "mx1", "mx2")
	mx1, mx2 := c.nodes["mx1"], c.nodes["mx2"]
	v := of(487, "eve@a.example")
	v.Most = most("eve@a.example", 461, 487)
	mx1.view["a.example"] = v
	c.limit("mx1", 0, "a.example", true)
	c.limit("mx1", 0, "b.example", true)
	c.until(0, 1)
	c.limit("mx1", 1, "b.example", false)
	c.until(1, 12)
	mx1.expect("mx1-1 r1 a.example info open eve@a.example", "mx1-2 r1 b.example info open ", "mx1-2 r2 b.example info closed ")
	c.silent["mx1"] = true
	c.until(12, 13)
	mx2.expect("mx1-1 r2 a.example info open eve@a.example")
	c.until(13, 23)
	mx2.expect("mx1-1 r3 a.example info closed eve@a.example")
	c.until(23, 90)
	c.board.Entries(boardKeys, func(key string, _ []byte) { t.Errorf("%s is left on the board", key) })
	if mx2.expect(); mx2.unread != 0 {
		t.Errorf("%d events", mx2.unread)
	}
}

// A node that has forgotten what it saw, for it was killed, says so: its causes do not stay for ever.
func TestANodeThatWasKilledSaysAnewWhatItSees(t *testing.T) {
	c := newCluster(t, "mx1", "mx2")
	mx1, mx2 := c.nodes["mx1"], c.nodes["mx2"]
	c.limit("mx1", 0, "a.example", true)
	c.until(0, 0.2)
	c.limit("mx2", 0.2, "a.example", true)
	c.until(0.4, 1)
	c.limit("mx1", 1, "a.example", false)
	clear(mx2.there)
	mx2.notes = hosttest.Notes{}
	mx2.restart(at(1))
	c.until(1, 12)
	if i := mx1.only(); i.Open() {
		t.Errorf("it is open: %+v", i.Causes)
	}
}

// What a node saw before it was silent does not count again when it is back, until it says so.
func TestWhatASilentNodeHasSeenIsPast(t *testing.T) {
	c := newCluster(t, "mx1", "mx2")
	mx1 := c.nodes["mx1"]
	c.limit("mx1", 0, "a.example", true)
	c.until(0, 0.2)
	c.limit("mx2", 0.2, "a.example", true)
	c.until(0.4, 1)
	c.limit("mx1", 1, "a.example", false)
	c.silent["mx2"] = true
	c.until(1, 2)
	c.silent["mx2"] = false
	delete(c.nodes, "mx2") // it gives signs of life, and no more
	c.until(2, 13)
	if i := mx1.only(); i.Open() {
		t.Errorf("it is open: %+v", i.Causes)
	}
}
