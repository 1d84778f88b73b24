package milter

import (
	"io"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// recorded is a session of Postfix with two messages.
var recorded = offers(6, all, all) +
	macros('C', "j", "pf.example", "{daemon_name}", "pf.example") + frame('C', "client.example\x004\x12\x67192.0.2.17\x00") +
	macros('M', "i", "Q1", "{auth_authen}", "news@a.example") + frame('M', "<news@a.example>\x00SIZE=1\x00") +
	macros('R', "{rcpt_host}", "far.example") + frame('R', "<a@far.example>\x00") + frame('R', "<b@far.example>\x00") +
	macros('E', "i", "Q1") + frame('E', "") +
	frame('A', "") + macros('M', "i", "Q2") + frame('M', "<>\x00") + frame('R', "<c@far.example>\x00") + frame('E', "") + frame('Q', "")

func TestHostileFrames(t *testing.T) { synctest.Test(t, hostileFrames) }

func hostileFrames(t *testing.T) {
	s := servePipes(t, &asker{})
	negotiated := offers(6, all, all)
	for name, raw := range map[string]string{
		"of length zero":        "\x00\x00\x00\x00",
		"of 4 GB":               "\xff\xff\xff\xffO",
		"of 4 GB, later":        negotiated + "\xff\xff\xff\xffM",
		"just too large":        negotiated + "\x00\x02\x00\x01B" + strings.Repeat("x", maxFrame),
		"half a length":         negotiated + "\x00\x00",
		"half a frame":          negotiated + "\x00\x00\x00\x10M<a@b>",
		"no negotiation":        frame('M', "<a@b>\x00"),
		"two negotiations":      negotiated + negotiated,
		"a short negotiation":   frame('O', "\x00\x00\x00\x06"),
		"version 1":             offers(1, all, all),
		"unknown command":       negotiated + frame('Z', ""),
		"NUL command":           negotiated + frame(0, ""),
		"empty connect":         negotiated + frame('C', ""),
		"connect, only a host":  negotiated + frame('C', "host\x00"),
		"connect without NUL":   negotiated + frame('C', "host"),
		"connect, no address":   negotiated + frame('C', "host\x004\x12\x67"),
		"connect, half a port":  negotiated + frame('C', "host\x006\x12"),
		"connect, open address": negotiated + frame('C', "host\x004\x12\x67192.0.2.1"),
		"connect, odd family":   negotiated + frame('C', "host\x009\x12\x67192.0.2.1\x00"),
		"empty sender":          negotiated + frame('M', ""),
		"sender without NUL":    negotiated + frame('M', "<a@b>"),
		"empty recipient":       negotiated + frame('R', ""),
		"empty macros":          negotiated + frame('D', ""),
		"macros without NUL":    negotiated + frame('D', "Mi\x00Q1"),
		"macros without end":    negotiated + strings.Repeat(macros('M', "i", "Q1"), 1000),
		"one byte":              "\x00",
		"HTTP":                  "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
	} {
		m := s.dial(t)
		go io.WriteString(m, raw)
		if stayed := m.stays(); stayed > 10*time.Second {
			t.Errorf("a frame with %s: the connection stays for %v", name, stayed)
		}
	}
	if !strings.Contains(s.log.String(), "milter connection closed") {
		t.Error("nothing was said of it")
	}
	served := s.connect(t)
	served.say(frame('M', "<a@b>\x00")+frame('R', "<c@d>\x00"), "c", "c")
}

// The connection is cut at every byte of a session.
func TestConnectionCutAtEveryByte(t *testing.T) {
	s := serve(t, &asker{replies: map[string]sidecar.Reply{"b@far.example": {Action: sidecar.Defer, Text: "later"}}}, Options{})
	for n := range len(recorded) + 1 {
		m := s.dial(t)
		io.WriteString(m, recorded[:n])
		m.Conn.(*net.UnixConn).CloseWrite()
		if !m.unregister() {
			t.Fatalf("cut after %d bytes: the connection stays", n)
		}
	}
	hosttest.Eventually(t, "no connection is left", func() bool { return s.Open() == 0 })
	served := s.connect(t)
	served.say(frame('M', "<a@b>\x00")+frame('R', "<c@d>\x00"), "c", "c")
}

// A client that drips, one that is silent, and one that does not read.
func TestSlowClients(t *testing.T) { synctest.Test(t, slowClients) }

func slowClients(t *testing.T) {
	s := servePipes(t, &asker{})
	drips := s.connect(t)
	go func() {
		for _, b := range []byte(frame('M', strings.Repeat("x", 1000)+"\x00")) {
			if _, err := drips.Write([]byte{b}); err != nil {
				return
			}
			time.Sleep(50 * time.Millisecond)
		}
	}()
	stayed := map[string]time.Duration{"dripping": drips.stays(), "silent": s.dial(t).stays(), "idle": s.connect(t).stays()}
	deaf, began := s.connect(t), time.Now()
	if _, err := io.WriteString(deaf, strings.Repeat(frame('H', "x\x00"), 1000)); err == nil {
		t.Error("all answers were read of a client that reads none")
	}
	stayed["deaf"] = time.Since(began)
	want := map[string]time.Duration{"dripping": 10 * time.Second, "silent": 10 * time.Second, "deaf": 10 * time.Second, "idle": 70 * time.Minute}
	if diff := cmp.Diff(want, stayed); diff != "" {
		t.Errorf("how long clients stay: -want +got:\n%s", diff)
	}
}

// 5,000 sessions wait, and others are served; what is too many is turned away.
func TestFiveThousandIdleSessions(t *testing.T) {
	s := serve(t, &asker{}, Options{MaxConns: 5001})
	for range 5000 {
		s.connect(t)
	}
	m := s.connect(t)
	start := time.Now()
	for range 100 {
		m.say(frame('M', "<a@b>\x00")+frame('R', "<c@d>\x00")+frame('E', ""), "c", "c", "c")
	}
	hosttest.NotLonger(t, "100 messages", time.Since(start), 5*time.Second)
	crowd := s.dial(t)
	if !crowd.unregister() || !strings.Contains(s.log.String(), "at their maximum") {
		t.Error("one too many is let in")
	}
	s.stop()
	if strings.Contains(s.log.String(), "milter stopped within messages") {
		t.Error("idle sessions were waited for until the end of the drain")
	}
}

// FuzzSession: whatever comes, the server answers in whole frames, ends the
// connection when the client does, and has the library log nothing.
func FuzzSession(f *testing.F) {
	f.Add([]byte(recorded))
	f.Add([]byte(offers(6, all, all) + frame('C', "h\x006\x12\x67IPv6:::1\x00") + frame('M', "<>\x00")))
	f.Add([]byte(offers(2, all, all) + frame('C', "h\x00L\x00\x00/s\x00") + frame('L', "a\x00") + frame('U', "x\x00") + frame('K', "")))
	s := serve(f, &asker{}, Options{})
	f.Fuzz(func(t *testing.T, raw []byte) {
		m := s.dial(t)
		go func() {
			m.Write(raw)
			m.Conn.(*net.UnixConn).CloseWrite()
		}()
		for {
			if _, err := readFrame(m); err != nil {
				if err != io.EOF && !strings.Contains(err.Error(), "reset by peer") {
					t.Fatal(err)
				}
				break
			}
		}
		if said := libraryLog.String(); said != "" {
			t.Fatal(said)
		}
	})
}
