package usual

import (
	"fmt"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// Of a domain the others are left as much as they usually send in a week, a half more, and who
// has sent enough in a month as much as that.
func TestQuotas(t *testing.T) {
	h := New(100)
	const today = 20_500
	for ago := range uint16(20) {
		h.Note(noon, "x.example", "a", today-19+ago, 8)
	}
	h.Note(noon, "x.example", "b", today-21, 64)
	h.Note(noon, "x.example", "b", today-19, 64)
	h.Note(noon, "x.example", "c", today, 64)
	x := h.Of("x.example")
	for author, want := range map[string][4]int64{"a": {12, 0, 12, 25}, "b": {0, 12, 96, 96}, "c": {0, 12, 0, 0}, "d": {0, 12, 0, 0}} {
		if got := [4]int64{x.Quota(author, today), x.OthersQuota(author, today), x.Free(author, today, 0), x.Free(author, today, 500)}; got != want {
			t.Errorf("%s: %d, want %d", author, got, want)
		}
	}
	if n := x.OthersQuota("d", today+week); n != 0 {
		t.Errorf("a week later others are left %d", n)
	}
	h.Note(noon, "x.example", "b", today, 64)
	h.Note(noon, "x.example", "b", today-1, 64)
	if n := x.OthersQuota("d", today); n != 12+96 {
		t.Errorf("%d once more was noted", n)
	}
	if y := h.Of("y.example"); y != nil || y.Quota("a", today) != 0 || y.OthersQuota("a", today) != 0 || y.Free("a", today, 500) != 0 {
		t.Error("something is usual of a domain of which nothing is known")
	}
	if h.Since() != noon {
		t.Errorf("known since %s", h.Since())
	}
}

// Who has sent nothing for a month makes room for others, and nobody else does.
func TestBound(t *testing.T) {
	h := New(1000)
	many := func(name string, day uint16) {
		for i := range 2000 {
			h.Note(noon, fmt.Sprintf("x%d.example", i%100), fmt.Sprint(name, i), day, 1)
		}
		if h.authors != 1000 || h.Bytes() != 1000*AuthorSize {
			t.Errorf("%d authors, %d bytes", h.authors, h.Bytes())
		}
	}
	many("a", 1000)
	many("b", 1000+month-1)
	if h.Of("x0.example").find("a0") == nil || h.Of("x0.example").find("b0") != nil {
		t.Error("who has sent within a month makes room for others")
	}
	many("c", 1000+month)
	for _, d := range h.domains {
		for _, r := range d.rings {
			if r.author[0] != 'c' {
				t.Fatalf("%s is kept for more than a month", r.author)
			}
		}
	}
}

// What is restored is what was saved, and only what has changed is saved.
func TestSave(t *testing.T) {
	h := New(1000)
	const today = 20_500
	h.Note(noon, "x.example", "b", today-3, 300)
	h.Note(noon.Add(time.Second), "x.example", "a", today-30, 7)
	h.Note(noon.Add(time.Second), "x.example", "a", today-1, 20)
	h.Note(noon.Add(time.Minute), "y.example", "a", today, 1)
	if name, _ := h.Next(noon.Add(-1)); name != "" {
		t.Errorf("%s is saved too early", name)
	}
	name, s := h.Next(noon)
	if name != "x.example" {
		t.Fatalf("%q is saved first", name)
	}
	if again, _ := h.Next(noon); again != "" {
		t.Errorf("%s is saved again", again)
	}
	g := New(1000)
	g.Restore(name, s)
	for i, r := range h.Of(name).rings {
		if got := g.Of(name).rings[i]; got != r {
			t.Errorf("%+v is restored as %+v", r, got)
		}
	}
	if g.Bytes() != 2*AuthorSize || g.Of("y.example") != nil {
		t.Errorf("%d bytes", g.Bytes())
	}
	h.Note(noon, name, "b", today-3, 200)
	if again, _ := h.Next(noon); again != "" {
		t.Error("it is saved though it has not changed")
	}
}

// What is learned from elsewhere fills gaps, raises what was too low and lowers nothing.
func TestLearn(t *testing.T) {
	const today = 20_500
	elsewhere, h := New(10), New(10)
	for day, sent := range map[uint16]int64{today - 9: 5, today - 2: 8, today - 1: 64, today: 4} {
		elsewhere.Note(noon, "x.example", "a", day, sent)
	}
	elsewhere.Of("x.example").find("a").first = today - 9
	h.Note(noon, "x.example", "a", today-3, 7)
	h.Note(noon, "x.example", "a", today-2, 32)
	h.Note(noon, "x.example", "a", today-1, 16)
	all := elsewhere.All()["x.example"]
	if authors, days := h.Learn(noon, "x.example", all, func(_ string, day uint16) bool { return day == today }); authors != 1 || days != 2 {
		t.Errorf("%d authors, %d days", authors, days)
	}
	r := h.Of("x.example").find("a")
	for day, want := range map[uint16]int64{today - 9: 5, today - 3: 7, today - 2: 32, today - 1: 64, today: 0} {
		if got := unpack(r.busiest[day%month]); got != want {
			t.Errorf("day %d: %d, want %d", day, got, want)
		}
	}
	if first, _ := h.Of("x.example").First("a"); first != today-9 {
		t.Errorf("first on day %d", first)
	}
	if authors, days := h.Learn(noon, "x.example", all, func(string, uint16) bool { return false }); authors != 1 || days != 1 {
		t.Errorf("today: %d authors, %d days", authors, days)
	}
}
