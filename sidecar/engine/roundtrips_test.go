package engine_test

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/stop"
)

// background are the commands that a node sends whether or not it is asked anything, those of
// scripts by the operation.
var background = map[string]bool{"PING": true, "HELLO": true, "INFO": true, "CLIENT": true, "EVAL": true, "SUBSCRIBE": true, "since": true, "post": true, "put": true, "beat": true}

// monitor has Redis tell all commands from now on. What it returns adds up those until then, but
// for those of the background.
func (n *redisNodes) monitor(t *testing.T) (stop func() map[string]int) {
	nc, err := net.Dial("tcp", n.redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(hosttest.Patience()))
	in := bufio.NewReader(nc)
	if _, err := io.WriteString(nc, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := in.ReadString('\n'); line != "+OK\r\n" {
		t.Fatal(line, err)
	}
	return func() map[string]int {
		n.redis.Do("ECHO", "the end")
		commands := map[string]int{}
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, `"the end"`) {
				return commands
			}
			if name := commandOf(line); name != "" && !background[name] {
				commands[name]++
			}
		}
	}
}

var quoted = regexp.MustCompile(`"(?:[^"\\]|\\.)*"`)

// commandOf is the command in a line of MONITOR, of a script its operation, the first argument
// behind the keys; empty for what a script itself does.
func commandOf(line string) string {
	words := quoted.FindAllString(line, -1)
	if len(words) == 0 || strings.Contains(line, " lua] ") {
		return ""
	}
	for i := range words {
		words[i] = strings.Trim(words[i], `"`)
	}
	name := strings.ToUpper(words[0])
	if keys, err := strconv.Atoi(words[min(2, len(words)-1)]); name == "EVALSHA" && err == nil && len(words) > 3+keys {
		return words[3+keys]
	}
	return name
}

// Whether a question is accepted, over a limit or over what its author leaves to others, it costs
// one call of Redis. About who is stopped it costs none.
func TestADecisionIsOneCallOfRedis(t *testing.T) {
	week := newOffice(t, 100, "")
	week.now = monday
	week.week(5, append([]rate{{"eve", 4}}, colleagues...)...)
	n := newRedisNodes(t, "[limits]\nhourly = 100\n[limits.domain.\"small.example\"]\nhourly = 5\n")
	n.at(week.now)
	s := n.nodes[0]
	s.Who.LearnUsual(s.now, week.Who.Usual(week.now))
	s.stop(stop.Request{Scope: "bob@a.example"})

	ids := 0
	ask := func(stage sidecar.Stage, mailbox, to string) sidecar.Reply {
		ids++
		r := sidecar.Request{Stage: stage, Sender: mailbox, Submitter: sidecar.Submitter{Auth: mailbox, ClientAddress: "192.0.2.1"}, Recipient: to}
		if stage != sidecar.StageRcpt {
			r.ID = fmt.Sprintf("%s-%06d-0q", messageID(s.now)[:6], ids)
		}
		if stage == sidecar.StageData {
			r.Recipients, r.Recipient = to, ""
		}
		return s.Ask(t.Context(), s.now, r)
	}
	for _, c := range []struct {
		name, mailbox string
		stage         sidecar.Stage
		times         int
		refused       string // the text of the last refusal; empty: all are accepted
		calls         map[string]int
	}{
		{"looked at", "ann@b.example", sidecar.StageRcpt, 50, "", map[string]int{"look": 50}},
		{"accepted", "ann@b.example", sidecar.StageData, 50, "", map[string]int{"take": 50}},
		{"charged late", "ann@b.example", sidecar.StageRoute, 20, "", map[string]int{"take": 20}},
		{"over its share", "eve@a.example", sidecar.StageData, 100, "usually send", map[string]int{"take": 100}},
		{"over its share, looked at", "eve@a.example", sidecar.StageRcpt, 20, "usually send", map[string]int{"look": 20}},
		{"over the limit", "ann@small.example", sidecar.StageData, 20, "max emails per hour", map[string]int{"take": 20}},
		{"over the limit, looked at", "ann@small.example", sidecar.StageRcpt, 20, "max emails per hour", map[string]int{"look": 20}},
		{"over the limit, at the router", "ann@small.example", sidecar.StageRoute, 20, "max emails per hour", map[string]int{"take": 20}},
		{"stopped", "bob@a.example", sidecar.StageData, 20, "is stopped", map[string]int{}},
	} {
		stopped := n.monitor(t)
		var last string
		for i := range c.times {
			if reply := ask(c.stage, c.mailbox, fmt.Sprintf("u%d@far.example", i)); reply.Action != sidecar.Accept {
				last = reply.Text
			}
		}
		if got := stopped(); !maps.Equal(got, c.calls) {
			t.Errorf("%s: %d questions cost %v, want %v", c.name, c.times, got, c.calls)
		}
		if (c.refused == "") != (last == "") || !strings.Contains(last, c.refused) {
			t.Errorf("%s: refused with %q", c.name, last)
		}
	}
}
