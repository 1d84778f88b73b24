package eximconfig_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// A restart of the real sidecar:
//
//	client ─→ Exim ─→ sluice ─ SIGTERM, kill -9 ─→ sluice: the same counts
//	a policy client ─→ sluice ─ SIGTERM ─→ every question in flight is answered

func TestRestartKeepsTheCounts(t *testing.T) {
	t.Parallel()
	for _, signal := range []string{"TERM", "KILL"} {
		t.Run("SIG"+signal, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			limits := "[limits]\nhourly = 10\ndefer_cutoff = 1000"
			p := h.startSluice(t, limits)
			h.startExim(t)
			c := h.dial(t).Login("news@shop.example")
			c.Want(c.Send("news@shop.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 4)...), 250)
			p.stop(t, signal)
			h.startSluice(t, limits)
			c.Mail("news@shop.example")
			for _, rcpt := range numbered("r%d@far.example", 5, 10) {
				c.Want(c.Rcpt(rcpt), 250)
			}
			wantRefused(t, c.Rcpt("r11@far.example"), 450, hourlyText("shop.example", 11, 10, laterText))
			c.Want(c.Data(hosttest.Letter("x")), 250)
			hosttest.Eventually(t, "10 are delivered", func() bool { return h.sink.Count() == 10 })
		})
	}
}

// chargeQuestion is what Exim asks at DATA, for a message of one recipient.
func chargeQuestion(id string) string {
	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	return "request=sluice\nstage=data\nencoding=base64\nid=" + b64(id) +
		"\nsender=" + b64("news@shop.example") + "\nauth=" + b64("news@shop.example") +
		"\nclient_address=" + b64("192.0.2.1") + "\nrecipients=" + b64("x@far.example") + "\n\n"
}

func TestTermLosesNoAnswer(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	limits := "[limits]\nhourly = 1000000"
	p := h.startSluice(t, limits)

	var mu sync.Mutex
	answered := 0
	var lost []time.Time // when a question was written that got no answer
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			conn, err := net.Dial("unix", h.path(policySocket))
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(hosttest.Patience()))
			in := bufio.NewReader(conn)
			for i := 0; ; i++ {
				if _, err := io.WriteString(conn, chargeQuestion(fmt.Sprintf("client%d-%d", n, i))); err != nil {
					return
				}
				written := time.Now()
				line, err := in.ReadString('\n')
				mu.Lock()
				if err != nil {
					lost = append(lost, written)
					mu.Unlock()
					return
				}
				answered++
				mu.Unlock()
				if !strings.HasPrefix(line, "action=DUNNO") {
					t.Errorf("answered %q", line)
				}
				in.ReadString('\n')
				in.ReadString('\n')
			}
		})
	}
	hosttest.Eventually(t, "questions are answered", func() bool { mu.Lock(); defer mu.Unlock(); return answered > 200 })
	signalled := time.Now()
	p.stop(t, "TERM")
	wg.Wait()
	for _, at := range lost {
		if at.Before(signalled) {
			t.Error("a question of before SIGTERM got no answer")
		}
	}
	h.startSluice(t, limits)
	if got := h.status(t, "shop.example"); got.Sent < int64(answered) || got.Sent > int64(answered+len(lost)) {
		t.Errorf("%d charges were answered, %d more asked for, and %d are kept", answered, len(lost), got.Sent)
	}
}
