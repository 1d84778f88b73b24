package incident

import (
	"slices"
	"time"

	"sluice/sidecar/event"
)

const (
	maxMinutes = 180
	minutesOf  = 60 * time.Minute // before an incident was opened, and after its culprit was stopped
	unknown    = -1
)

// Minutes are how much the culprit and the others of its domain have sent in each minute around
// an incident, as this node has seen it. What is -1 is not known: there was a restart, or
// nothing was counted by the minute yet.
type Minutes struct {
	Author      string    `json:"author"` // the culprit
	From        time.Time `json:"from"`   // the first minute
	Until       time.Time `json:"until"`  // when the last one was looked at, which may not have been over
	Tried       []int64   `json:"tried"`
	Sent        []int64   `json:"sent"`
	OthersTried []int64   `json:"others_tried"`
	OthersSent  []int64   `json:"others_sent"`
}

// A Minute is what an author has tried and sent within one.
type Minute struct {
	At          time.Time
	Author      string
	Tried, Sent int64
}

// rows are what there is of each minute.
func (m *Minutes) rows() []*[]int64 {
	return []*[]int64{&m.Tried, &m.Sent, &m.OthersTried, &m.OthersSent}
}

// even reports whether there is the same number of each.
func (m *Minutes) even() bool {
	return !slices.ContainsFunc(m.rows(), func(row *[]int64) bool { return len(*row) != len(m.Tried) })
}

func (m Minutes) clone() Minutes {
	for _, row := range m.rows() {
		*row = slices.Clone(*row)
	}
	return m
}

// At is the place of the minute of a time; false if there is none.
func (m *Minutes) At(t time.Time) (n int, known bool) {
	n = int(t.Truncate(time.Minute).Sub(m.From) / time.Minute)
	return n, len(m.Tried) > 0 && !t.Before(m.From) && n < len(m.Tried)
}

// grow has a place for each minute until one.
func (m *Minutes) grow(until time.Time) {
	for n := int(until.Sub(m.From)/time.Minute) + 1 - len(m.Tried); n > 0; n-- {
		for _, row := range m.rows() {
			*row = append(*row, unknown)
		}
	}
}

// shift forgets the first n minutes.
func (m *Minutes) shift(n int) {
	for _, row := range m.rows() {
		*row = slices.Delete(*row, 0, n)
	}
	m.From = m.From.Add(time.Duration(n) * time.Minute)
}

// draw takes in what the culprit and the others have sent by the minute. Of a long incident it
// keeps the newest minutes or, once the culprit was stopped, those around the stop.
func (i *state) draw(now time.Time, v View) {
	m := &i.Minutes
	if i.Culprit.Author == "" || v.Since.IsZero() {
		return
	}
	from := v.Since
	if earliest := i.Opened.Add(-minutesOf).Truncate(time.Minute); from.Before(earliest) {
		from = earliest
	}
	last := now.Truncate(time.Minute)
	whole := m.From.Add((maxMinutes - 1) * time.Minute) // the last minute if no more are forgotten
	stopped := i.StoppedAt()
	switch {
	case m.Author != i.Culprit.Author:
		*m = Minutes{Author: i.Culprit.Author, From: from}
	case !last.After(whole):
	case !stopped.IsZero() && stopped.Before(whole.Add(-minutesOf)):
		last = whole
	case from.After(whole.Add(maxMinutes * time.Minute)):
		*m = Minutes{Author: i.Culprit.Author, From: from}
	}
	m.grow(last)
	m.shift(max(0, len(m.Tried)-maxMinutes))
	m.fill(from, last, v.Minute)
	m.Until, i.changed = now, true
}

// fill sets what is known of the minutes from one to another.
func (m *Minutes) fill(from, last time.Time, all []Minute) {
	for at := from; !at.After(last); at = at.Add(time.Minute) {
		if n, is := m.At(at); is {
			for _, row := range m.rows() {
				(*row)[n] = 0
			}
		}
	}
	for _, one := range all {
		n, is := m.At(one.At)
		switch {
		case !is || one.At.Before(from) || one.At.After(last):
		case one.Author == m.Author:
			m.Tried[n], m.Sent[n] = m.Tried[n]+one.Tried, m.Sent[n]+one.Sent
		default:
			m.OthersTried[n], m.OthersSent[n] = m.OthersTried[n]+one.Tried, m.OthersSent[n]+one.Sent
		}
	}
}

// StoppedAt is when the culprit was first stopped; zero: it was not, as far as is known.
func (i *Incident) StoppedAt() time.Time {
	for _, c := range i.Causes {
		if c.Name == CauseCulprit && c.Scope == i.Culprit.Author && c.Scope != "" {
			return c.Since
		}
	}
	for _, e := range i.Timeline {
		if e.Event == event.Stopped && e.Scope == i.Culprit.Author && e.Scope != "" {
			return e.At
		}
	}
	return time.Time{}
}
