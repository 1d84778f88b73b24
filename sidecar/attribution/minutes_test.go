package attribution

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// minutes are those of a subject: "12:03 hacked 5/4".
func (b *bench) minutes(subject string) (since string, all []string) {
	from, minutes := b.Minutes(b.now, subject)
	for _, m := range minutes {
		all = append(all, fmt.Sprintf("%s %s %d/%d", m.At.Format("15:04"), m.Author, m.Tried, m.Sent))
	}
	return from.Format("15:04"), all
}

// What each author sends is known by the minute, for an hour.
func TestMinutes(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 5)
	b.now = b.now.Add(30 * time.Second)
	b.send("b@x.example", 1)
	b.send("a@x.example", 2)
	b.Refused(b.now, message("a@x.example", 3))
	b.Refused(b.now, message("a@x.example", 3)) // the same again
	b.now = b.now.Add(5 * time.Minute)
	b.send("a@x.example", 1) // to one that was refused before: it was tried already
	since, all := b.minutes("x.example")
	if want := "[12:00 a@x.example 10/7 12:00 b@x.example 1/1 12:05 a@x.example 0/1]"; since != "12:00" || fmt.Sprint(all) != want {
		t.Errorf("since %s it has %s, want %s", since, all, want)
	}
	b.now = b.now.Add(55 * time.Minute)
	b.send("a@x.example", 1)
	if since, all = b.minutes("x.example"); since != "12:01" || fmt.Sprint(all) != "[12:05 a@x.example 0/1 13:00 a@x.example 1/1]" {
		t.Errorf("after an hour since %s it has %s", since, all)
	}
	b.now = b.now.Add(80 * time.Minute)
	b.send("c@x.example", 1)
	if since, all = b.minutes("x.example"); fmt.Sprint(all) != "[14:20 c@x.example 1/1]" {
		t.Errorf("in the end since %s it has %s", since, all)
	}
	if n := b.authors.all[b.authors.numbers["a@x.example"]].uses; n != 0 {
		t.Errorf("a@x.example is kept by %d", n)
	}
}

// After a restart the minute in which it was, and all before it, are not known.
func TestMinutesAfterARestart(t *testing.T) {
	b := newBench(t, hour)
	b.send("a@x.example", 5)
	b.restart()
	b.send("a@x.example", 1)
	b.now = b.now.Add(time.Minute)
	b.send("a@x.example", 2)
	if since, all := b.minutes("x.example"); since != "12:01" || fmt.Sprint(all) != "[12:01 a@x.example 2/2]" {
		t.Errorf("since %s it has %s", since, all)
	}
}

// What is kept is bounded, and the newest stays.
func TestMinutesAreBounded(t *testing.T) {
	b := newBench(t, hour)
	for range 30 {
		for i := range 40 {
			b.send(fmt.Sprintf("a%d@x.example", i), 1)
		}
		b.now = b.now.Add(time.Minute)
	}
	since, all := b.minutes("x.example")
	if len(all) > maxMinutes || len(all) < maxMinutes-40 || since != "12:18" {
		t.Errorf("since %s there are %d", since, len(all))
	}
	size := b.Status().Memory
	b.now = b.now.Add(3 * time.Hour)
	b.Tick(t.Context(), b.now)
	if st := b.Status(); st.Subjects != 0 || st.Memory >= size {
		t.Errorf("in the end there is %+v, before %d bytes", st, size)
	}
}

// What networks and destinations have is what was tried, once: what was refused too, and not again
// when it is sent in the end.
func TestNetworksAndDestinationsAreOfWhatWasTried(t *testing.T) {
	b := newBench(t, hour)
	b.Refused(b.now, message("a@x.example", 5))
	again, other := message("a@x.example", 3), message("a@x.example", 5)
	for i := range other.To {
		other.To[i].Domain = "other.example"
	}
	b.Charged(b.now, other, 5)
	b.Charged(b.now, again, 3)
	b.counts["x.example"] = Counts{Sent: 8, Refused: 2}
	r, _ := b.Of(b.now, "x.example")
	got, err := json.Marshal(map[string]any{"destinations": r.Authors[0].Destinations, "networks": r.Authors[0].Networks, "tried": r.Authors[0].Tried, "sent": r.Authors[0].Sent})
	want := `{"destinations":[{"name":"far.example","tried":5},{"name":"other.example","tried":5}],"networks":[{"name":"203.0.113.0/24","tried":10}],"sent":8,"tried":10}`
	if err != nil || string(got) != want {
		t.Errorf("%s, %v\nwant %s", got, err, want)
	}
}
