package eximconfig_test

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"io"
	"net"
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
	messages int  // in `make test`, if not 4: what comes and goes is to be met at every stage
}

var faults = []fault{
	{name: "not started", begin: func(*testing.T, *host) {}},
	{name: "killed, its socket file left", begin: func(t *testing.T, h *host) { h.startSluice(t, unlimited).stop(t, "KILL") }},
	{name: "stopped", begin: func(t *testing.T, h *host) { h.startSluice(t, unlimited).signal(t, "STOP") }, everyWay: true},
	{name: "flaps", begin: flap, messages: 16},
	{name: "its backlog is full", begin: fillBacklog},
	{name: "closes", begin: func(t *testing.T, h *host) { h.serve(t, func(net.Conn) {}) }},
	{name: "answers nothing", begin: answersAlways("")},
	{name: "answers half", begin: answersAlways("action=550 5.7.1 no\n"), everyWay: true},
	{name: "answers garbage", begin: answersAlways("\x00\xff\x01action=550 5.7.1 no\n\n${run{/bin/false}}\n")},
	{name: "answers 1 MB", begin: answersAlways("action=550 5.7.1 " + strings.Repeat("no ", 350_000) + "\n\n")},
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

func TestMailFirst(t *testing.T) {
	t.Parallel()
	m := newMailer(t, newHost(t))
	for _, f := range faults {
		t.Run(f.name, func(t *testing.T) { m.mailFlows(t, f) })
	}
}

// The other ways to ask, all of them under each fault in `make soak`.
func TestMailFirstOtherWays(t *testing.T) {
	for _, way := range []string{"tcp", "run"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			m := newMailer(t, newHostOf(t, "debian", way))
			for _, f := range faults {
				if f.everyWay || hosttest.Soak() {
					t.Run(f.name, func(t *testing.T) { m.mailFlows(t, f) })
				}
			}
		})
	}
}

// A mailer is a host on which one fault comes after the other. Its Exim waits for
// answers as long as on an operator's host.
type mailer struct {
	*host
	sent map[string]string // checksum of each body by the message's number
}

func newMailer(t *testing.T, h *host) *mailer {
	t.Helper()
	h.asShipped(t)
	h.addMacros(t, "queue_only\nremote_max_parallel = 10")
	h.startExim(t)
	return &mailer{h, map[string]string{}}
}

// mailFlows sends messages under a fault, half of them by SMTP and half by
// sendmail, and follows each into the spool and to the sink.
func (m *mailer) mailFlows(t *testing.T, f fault) {
	f.begin(t, m.host)
	messages := cmp.Or(f.messages, 4)
	if hosttest.Soak() {
		messages = 1000
	}
	spooled := map[string]string{}
	var c *hosttest.Client
	for i := range messages {
		number := fmt.Sprint(len(m.sent))
		message := "X-Number: " + number + "\nSubject: checksummed\n\n" + randomBody(i)
		spooled[number] = hosttest.BodySum([]byte(message))
		m.sent[number] = spooled[number]
		if i%2 == 0 {
			if i%8 == 0 { // up to four messages a connection
				quit(c)
				c = m.dial(t).Login("a@here.example")
			}
			c.Want(c.Send("a@here.example", message, "x@far.example", "y@far.example"), 250)
			hosttest.NotLonger(t, "a command", c.Slowest, deadlines[m.way]+slack)
			continue
		}
		if out, code := m.sendmail(t, alice, "", message, "-oi", "-f", "a@here.example", "x@far.example"); code != 0 || out != "" {
			t.Fatalf("sendmail: exit %d\n%s", code, out)
		}
	}
	quit(c)
	sameBodies(t, "in the spool", spooled, m.spooled(t))
	m.deliverAll(t)
	sameBodies(t, "at the sink", m.sent, delivered(m.sink))
	m.wantCleanLogs(t)
}

// quit ends a connection, if there is one.
func quit(c *hosttest.Client) {
	if c != nil {
		c.Want(c.Cmd("QUIT"), 221)
	}
}

// randomBody is a body with whatever a body may have, of very different sizes: the
// first four are of 40 bytes, 640, 10 KB and 160 KB.
func randomBody(i int) string {
	raw := make([]byte, 40<<(i*4%13))
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
