package eximconfig_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// Mail first: whatever becomes of the sidecar, mail flows.
//
//	client, sendmail ─→ Exim ─→ ✗ the sidecar: dead, hung, flapping, mad
//	                     ├─→ spool: the body as it was sent
//	                     └─→ sink:  the body as it was sent

// A fault is one way in which a sidecar can fail. It begins when it is called
// and lasts until its test ends.
type fault struct {
	name     string
	begin    func(t *testing.T, h *host)
	everyWay bool // tried in each way to ask in `make test` too
}

var faults = []fault{
	{"not started", func(*testing.T, *host) {}, false},
	{"killed, its socket file left", func(t *testing.T, h *host) { h.startSluice(t, unlimited).stop(t, "KILL") }, false},
	{"stopped", func(t *testing.T, h *host) { h.startSluice(t, unlimited).signal(t, "STOP") }, true},
	{"flaps", flap, false},
	{"its backlog is full", fillBacklog, false},
	{"closes", func(t *testing.T, h *host) { h.serve(t, func(net.Conn) {}) }, false},
	{"answers nothing", answersAlways(""), false},
	{"answers half", answersAlways("action=550 5.7.1 no\n"), true},
	{"answers garbage", answersAlways("\x00\xff\x01action=550 5.7.1 no\n\n${run{/bin/false}}\n"), false},
	{"answers 1 MB", answersAlways("action=550 5.7.1 " + strings.Repeat("no ", 350_000) + "\n\n"), false},
}

// answersAlways reads a question and writes the same reply to each.
func answersAlways(reply string) func(*testing.T, *host) {
	return func(t *testing.T, h *host) {
		h.serve(t, func(c net.Conn) {
			buf := make([]byte, 1<<20)
			if _, err := c.Read(buf); err == nil {
				io.WriteString(c, reply)
			}
		})
	}
}

// fillBacklog listens and connects until the kernel takes no more connections.
func fillBacklog(t *testing.T, h *host) {
	l := h.serve(t, nil).listener
	shrinkBacklog(t, l.(syscall.Conn), 1)
	for range 100 {
		d := net.Dialer{Timeout: 50 * time.Millisecond}
		c, err := d.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			return
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("the backlog does not fill up")
}

// flap has a sidecar that lives 200 ms and is dead 200 ms, in turns; it is
// killed, and leaves its socket file.
func flap(t *testing.T, h *host) {
	h.startSluice(t, unlimited).stop(t, "KILL")
	loop := `while [ ! -e /run/stop ]; do timeout --foreground -s KILL 0.2 "$@"; sleep 0.2; done`
	p := h.start(t, append([]string{"sh", "-c", loop, "sh"}, h.sluice(t, "serve")...)...)
	t.Cleanup(func() {
		h.write(t, "/run/stop", "")
		<-p.ended
	})
}

const unlimited = "[limits]\nhourly = 0"

// deadline is Exim's for one question, and slack what a busy machine may add.
const (
	deadline = 300 * time.Millisecond
	slack    = 200 * time.Millisecond
)

// messagesPerFault is 20, or 1000 in `make soak`.
func messagesPerFault() int {
	if os.Getenv("SLUICE_SOAK") == "1" {
		return 1000
	}
	return 20
}

func TestMailFirst(t *testing.T) {
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { mailFlows(t, newHost(t), f.begin) })
	}
}

// The other ways to ask, all of them under each fault in `make soak`.
func TestMailFirstOtherWays(t *testing.T) {
	for _, f := range faults {
		for _, way := range []string{"tcp", "run"} {
			if f.everyWay || os.Getenv("SLUICE_SOAK") == "1" {
				t.Run(way+": "+f.name, func(t *testing.T) { mailFlows(t, newHostOf(t, "debian", way), f.begin) })
			}
		}
	}
}

// mailFlows sends messages under a fault, half of them by SMTP and half by
// sendmail, and follows each into the spool and to the sink.
func mailFlows(t *testing.T, h *host, begin func(*testing.T, *host)) {
	h.addMacros(t, "queue_only\nremote_max_parallel = 10")
	h.startExim(t)
	begin(t, h)

	want := map[string]string{} // checksum of each body by the message's number
	var c *hosttest.Client
	for i := range messagesPerFault() {
		number := fmt.Sprint(i)
		message := "X-Number: " + number + "\nSubject: checksummed\n\n" + randomBody(i)
		want[number] = hosttest.BodySum([]byte(message))
		if i%2 == 0 {
			if i%8 == 0 { // four messages a connection
				if c != nil {
					c.Want(c.Cmd("QUIT"), 221)
				}
				c = h.dial(t).Login("a@here.example")
			}
			c.Want(c.Send("a@here.example", message, "x@far.example", "y@far.example"), 250)
			if c.Slowest > deadlines[h.way]+slack {
				t.Errorf("a command took %v", c.Slowest)
			}
			continue
		}
		if out, code := h.sendmail(t, alice, "", message, "-oi", "-f", "a@here.example", "x@far.example"); code != 0 || out != "" {
			t.Fatalf("sendmail: exit %d\n%s", code, out)
		}
	}
	sameBodies(t, "in the spool", want, h.spooled(t))
	h.deliverAll(t)
	sameBodies(t, "at the sink", want, delivered(h.sink))
	h.wantCleanLogs(t)
}

// randomBody is a body with whatever a body may have, of very different sizes.
func randomBody(i int) string {
	raw := make([]byte, 40<<(i%13))
	rand.Read(raw)
	var b strings.Builder
	for line := range bytes.SplitSeq([]byte(base64.StdEncoding.EncodeToString(raw)), []byte("A")) {
		fmt.Fprintf(&b, ".%s \xe4\xc3\xa4\n", line[:min(len(line), 900)])
	}
	return b.String() + ".\n..\nFrom here.\n"
}

// spooled are the checksums of the bodies in Exim's spool, by number.
func (h *host) spooled(t *testing.T) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, id := range h.queue() {
		base := "/var/spool/exim4/input/" + id
		number := regexp.MustCompile(`X-Number: (\d+)`).FindStringSubmatch(h.read(base + "-H"))
		first, body, _ := strings.Cut(h.read(base+"-D"), "\n")
		if number == nil || first != id+"-D" {
			t.Errorf("%s is no message of ours in the spool: %q", id, first)
			continue
		}
		sums[number[1]] = hosttest.BodySum([]byte("\n\n" + body))
	}
	return sums
}

// deliverAll has Exim deliver what is in the queue, by four processes at a time.
func (h *host) deliverAll(t *testing.T) {
	t.Helper()
	ids := h.queue()
	free := make(chan bool, 4)
	var runners sync.WaitGroup
	for part := range slices.Chunk(ids, min(1+len(ids)/4, 20)) {
		free <- true
		runners.Go(func() {
			defer func() { <-free }()
			if out, code := h.try(t, append([]string{"exim4", "-Mc"}, part...)...); code != 0 {
				t.Errorf("deliver: exit %d\n%s", code, out)
			}
		})
	}
	runners.Wait()
}

// delivered are the checksums of the bodies at a sink, by number.
func delivered(s *hosttest.Sink) map[string]string {
	sums := map[string]string{}
	for _, m := range s.Received() {
		sums[m.Header("X-Number")] = m.Sum
	}
	return sums
}

func sameBodies(t *testing.T, where string, want, got map[string]string) {
	t.Helper()
	for number, sum := range want {
		switch got[number] {
		case sum:
		case "":
			t.Errorf("message %s is not %s", number, where)
		default:
			t.Errorf("message %s is altered %s", number, where)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d messages are %s, want %d", len(got), where, len(want))
	}
}

// logLine is all that the main log of these tests has.
var logLine = regexp.MustCompile(`^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (` +
	`exim \S+ daemon started: .*` +
	`|\w{6}-(\w{6}-\w\w|\w{11}-\w{4}) (` +
	`<= a@here\.example (H=|U=alice P=local ).*` +
	`|[=-]> [xy]@far\.example R=site_remote T=remote_smtp H=.*` +
	`|Completed))$`)

func (h *host) wantCleanLogs(t *testing.T) {
	t.Helper()
	for line := range strings.Lines(h.mainlog()) {
		if !logLine.MatchString(strings.TrimSuffix(line, "\n")) {
			t.Errorf("in the main log: %q", line)
		}
	}
	if log := h.read("/var/log/exim4/paniclog"); log != "" {
		t.Errorf("panic log:\n%s", log)
	}
	if left, _ := filepath.Glob(h.path("/var/spool/exim4/input") + "/*"); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
}
