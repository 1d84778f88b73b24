package stop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/notes"
)

// An awayBoard is one whose server goes away for a time.
type awayBoard struct {
	notes.LocalBoard
	away bool
}

var errAway = errors.New("connection refused")

func (b *awayBoard) Post(ctx context.Context, key string, value []byte) ([]byte, error) {
	if b.away {
		return nil, errAway
	}
	return b.LocalBoard.Post(ctx, key, value)
}

func (b *awayBoard) Remove(ctx context.Context, key string) error {
	if b.away {
		return errAway
	}
	return b.LocalBoard.Remove(ctx, key)
}

// post puts a value on the board as any node, or who has taken one over, could.
func (d *desk) post(key, value string) {
	d.t.Helper()
	if _, err := d.board.Post(d.t.Context(), key, []byte(value)); err != nil {
		d.t.Fatal(err)
	}
}

// A value on the board that is no stop, or none that this version heeds, is named, stops and
// starts nobody, and keeps no other from being read, at a start too.
func TestWhatIsNoStopOnTheBoardIsSkippedAndNamed(t *testing.T) {
	const stop = `{"mark":"m","scope":"eve@a.example","since":"2026-03-01T12:00:00Z","cause":"operator","who":"x","node":"n"`
	for name, bad := range map[string]struct{ key, value string }{
		"no JSON":          {"stop/m", "nonsense \x00\x1b]0;"},
		"empty":            {"stop/m", ""},
		"null":             {"stop/m", "null"},
		"another mark":     {"stop/other", stop + "}"},
		"no scope":         {"stop/m", strings.Replace(stop, "eve@a.example", "", 1) + "}"},
		"ended by itself":  {"stop/m", stop + `,"ended":"2026-03-01T12:00:00Z"}`},
		"released":         {"stop/m", stop + `,"released":"2026-03-01T12:00:00Z"}`},
		"unknown cause":    {"stop/m", strings.Replace(stop, `"operator"`, `"moon"`, 1) + "}"},
		"no cause":         {"stop/m", strings.Replace(stop, `"operator"`, `""`, 1) + "}"},
		"blamed of nobody": {"stop/m", strings.Replace(stop, `"operator"`, `"deferfail"`, 1) + "}"},
		"operator's of":    {"stop/m", stop + `,"of":"a.example"}`},
		"unknown name":     {"stop/GOOD/other", `{"ended":"2026-03-01T12:00:00Z"}`},
		"no end":           {"stop/GOOD/end", `{"ended_by":"x"}`},
		"end is no JSON":   {"stop/GOOD/end", "nonsense"},
		"ends as release":  {"stop/GOOD/release", `{"ended":"2026-03-01T12:00:00Z","ended_by":"x"}`},
	} {
		for _, when := range []string{"while it runs", "at a start"} {
			t.Run(name+" "+when, func(t *testing.T) {
				d := newDesk(t)
				good := d.stop(Request{Scope: ann}).Mark
				key := strings.Replace(bad.key, "GOOD", good, 1)
				if d.post(key, bad.value); when == "at a start" {
					d.open()
				}
				d.wantLogged("note ignored, it cannot be understood; what is counted is not concerned\" note=" + key)
				d.want("the bad value", eve, false)
				d.want("a good one", ann, true)
				d.stop(Request{Scope: eve})
				d.want("a later one", eve, true)
				if n := len(d.List(d.now, "", true)); n != 2 {
					t.Errorf("%d stops are listed", n)
				}
			})
		}
	}
}

// Nodes learn in any order, and more than once, of a stop and its ends; of two ends the first
// in time counts, and a value never changes.
func TestStopsAndEndsComeInAnyOrder(t *testing.T) {
	value := func(v any) string { b, _ := json.Marshal(v); return string(b) }
	at := func(minute int) time.Time { return time.Date(2026, 3, 1, 12, minute, 0, 0, time.UTC) }
	st := value(Stop{Mark: "m", Scope: eve, Since: at(0), Cause: Operator, Who: "alice", Node: "n"})
	ended := value(end{Ended: at(5), EndedBy: "bob"})
	released := value(end{Released: at(6), EndedBy: "bob"})
	all := [][2]string{{"stop/m", st}, {"stop/m/end", ended}, {"stop/m/release", released}}
	for _, order := range [][]int{{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}, {1, 1, 0, 0, 2, 2}} {
		d := newDesk(t)
		for _, i := range order {
			d.receive(all[i][0], []byte(all[i][1]))
		}
		d.now = at(10)
		if got := d.List(d.now, eve, true); len(got) != 1 || !got[0].Ended.Equal(at(5)) || got[0].EndedBy != "bob" || !got[0].Released.Equal(at(6)) {
			t.Errorf("%v: %+v", order, got)
		}
		d.want(fmt.Sprint(order), eve, false)
		d.receive("stop/m/end", []byte(value(end{Ended: at(4), EndedBy: "cid"})))
		d.receive("stop/m/end", []byte(value(end{Ended: at(7), EndedBy: "dan"})))
		d.receive("stop/m/release", []byte(value(end{Released: at(3)})))
		d.receive("stop/m/release", []byte(value(end{Released: at(9)})))
		d.receive("stop/m", []byte(strings.Replace(st, eve, ann, 1)))
		if got := d.List(d.now, "", true); len(got) != 1 || got[0].Scope != eve || !got[0].Ended.Equal(at(4)) || got[0].EndedBy != "cid" || !got[0].Released.Equal(at(3)) {
			t.Errorf("%v: then %+v", order, got)
		}
		d.receive("stop/m/end", nil) // the stop goes first: its end alone means nothing
		if n := len(d.List(d.now, "", true)); n != 1 {
			t.Errorf("when an end is removed %d stops are left", n)
		}
		d.receive("stop/m", nil)
		d.receive("stop/m", []byte(st))
		d.want("a stop that is made again", eve, true)
	}
}

// What the board does not take holds here, over a restart, and is posted when it can be.
func TestABoardThatIsAway(t *testing.T) {
	d := newDesk(t)
	d.board.away = true
	d.stop(Request{Scope: eve})
	d.stop(Request{Scope: ann})
	d.Start(t.Context(), d.now, ann, "bob", false)
	d.open()
	d.Follow(t.Context(), d.now)
	d.want("away", eve, true)
	d.want("away", ann, false)
	n := 0
	count := func(string, []byte) { n++ }
	if d.board.Entries(keys, count); n != 0 || !d.Unposted() {
		t.Errorf("%d are on the board, and some are to be posted: %v", n, d.Unposted())
	}
	d.board.away = false
	d.Follow(t.Context(), d.now)
	if d.board.Entries(keys, count); n != 3 || d.Unposted() {
		t.Errorf("%d are on the board, and some are to be posted: %v", n, d.Unposted())
	}
}

// Operators are told of what comes, and not of what was there at the start.
func TestStopsAreTold(t *testing.T) {
	d := newDesk(t)
	d.stop(Request{Scope: eve, Why: "stolen", Reject: true})
	d.wantLogged("others of its domain go on\" domain=a.example scope=eve@a.example who=alice reject=true node=node1 why=stolen")
	d.Start(t.Context(), d.now, eve, "bob", false)
	d.wantLogged("started: this author may send again\" domain=a.example scope=eve@a.example who=bob node=node1\n")
	d.Start(t.Context(), d.now, eve, "bob", true)
	d.wantLogged("started: this author may send again\" domain=a.example scope=eve@a.example who=bob release=true")
	d.Start(t.Context(), d.now, eve, "bob", true)
	if n := strings.Count(d.log.String(), "level="); n != 3 {
		t.Errorf("%d events\n%s", n, d.log.String())
	}
	d.open()
	if n := strings.Count(d.log.String(), "level="); n != 3 {
		t.Errorf("%d events after a start\n%s", n, d.log.String())
	}
}

// A stop is remembered for 35 days after its end, for the mail that it has held, and one that
// is in force forever; of the rest the last thousand.
func TestWhatIsOverIsForgotten(t *testing.T) {
	d := newDesk(t)
	d.stop(Request{Scope: ann})
	d.stop(Request{Scope: eve, For: time.Hour})
	old := d.now.Add(-time.Hour)
	ended := d.now.Add(time.Hour)
	d.now = ended.Add(kept - time.Second)
	d.Tick(t.Context(), d.now)
	if _, kept := d.Kept(d.now, eve, old); !kept {
		t.Error("its old mail goes too early")
	}
	d.now = ended.Add(kept)
	d.Tick(t.Context(), d.now)
	if _, kept := d.Kept(d.now, eve, old); kept || len(d.List(d.now, eve, true)) != 0 {
		t.Error("it is remembered for longer than 35 days")
	}
	d.stop(Request{Scope: eve})
	d.Start(t.Context(), d.now, eve, "bob", true)
	d.now = d.now.Add(kept)
	d.board.away = true
	d.Tick(t.Context(), d.now)
	d.wantLogged(errAway.Error())
	d.board.away = false
	d.Tick(t.Context(), d.now)
	d.board.Entries(keys, func(key string, value []byte) {
		if !strings.Contains(string(value), ann) {
			t.Errorf("left is %s", key)
		}
	})
	d.open()
	d.want("in force", ann, true)
}

// Of those that are over, however short a time ago, the last thousand are remembered.
func TestAThousandThatAreOverAreRemembered(t *testing.T) {
	d := newDesk(t)
	first := d.now
	for n := range mostOver + 1 {
		at := first.Add(time.Duration(n) * time.Second)
		st := Stop{Mark: newMark(at), Scope: "script:/srv", Since: at, Until: at.Add(time.Second), Cause: Operator}
		value, _ := json.Marshal(st)
		if err := d.store.Note("board/"+keys+st.Mark, value); err != nil {
			t.Fatal(err)
		}
	}
	d.now = first.Add(time.Hour)
	d.open()
	d.stop(Request{Scope: ann})
	d.Tick(t.Context(), d.now)
	all, entries := d.List(d.now, "script:/srv", true), 0
	d.board.Entries(keys, func(string, []byte) { entries++ })
	if len(all) != mostOver || entries != mostOver+1 || all[mostOver-1].Since.Equal(first) {
		t.Errorf("%d are remembered, in %d entries, the first of %v", len(all), entries, all[len(all)-1].Since)
	}
	d.want("in force", ann, true)
}
