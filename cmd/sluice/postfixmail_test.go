package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// many lets nearly all pass, so that what is counted shows.
const many = `
[identity]
owners = ""
main_domains = ""
relay = ["127.0.0.1"]
[limits]
hourly = 1000
deferfail_percent = 0
[limits.domain."tiny.example"]
hourly = 2
[limits.domain."shop.example"]
hourly = 20
`

// A limit of 20, and each kind of message, by every way, and what it counts:
//
//	client, sendmail -> Postfix -> sluice
func TestPostfixCountsEachOnce(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			blocks := way.blocks
			if blocks[len(blocks)-1] != "milter" {
				blocks = append(blocks[:len(blocks):len(blocks)], "sendmail")
			}
			h := postfixSite{charge: way.charge, limits: many, blocks: blocks}.start(t)
			h.startSluice(t)
			h.limitOfTwenty(t)
			h.Login(t, "news", "auth.example")

			h.Dial(t).Login("news@auth.example").Send("other@unlisted.example", hosttest.Letter("x"), recipients(1, 3)...)
			h.wantSent(t, "auth.example", 3)
			h.wantSent(t, "unlisted.example", 0)

			c := h.Dial(t)
			c.Write("MAIL FROM:<a@pipe.example>\r\nRCPT TO:<p1@far.example>\r\nRCPT TO:<p2@far.example>\r\nRCPT TO:<alice@here.example>\r\nDATA\r\n")
			for _, code := range []int{250, 250, 250, 250, 354} {
				c.Want(c.Reply(), code)
			}
			c.Write("Subject: x\r\n\r\nx\r\n.\r\nMAIL FROM:<a@pipe.example>\r\nRCPT TO:<p3@far.example>\r\nRSET\r\n")
			for range 4 {
				c.Want(c.Reply(), 250)
			}
			aborted := int64(0)
			if way.charge == atRcpt {
				aborted = 1 // what is let pass is charged
			}
			h.wantSent(t, "pipe.example", 2+aborted)

			c.Mail("a@tiny.example")
			for i, code := range []int{250, 501, 250, 550, 550, 250} {
				c.Want(c.Rcpt([]string{"t1@far.example", "<<", "t2@far.example", "t3@far.example", "t4@far.example", "alice@here.example"}[i]), code)
			}
			c.Want(c.Data(hosttest.Letter("x")), 250)
			h.wantSent(t, "tiny.example", 2)

			c.Want(c.Send("a@hundred.example", hosttest.Letter("x"), recipients(1, 100)...), 250)
			h.wantSent(t, "hundred.example", 100)

			c.Mail("a@bdat.example")
			c.Want(c.Rcpt("b1@far.example"), 250)
			c.Want(c.Cmd("BDAT 14\r\nSubject: x\r\n"), 250)
			c.Want(c.Cmd("BDAT 3 LAST\r\nx"), 250)
			h.wantSent(t, "bdat.example", 1)

			for range 3 { // on one connection
				c.Want(c.Send("a@many.example", hosttest.Letter("x"), "m@far.example", "m@far.example"), 250)
			}
			h.wantSent(t, "many.example", 3) // Postfix delivers once to one that is named twice

			if out, code := h.Sendmail(t, "Subject: x\n\nx\n", "-f", "www@local.example", "s1@far.example", "s2@far.example", "alice@here.example"); code != 0 {
				t.Errorf("sendmail: exit %d\n%s", code, out)
			}
			h.wantSent(t, "local.example", 2)
		})
	}
}

// wantSent waits until so many sends of a domain are counted.
func (n *servedNode) wantSent(t testing.TB, domain string, want int64) {
	t.Helper()
	var got int64
	hosttest.EventuallyOr(t, func() string { return fmt.Sprintf("%d sends of %s counted, want %d", got, domain, want) },
		func() bool { got = n.domain(t, domain).Sent; return got == want })
}

// While sluice is killed, hung or flapping, all mail flows; in the soak, no later than
// the page says.
func TestPostfixMailFirst(t *testing.T) {
	for _, way := range []struct {
		name   string
		blocks []string
		slow   time.Duration // a message with three recipients, when sluice hangs
	}{
		{"policy service", []string{"policy", "end-of-message", "sendmail"}, 6 * time.Second},
		{"milter", []string{"milter"}, 4 * time.Second},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			h := postfixSite{charge: atEnd, limits: many, blocks: way.blocks, hurried: true}.start(t)
			writeFile(t, h.Path("/run/sluice.toml"), h.config)
			sent := 0
			defer throughTrouble(t, h.Path("/run/sluice.toml"), way.slow, func(what string, atMost time.Duration) {
				t.Helper()
				began := time.Now()
				c := h.Dial(t)
				c.Want(c.Send("a@first.example", hosttest.Letter("x"), recipients(sent+1, sent+3)...), 250)
				if out, code := h.Sendmail(t, "Subject: x\n\nx\n", "-f", "www@first.example", fmt.Sprintf("u%d@far.example", sent+4)); code != 0 {
					t.Errorf("%s: sendmail: exit %d\n%s", what, code, out)
				}
				hosttest.NotLonger(t, what+": a message", time.Since(began), atMost)
				sent += 4
				hosttest.Eventually(t, what+": delivered", func() bool { return h.Sink.Count() == sent })
			})()
			h.servedNode = &servedNode{dir: h.Path("/run"), log: &hosttest.Log{}}
			h.wantOutcomes(t, "first.example", int64(sent), int64(sent), 0, 0) // the log charges what was missed
		})
	}
}

// throughTrouble has mail sent while sluice is down, hung, killed and flapping. At
// the end it runs; what is returned stops it.
func throughTrouble(t *testing.T, config string, slow time.Duration, send func(what string, atMost time.Duration)) (stop func()) {
	t.Helper()
	const fast = 2 * time.Second
	binary := buildSluice(t)
	send("never started", fast)
	p, kill := startProcess(t, binary, config)
	send("running", fast)
	p.Signal(syscall.SIGSTOP)
	send("hung", slow)
	kill()
	send("killed", fast)
	for range 3 {
		_, kill = startProcess(t, binary, config)
		send("flapping, up", fast)
		kill()
		send("flapping, down", fast)
	}
	_, kill = startProcess(t, binary, config)
	return kill
}

// startProcess starts a sluice in a process of its own, which kill ends.
func startProcess(t *testing.T, binary, config string) (p *os.Process, kill func()) {
	t.Helper()
	cmd := exec.Command(binary, "serve", "--config", config)
	log := &hosttest.Log{}
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := hosttest.Guard(t, cmd.Process)
	hosttest.Eventually(t, "serving", func() bool { return strings.Contains(log.String(), "msg=serving") })
	return cmd.Process, func() { end(); cmd.Wait() }
}

// Debian's miltertest, as Postfix and Sendmail speak: with each version and state.
func TestMiltertest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startServeWith(t, dir, strings.Replace(serveConfig(dir), "[listen]\n", "[listen]\nmilter = [\"unix:"+dir+"/run/milter.sock\"]\n", 1))
	script, err := filepath.Abs("../../testdata/miltertest/session.lua")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), hosttest.Program(t, "miltertest"), "-s", script, "-D", "socket=unix:"+dir+"/run/milter.sock")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("%v\n%s", err, &out)
	}
	if d := n.domain(t, "lua.example"); d.Sent != 10 {
		t.Errorf("%d counted, want 10", d.Sent)
	}
}

// Mail from sendmail over the limit waits in Postfix's maildrop, and leaves when the
// domain is released.
func TestPostfixSendmailOverTheLimit(t *testing.T) {
	t.Parallel()
	h := postfixSite{charge: atEnd, limits: many, blocks: []string{"sendmail"}}.start(t)
	h.startSluice(t)
	for i := 1; i <= 5; i++ {
		to := []string{fmt.Sprintf("u%d@far.example", i), "alice@here.example"}
		if out, code := h.Sendmail(t, "Subject: x\n\nx\n", append([]string{"-f", "www@tiny.example"}, to...)...); code != 0 {
			t.Errorf("message %d: exit %d\n%s", i, code, out)
		}
		if i <= 2 { // one after the other: pickup takes them as it finds them
			hosttest.Eventually(t, "charged", func() bool { return h.sent(t, "tiny.example") == int64(i) })
		}
	}
	hosttest.Eventually(t, "refused", func() bool { return strings.Count(h.Postfix.Log(), "milter-reject: END-OF-MESSAGE") >= 3 })
	if log := h.Postfix.Log(); strings.Contains(log, "configuration error") || !strings.Contains(log, "4.7.1 Domain tiny.example has exceeded the max emails per hour (") {
		t.Error("the log does not explain it")
	}
	if got := h.Sink.Recipients(); len(got) != 2 {
		t.Errorf("%v delivered, want two", got)
	}
	if out, code := h.sluice(t, "reset", "tiny.example"); code != exitDone {
		t.Fatalf("reset: exit %d\n%s", code, out)
	}
	// pickup looks by itself once a minute. postkick writes twice, and dies of SIGPIPE
	// where pickup has hung up after the first: so it is not asked how it went.
	hosttest.Eventually(t, "two more", func() bool {
		h.Try(t, "", "postkick", "public", "pickup", "W")
		return h.Sink.Count() == 4
	})
	if got := h.sent(t, "tiny.example"); got != 2 {
		t.Errorf("%d counted, want 2", got)
	}
}

// A limit that is watched is logged by Postfix and refuses nobody; where it is
// configured, what is over the limit is taken and dropped.
func TestPostfixWarnsAndDiscards(t *testing.T) {
	t.Parallel()
	h := postfixSite{charge: atRcpt, blocks: []string{"policy"}, limits: `
[identity]
relay = ["127.0.0.1"]
[limits.domain."watched.example"]
hourly = 1
mode = "watch"
[limits.domain."dropped.example"]
hourly = 1
over_limit = "discard"
`}.start(t)
	h.startSluice(t)
	c := h.Dial(t)
	for _, from := range []string{"a@watched.example", "a@watched.example", "a@dropped.example", "a@dropped.example"} {
		c.Want(c.Send(from, hosttest.Letter("x"), strings.Replace(from, "a@", "u@far-", 1)), 250)
	}
	hosttest.Eventually(t, "three delivered", func() bool {
		return slices.Equal(h.Sink.Recipients(), []string{"u@far-dropped.example", "u@far-watched.example", "u@far-watched.example"})
	})
	for _, want := range []string{"warn: RCPT from", "Domain watched.example has exceeded the max emails (", "discard: RCPT from", "Domain dropped.example has exceeded the max emails per hour (2/1 (200%)) allowed."} {
		if !strings.Contains(h.Postfix.Log(), want) {
			t.Errorf("the log does not say %q", want)
		}
	}
	h.wantSent(t, "dropped.example", 1)
}
