package card

import (
	"fmt"
	"strings"
	"time"

	"sluice/sidecar/incident"
	"sluice/sidecar/printable"
)

// These are the size of a chart: its columns at most, and rows of characters.
const (
	maxColumns = 60
	rows       = 4
)

// A Chart is how much was sent around an incident.
type Chart struct {
	From, To time.Time
	Step     int // minutes a column stands for
	Columns  []Column
	Stop     int   // the column in which the culprit was stopped; -1: none
	Most     int64 // of Tried in any column
	Others   int64 // likewise of the others' Sent
}

// A Column is what was sent a minute, rounded up. A column of which nothing is known is not drawn.
type Column struct {
	Known               bool
	Tried, Sent, Others int64
}

// newChart makes the chart of an incident; nil if nothing is known by the minute.
func newChart(i *incident.Incident) *Chart {
	m := &i.Minutes
	all := len(m.Tried)
	if all == 0 {
		return nil
	}
	c := &Chart{From: m.From, To: m.From.Add(time.Duration(all) * time.Minute), Step: (all + maxColumns - 1) / maxColumns, Stop: -1}
	for n := 0; n < all; n += c.Step {
		to := min(n+c.Step, all)
		column := Column{Tried: mean(m.Tried[n:to]), Sent: mean(m.Sent[n:to]), Others: mean(m.OthersSent[n:to])}
		column.Known = column.Tried >= 0
		c.Most, c.Others = max(c.Most, column.Tried, column.Sent), max(c.Others, column.Others)
		c.Columns = append(c.Columns, column)
	}
	if stopped := i.StoppedAt(); !stopped.IsZero() {
		if n, is := m.At(stopped); is {
			c.Stop = n / c.Step
		}
	}
	return c
}

// mean is that of the minutes that are known, rounded up; negative if none is.
func mean(all []int64) int64 {
	var sum, known int64
	for _, n := range all {
		if n >= 0 {
			sum, known = sum+n, known+1
		}
	}
	if known == 0 {
		return -1
	}
	return (sum + known - 1) / known
}

// Lines are the chart in characters: # was sent, . was refused, | is the stop.
func (c *Chart) Lines() []string {
	of := ""
	if c.Step > 1 {
		of = fmt.Sprintf(", each column %d minutes", c.Step)
	}
	label := max(len("others"), len(fmt.Sprint(c.Most)))
	lines := []string{fmt.Sprintf("%*s   %s to %s, # sent  . refused  | the stop%s", label+2, "sends/min", c.From.Local().Format("15:04"), c.To.Local().Format("15:04"), of)}
	for row := rows; row > 0; row-- {
		scale := ""
		if row == rows {
			scale = fmt.Sprint(c.Most)
		}
		lines = append(lines, fmt.Sprintf("%*s |%s", label, scale, c.row(row)))
	}
	lines = append(lines, fmt.Sprintf("%*s |%s", label, "0", c.axis()))
	return append(lines, fmt.Sprintf("%*s |%s  at most %d", label, "others", c.sparks(), c.Others))
}

// row is one row of characters: of those from 1 on, each column is as high as its part of Most.
func (c *Chart) row(row int) string {
	high := func(n int64) bool { return n > 0 && n*rows > c.Most*int64(row-1) }
	var b strings.Builder
	for n, column := range c.Columns {
		switch {
		case high(column.Sent):
			b.WriteByte('#')
		case high(column.Tried):
			b.WriteByte('.')
		case n == c.Stop:
			b.WriteByte('|')
		default:
			b.WriteByte(' ')
		}
	}
	return strings.TrimRight(b.String(), " ")
}

// axis is a line below all columns of which something is known.
func (c *Chart) axis() string {
	var b strings.Builder
	for n, column := range c.Columns {
		switch {
		case n == c.Stop:
			b.WriteByte('|')
		case column.Known:
			b.WriteByte('_')
		default:
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// sparks are what the others have sent.
func (c *Chart) sparks() string {
	heights := []rune(" ▁▂▃▄▅▆▇█")
	var b strings.Builder
	for _, column := range c.Columns {
		n := max(0, column.Others)
		b.WriteRune(heights[(n*8+max(1, c.Others)-1)/max(1, c.Others)])
	}
	return b.String()
}

// A sum is what was sent in all minutes that are known.
type sum struct {
	tried, sent, othersTried, othersSent int64
	afterTried, afterSent                int64 // of the culprit, in the minutes that began after it was stopped
	after                                bool  // there are some
}

func sumOf(i *incident.Incident) (s sum) {
	m, stopped := &i.Minutes, i.StoppedAt()
	for n := range m.Tried {
		if m.Tried[n] < 0 {
			continue
		}
		s.tried, s.sent = s.tried+m.Tried[n], s.sent+m.Sent[n]
		s.othersTried, s.othersSent = s.othersTried+m.OthersTried[n], s.othersSent+m.OthersSent[n]
		if at := m.From.Add(time.Duration(n) * time.Minute); !stopped.IsZero() && at.After(stopped) {
			s.after, s.afterTried, s.afterSent = true, s.afterTried+m.Tried[n], s.afterSent+m.Sent[n]
		}
	}
	return s
}

// began is the minute in which the culprit began to send; zero if it has sent in the first one that is
// known, or the one before that is not known.
func began(m *incident.Minutes) time.Time {
	for n, tried := range m.Tried {
		if tried > 0 {
			if n == 0 || m.Tried[n-1] < 0 {
				return time.Time{}
			}
			return m.From.Add(time.Duration(n) * time.Minute)
		}
	}
	return time.Time{}
}

// count is a number with commas: 18,420.
func count(n int64) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// Clock is the time of the day or, on another day than the first, with the date.
func Clock(at, first time.Time) string {
	at, first = at.Local(), first.Local()
	if at.Format(time.DateOnly) == first.Format(time.DateOnly) {
		return at.Format("15:04:05")
	}
	return at.Format(time.DateTime)
}

// until is a span between two times, for reading.
func until(from, to time.Time) string { return printable.Brief(to.Sub(from)) }
