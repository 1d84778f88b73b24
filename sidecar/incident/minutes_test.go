package incident

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"sluice/sidecar/event"
)

// sends has an author send so much in each of some minutes.
func sends(v *View, author string, from, to float64, tried, sent int64) {
	for minute := from; minute < to; minute++ {
		v.Minute = append(v.Minute, Minute{At: at(minute), Author: author, Tried: tried, Sent: sent})
	}
}

// The minutes of the culprit and of the others are copied while they are known, and kept over a
// restart; what was not seen is not known, and not zero.
func TestMinutes(t *testing.T) {
	s := newScript(t)
	v := of(90, "hacked@shop.example")
	v.Most, v.Since = most("hacked@shop.example", 80, 90), at(-5)
	sends(&v, "hacked@shop.example", -2, 0, 30, 20)
	sends(&v, "info@shop.example", -5, 0, 1, 1)
	sends(&v, "sales@shop.example", -1, 0, 2, 1)
	s.view["shop.example"], s.there["shop.example limit"] = v, true
	s.event(0, event.LimitReached, "shop.example")
	m := s.only().Minutes
	if got, want := fmt.Sprint(m.Author, m.From.Format(" 15:04 "), m.Tried, m.Sent, m.OthersTried, m.OthersSent),
		"hacked@shop.example 11:55 [0 0 0 30 30 0] [0 0 0 20 20 0] [1 1 1 1 3 0] [1 1 1 1 2 0]"; got != want {
		t.Errorf("it has\n%s, want\n%s", got, want)
	}
	s.until(0, 2)
	s.restart(at(4))
	v.Since, v.Minute = at(5), nil
	sends(&v, "hacked@shop.example", 5, 6, 7, 0)
	s.view["shop.example"] = v
	s.until(4.5, 6)
	m = s.only().Minutes
	if got, want := fmt.Sprint(m.Tried, m.Sent), "[0 0 0 30 30 0 0 0 -1 -1 7 0] [0 0 0 20 20 0 0 0 -1 -1 0 0]"; got != want {
		t.Errorf("after a restart it has\n%s, want\n%s", got, want)
	}
	v.Most = most("other@shop.example", 800, 900)
	s.view["shop.example"] = v
	s.until(6.5, 6.7)
	if m = s.only().Minutes; m.Author != "other@shop.example" || !m.From.Equal(at(5)) || !slices.Equal(m.OthersTried, []int64{7, 0}) {
		t.Errorf("of another culprit it has %+v", m)
	}
}

// Of a long incident the newest minutes are kept or, once the culprit was stopped, an hour after
// that and two before.
func TestMinutesOfALongIncident(t *testing.T) {
	s := newScript(t)
	v := of(90, "hacked@shop.example")
	v.Most = most("hacked@shop.example", 80, 90)
	look := func(from, to float64) {
		for now := from; now < to; now++ {
			v.Since = at(max(-60, now-59))
			s.view["shop.example"] = v
			s.until(now, now)
		}
	}
	v.Since = at(-100)
	s.view["shop.example"], s.there["shop.example limit"] = v, true
	s.event(0, event.LimitReached, "shop.example")
	if m := s.only().Minutes; !m.From.Equal(at(-60)) {
		t.Errorf("it begins at %s", m.From)
	}
	look(1, 300)
	if m := s.only().Minutes; !m.From.Equal(at(120)) || len(m.Tried) != maxMinutes || slices.Contains(m.Tried, unknown) {
		t.Errorf("after five hours it has %d from %s: %v", len(m.Tried), m.From, m.Tried)
	}
	s.event(300, event.Stopped, "", "scope", "hacked@shop.example", "who", "alice")
	look(301, 500)
	i := s.only()
	m := i.Minutes
	n, is := m.At(i.StoppedAt())
	if !is || n < 100 || n > 121 || len(m.Tried) != maxMinutes {
		t.Errorf("it has %d from %s, with the stop at %d", len(m.Tried), m.From, n)
	}
	v.Since = at(500 + 200)
	s.view["shop.example"] = v
	s.until(701, 701)
	if got := s.only().Minutes; !got.From.Equal(m.From) {
		t.Errorf("much later it is from %s", got.From)
	}
	s.restart(at(702))
	if got := s.only().Minutes; len(got.Tried) != maxMinutes || got.Until.Sub(at(701)) > time.Minute {
		t.Errorf("after a restart it has %+v", got)
	}
}
