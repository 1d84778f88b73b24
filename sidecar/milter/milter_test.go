package milter

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// Who has logged in is reported at MAIL only; a refused recipient and a message that
// was aborted or sent are no reason to forget the connection.
func TestTwoMessagesOfOneConnection(t *testing.T) {
	a := &asker{replies: map[string]sidecar.Reply{
		"no@far.example": {Action: sidecar.Defer, Text: "21/20 (105%) later"},
		"x@here.example": {Local: true},
		"a@far.example, x@here.example, b@far.example, ": {Action: sidecar.Reject, Text: "never"},
	}}
	m := serve(t, a, Options{}).connect(t)
	mail := macros('M', "i", "Q1", "{auth_type}", "PLAIN", "{auth_authen}", "news@a.example") + frame('M', "<news@a.example>\x00SIZE=1\x00")
	m.say(mail, "c")
	m.say(macros('R', "{rcpt_host}", "far.example")+frame('R', "<a@far.example>\x00"), "c")
	m.say(macros('R')+frame('R', "<no@far.example>\x00"), "y450 4.7.1 21/20 (105%%) later\x00")
	m.say(frame('R', "<x@here.example>\x00")+frame('R', "<b@far.example>\x00"), "c", "c")
	m.say(macros('E', "i", "Q1")+frame('E', ""), "y550 5.7.1 never\x00")
	m.say(macros('M', "i", "Q2")+frame('M', "<>\x00")+frame('R', "<c@far.example>\x00"), "c", "c")
	m.say(frame('A', "")+macros('M', "i", "Q3")+frame('M', "<z@b.example>\x00")+frame('R', "<c@far.example>\x00")+frame('E', ""), "c", "c", "c")
	m.say(frame('Q', ""))
	if !m.unregister() {
		t.Error("open after QUIT")
	}
	base := sidecar.Request{Stage: sidecar.StageMilterRcpt, Submitter: sidecar.Submitter{ClientAddress: "192.0.2.17"}, Connection: sidecar.Connection{ClientPort: "4711"}}
	with := func(id, sender, auth, recipient string, sent int) sidecar.Request {
		r := base
		r.ID, r.Sender, r.Auth, r.Recipient, r.Sent = id, sender, auth, recipient, sent
		return r
	}
	end := with("Q1", "news@a.example", "news@a.example", "", 0)
	end.Stage, end.Recipients = sidecar.StageMilterEnd, "a@far.example, x@here.example, b@far.example, "
	end3 := with("Q3", "z@b.example", "", "", 0)
	end3.Stage, end3.Recipients = sidecar.StageMilterEnd, "c@far.example, "
	want := []sidecar.Request{
		with("Q1", "news@a.example", "news@a.example", "a@far.example", 0),
		with("Q1", "news@a.example", "news@a.example", "no@far.example", 1),
		with("Q1", "news@a.example", "news@a.example", "x@here.example", 1),
		with("Q1", "news@a.example", "news@a.example", "b@far.example", 1),
		end,
		with("Q2", "", "", "c@far.example", 0),
		with("Q3", "z@b.example", "", "c@far.example", 0),
		end3,
	}
	if d := cmp.Diff(want, a.questions()); d != "" {
		t.Error(d)
	}
}

// Who connects: by IPv4, by IPv6 as Postfix and as Sendmail write it, from
// sendmail, and by a unix socket.
func TestClients(t *testing.T) {
	for connect, want := range map[string]string{
		"h\x004\x12\x67192.0.2.1\x00":         "192.0.2.1 4711",
		"h\x006\x12\x672001:db8::1\x00":       "2001:db8::1 4711",
		"h\x006\x12\x67IPv6:2001:db8::1\x00":  "2001:db8::1 4711",
		"localhost\x004\x00\x00127.0.0.1\x00": " ",
		"localhost\x00L\x00\x00/run/s\x00":    " ",
		"localhost\x00U":                      " ",
		"localhost\x00U\x00\x00\x00":          " ",
	} {
		a := &asker{}
		m := serve(t, a, Options{}).dial(t)
		m.say(offers(6, all, all))
		m.read()
		m.say(frame('C', connect)+frame('M', "<a@b>\x00")+frame('R', "<c@d>\x00")+frame('E', ""), "c", "c", "c", "c")
		asked := a.questions()
		r := asked[len(asked)-1]
		if rcpts := len(asked) - 1; (rcpts == 1) != (r.ClientPort != "") || r.Recipients != "c@d, " {
			t.Errorf("%q: asked %+v", connect, asked)
		}
		if got := r.ClientAddress + " " + r.ClientPort; got != want {
			t.Errorf("%q: client %q, want %q", connect, got, want)
		}
	}
}

// setSymList is by what an MTA offers to send only the macros that it is asked for.
const setSymList = 0x100

// The version is the MTA's, and nothing is asked for that it does not know.
func TestVersions(t *testing.T) {
	s := serve(t, &asker{}, Options{})
	for _, offer := range [][3]uint32{{2, 0x3f, 0x7f}, {3, 0x3f, 0xff}, {6, 0x1ff, all}, {7, 0x1ff, 0xffffffff}} {
		m := s.dial(t)
		m.say(offers(offer[0], offer[1], offer[2]))
		got := m.read()
		version, actions, protocol := binary.BigEndian.Uint32([]byte(got[1:])), binary.BigEndian.Uint32([]byte(got[5:])), binary.BigEndian.Uint32([]byte(got[9:]))
		if got[0] != 'O' || version != min(offer[0], 6) || actions != setSymList&offer[1] || protocol != uint32(unwanted|unanswered)&offer[2] {
			t.Errorf("offered %v, answered %d %#x %#x", offer, version, actions, protocol)
		}
		if mail := "\x00\x00\x00\x02i {auth_authen}\x00"; strings.Contains(got[13:], mail) != (actions != 0) || actions == 0 && len(got) > 13 {
			t.Errorf("offered %v, asked for the macros %q", offer, got[13:])
		}
		// What an old MTA sends all the same is passed over.
		m.say(frame('H', "helo\x00")+frame('T', "")+frame('L', "Subject\x00\x00")+frame('N', "")+frame('B', "body")+frame('U', "NOSUCH\x00")+
			frame('E', ""), "c", "c", "c", "c", "c", "c", "c")
		m.say(frame('C', "h\x00U") + frame('M', "<a@b>\x00"))
		if offer[2]&uint32(unanswered) == 0 {
			m.say("", "c", "c")
		}
		m.say(frame('R', "<c@d>\x00")+frame('E', "")+frame('K', "")+frame('H', "helo\x00"), "c", "c", "c")
	}
}

func TestLongAndOddTexts(t *testing.T) {
	a := &asker{replies: map[string]sidecar.Reply{"a@b": {Action: sidecar.Reject, Text: "a\r\nb ü " + strings.Repeat("x", 1000)}}}
	m := serve(t, a, Options{}).connect(t)
	m.say(frame('M', "<>\x00"), "c")
	m.say(frame('R', "<a@b>\x00"), "y550 5.7.1 a  b ? "+strings.Repeat("x", maxText-7)+"\x00")
	a.replies["a@b"] = sidecar.Reply{Action: sidecar.Discard}
	m.say(frame('R', "<a@b>\x00"), "d")
	m.say(frame('R', "<panic@far.example>\x00"), "c")
}

// A stop ends what is idle first, and what is within a message behind it.
func TestDrain(t *testing.T) {
	s := serve(t, &asker{}, Options{DrainTimeout: 2 * hosttest.Patience()}) // which ends nothing here
	fresh, idle, within := s.dial(t), s.connect(t), s.connect(t)
	within.say(frame('M', "<a@b>\x00")+frame('R', "<c@d>\x00"), "c", "c")
	stopped := make(chan struct{})
	go func() { s.stop(); close(stopped) }()
	for _, m := range []*mta{fresh, idle} {
		if !m.unregister() {
			t.Error("an idle connection is left open")
		}
	}
	within.say(frame('R', "<e@f>\x00")+frame('E', ""), "c", "c")
	if !within.unregister() {
		t.Error("open after its message")
	}
	<-stopped
	if strings.Contains(s.log.String(), "stopped within messages") {
		t.Error(s.log.String())
	}
}

func TestDrainEnds(t *testing.T) {
	s := serve(t, &asker{}, Options{DrainTimeout: 50 * time.Millisecond})
	m := s.connect(t)
	m.say(frame('M', "<a@b>\x00"), "c")
	s.stop()
	if !m.unregister() || !strings.Contains(s.log.String(), "milter stopped within messages") {
		t.Error(s.log.String())
	}
}

// By the connection it is found whose program on this host the client is. That is kept for
// the connection, and no longer.
func TestConnectionOfTheClient(t *testing.T) {
	a := &asker{replies: map[string]sidecar.Reply{"first@far.example": {Socket: "uid:2001"}, "kept@far.example": {Socket: "uid:2001"}}}
	s := serve(t, a, Options{})
	const port = "\x12\x67" // 4711
	var want []sidecar.Connection
	for _, c := range []struct {
		macros, client string
		want           sidecar.Connection
	}{
		{macros('C', "{daemon_addr}", "192.0.2.25", "{daemon_port}", "25"), "4" + port + "192.0.2.25\x00", // Postfix
			sidecar.Connection{ClientPort: "4711", ServerAddress: "192.0.2.25", ServerPort: "25"}},
		{macros('C', "{if_addr}", "IPv6:2001:db8::7", "{daemon_addr}", "::", "{daemon_port}", "587"), "6" + port + "2001:db8::7\x00", // Sendmail
			sidecar.Connection{ClientPort: "4711", ServerAddress: "2001:db8::7", ServerPort: "587"}},
		{macros('C', "{daemon_addr}", "0.0.0.0", "{daemon_port}", "25"), "4" + port + "127.0.0.1\x00", // to its loopback
			sidecar.Connection{ClientPort: "4711", ServerAddress: "127.0.0.1", ServerPort: "25"}},
		{macros('C', "{daemon_addr}", "0.0.0.0", "{daemon_port}", "25"), "4" + port + "192.0.2.25\x00",
			sidecar.Connection{ClientPort: "4711", ServerPort: "25"}},
	} {
		m := s.dial(t)
		m.say(offers(6, all, all))
		m.read()
		m.say(c.macros+frame('C', "client.example\x00"+c.client), "c")
		m.say(frame('M', "<z@b.example>\x00")+frame('R', "<first@far.example>\x00")+frame('R', "<kept@far.example>\x00"), "c", "c", "c")
		m.say(frame('A', "")+frame('M', "<z@b.example>\x00")+frame('R', "<kept@far.example>\x00")+frame('A', ""), "c", "c")
		kept := c.want
		kept.Socket = "uid:2001"
		want = append(want, c.want, kept, kept)
	}
	var got []sidecar.Connection
	for _, r := range a.questions() {
		got = append(got, r.Connection)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}
