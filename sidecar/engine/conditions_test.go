package engine

import (
	"strings"
	"testing"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
)

// What status shows of a node is told too, when it lasts, and its end.
func TestWhatStatusShowsIsTold(t *testing.T) {
	differs := func(age float64) (m operator.Measures) {
		m.Shared = &operator.SharedStatus{Nodes: []operator.NodeStatus{{Node: "mx1"}, {Node: "mx2", Differs: true, SignAge: age}}}
		return m
	}
	behind := func(bytes int64, trouble string) (m operator.Measures) {
		m.Logs = []logline.Progress{{File: "/var/log/exim4/mainlog", Read: 100, Size: 100 + bytes, Trouble: trouble}}
		return m
	}
	decided := func(late, accepted int64) (m operator.Measures) {
		m.Late, m.Accepted = late, accepted
		return m
	}
	fine := func(int) operator.Measures { return operator.Measures{} }
	for name, c := range map[string]struct {
		is       func(minute int) operator.Measures
		minutes  int
		told     string
		finally  func(minute int) operator.Measures
		finished string
	}{
		"a node differs":                   {func(int) operator.Measures { return differs(1) }, 6, "nodes-differ", fine, "nodes-agree"},
		"a node differs for a moment":      {func(int) operator.Measures { return differs(1) }, 5, "", fine, ""},
		"a node that is silent differs":    {func(int) operator.Measures { return differs(60) }, 20, "", fine, ""},
		"the log is far behind":            {func(int) operator.Measures { return behind(farBehind+1, "") }, 6, "log-behind", fine, "log-not-behind"},
		"the log is behind":                {func(int) operator.Measures { return behind(farBehind, "") }, 20, "", fine, ""},
		"the log cannot be read":           {func(int) operator.Measures { return behind(farBehind+1, "permission denied") }, 20, "", fine, ""},
		"nobody asks":                      {func(m int) operator.Measures { return decided(int64(m), 7) }, 66, "unasked", func(int) operator.Measures { return decided(99, 8) }, "asked"},
		"nobody asks, and not yet an hour": {func(m int) operator.Measures { return decided(int64(m), 7) }, 64, "", fine, ""},
		"nobody asks, and little is sent":  {func(m int) operator.Measures { return decided(int64(m)*19/60, 7) }, 200, "", fine, ""},
		"it was down, and at night":        {func(m int) operator.Measures { return decided(min(int64(m)*200, 500), 7) }, 200, "", fine, ""},
		"the log is read up only later": {func(m int) operator.Measures {
			all := decided(min(int64(m)*20, 600), 7)
			if m <= 30 {
				all.Logs = behind(readUp+1, "").Logs
			}
			return all
		}, 200, "", fine, ""},
		"forwards are counted late, others": {func(m int) operator.Measures { return decided(int64(m), int64(m/50)) }, 200, "", fine, ""},
	} {
		var told []string
		c1 := &conditions{since: map[event.Kind]time.Time{}, emitted: map[event.Kind]bool{},
			events: event.Func(func(e event.Event) { told = append(told, string(e.Kind)) })}
		now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
		pass := func(minute int, is func(int) operator.Measures) {
			c1.measures = func(time.Time) operator.Measures { return is(minute) }
			c1.tick(now)
			c1.tick(now.Add(time.Second)) // it looks once a minute
			now = now.Add(time.Minute)
		}
		for m := range c.minutes {
			pass(m, c.is)
		}
		if got := strings.Join(told, " "); got != c.told {
			t.Errorf("%s: told %q, want %q", name, got, c.told)
		}
		told = nil
		pass(c.minutes, c.finally)
		if got := strings.Join(told, " "); got != c.finished {
			t.Errorf("%s: at the end told %q, want %q", name, got, c.finished)
		}
	}
}
