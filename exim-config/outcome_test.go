package eximconfig_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"sluice/sidecar"
	"sluice/sidecar/hosttest"
)

// What became of mail, with the real sidecar:
//
//	sendmail, client ─→ Exim ─→ grim sinks: 4xx, 5xx, nobody there, dropped, silent
//	                      ├─→ main log ─→ sluice: delivered, deferred, failed of sent
//	                      │                  └─ too many ─→ max_deferfail_DOMAIN
//	client, queue ←─ 550, hold ←─────────────────────────────┘

// A grim sink is a mail server that answers commands as it is told: by MAIL,
// RCPT, DATA, "." for the end of a message and "" for the greeting. All others
// it takes. It hangs up for "drop", and says nothing more for "hang".
type grim map[string]string

// listen serves until the test ends and returns the sink's route.
func (g grim) listen(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { g.serve(conn) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		wg.Wait()
	})
	return fmt.Sprintf("127.0.0.1::%d", l.Addr().(*net.TCPAddr).Port)
}

func (g grim) serve(conn net.Conn) {
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(hosttest.Patience()))
	in := bufio.NewReader(conn)
	verb, usual := "", "220 grim.example"
	for {
		answer, told := g[verb]
		if !told {
			answer = usual
		}
		switch answer {
		case "drop":
			return
		case "hang":
			io.Copy(io.Discard, in)
			return
		}
		fmt.Fprintf(conn, "%s\r\n", answer)
		line, err := in.ReadString('\n')
		for body := verb == "DATA" && answer[0] == '3'; body && err == nil && line != ".\r\n"; {
			line, err = in.ReadString('\n')
		}
		if err != nil {
			return
		}
		verb, usual = strings.ToUpper(strings.Fields(line + " .")[0]), "250 fine"
		if verb == "DATA" {
			usual = "354 go on"
		}
	}
}

// A tally is what status shows of a domain's outcomes.
type tally struct {
	Sent, Delivered, Deferred, Failed int64
	Cause                             sidecar.Cause // the most frequent, of bad ones
}

// tallies are those of all domains that have sent.
func (h *host) tallies(t testing.TB) map[string]tally {
	t.Helper()
	all := map[string]tally{}
	s := h.all(t)
	for _, sc := range s.Scopes {
		if sidecar.IsSpecial(sc.Scope) && sc.Sent > 0 {
			all[sc.Scope] = tally{Sent: sc.Sent, Delivered: sc.Delivered, Deferred: sc.Deferred, Failed: sc.Failed}
		}
	}
	for _, d := range s.Domains {
		y := tally{Sent: d.Sent, Delivered: d.Delivered, Deferred: d.Deferred, Failed: d.Failed}
		if len(d.Causes) > 0 {
			y.Cause = d.Causes[0].Cause
		}
		if y != (tally{}) {
			all[d.Domain] = y
		}
	}
	return all
}

// wantTallies waits until status shows them, and nothing else.
func (h *host) wantTallies(t testing.TB, when string, want map[string]tally) {
	t.Helper()
	var got map[string]tally
	for end := time.Now().Add(hosttest.Patience()); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if got = h.tallies(t); cmp.Equal(got, want) {
			return
		}
	}
	t.Errorf("status %s (-want +got):\n%s", when, cmp.Diff(want, got))
}

// An ending is how the mail of one sender's domain ends, which is NAME.example;
// its recipients are at NAME.to.
type ending struct {
	name   string
	sink   grim
	to     string // where not there
	many   int    // recipients, if not one
	first  tally  // after the first attempt
	second tally  // after the next, if it is another
}

var (
	deferredOne = func(c sidecar.Cause) tally { return tally{Sent: 1, Deferred: 1, Cause: c} }
	failedOne   = func(c sidecar.Cause) tally { return tally{Sent: 1, Failed: 1, Cause: c} }
)

// longText makes a line of the log one that Exim splits for syslog.
var longText = strings.Repeat("this is ", 50)

var endings = []ending{
	{name: "fine", sink: grim{}, first: tally{Sent: 1, Delivered: 1}},
	{name: "rcpt450", sink: grim{"RCPT": "450 4.2.0 Greylisted, see you"}, first: deferredOne(sidecar.Greylist)},
	{name: "rcpt550", sink: grim{"RCPT": "550 5.1.1 nobody of that name"}, first: failedOne(sidecar.NoSuchUser)},
	{name: "mail450", sink: grim{"MAIL": "450 later"}, first: deferredOne(sidecar.RemoteDefer)},
	{name: "mail550", sink: grim{"MAIL": "550 5.7.1 we know you"}, first: failedOne(sidecar.RemoteReject)},
	{name: "data451", sink: grim{".": "451 no room"}, many: 2, first: tally{Sent: 2, Deferred: 2, Cause: sidecar.RemoteDefer}},
	{name: "data550", sink: grim{".": "550-" + longText + "\r\n550-" + longText + "\r\n550 spam"}, many: 2, first: tally{Sent: 2, Failed: 2, Cause: sidecar.CalledSpam}},
	{name: "cmd451", sink: grim{"DATA": "451 not now"}, many: 2, first: tally{Sent: 2, Deferred: 2, Cause: sidecar.RemoteDefer}},
	{name: "banner421", sink: grim{"": "421 too many of you"}, first: deferredOne(sidecar.RemoteDefer)},
	{name: "banner554", sink: grim{"": "554 no mail here"}, first: failedOne(sidecar.RemoteReject)},
	{name: "dropped", sink: grim{".": "drop"}, first: deferredOne(sidecar.Unreachable)},
	{name: "silent", sink: grim{"RCPT": "hang"}, first: deferredOne(sidecar.Unreachable)},
	{name: "refused", first: deferredOne(sidecar.Unreachable)}, // nobody is at its port
	{name: "nowhere", first: failedOne(sidecar.NoSuchUser)},
	{name: "routerfail", first: failedOne(sidecar.OtherCause)},
	{name: "routerdefer", first: deferredOne(sidecar.DNS)},
	{name: "local", to: "alice@here.example"},
	{name: "pipe", to: "piped@here.example"},
	{name: "removed", sink: grim{"RCPT": "451 later"}, first: deferredOne(sidecar.RemoteDefer)},
	{name: "frozen", sink: grim{"RCPT": "451 later"}, first: deferredOne(sidecar.RemoteDefer)},
	{name: "forgiven", to: "forgiven@far.example", first: deferredOne(sidecar.RemoteDefer), second: tally{Sent: 1, Delivered: 1}},
	{name: "worse", to: "worse@far.example", first: deferredOne(sidecar.RemoteDefer), second: failedOne(sidecar.RemoteReject)},
}

// endingRouters send where no mail server is, or none that answers: for that one
// nobody has to wait long, and for the others as long as a busy machine takes.
const endingRouters = `
silent:
  driver = manualroute
  domains = silent.to
  route_data = ${lookup{$domain}lsearch{/etc/exim4/sinks}}
  self = send
  transport = hasty_smtp
nowhere:
  driver = redirect
  domains = nowhere.to
  data = ${if eq{1}{2}{x}}
  no_more
router_fails:
  driver = redirect
  domains = routerfail.to : routerdefer.to
  allow_fail
  allow_defer
  data = ${if eq{$domain}{routerfail.to}{:fail: not wanted}{:defer: host lookup did not complete}}
piped:
  driver = redirect
  domains = +local_domains
  local_parts = piped
  pipe_transport = address_pipe
  user = bob
  data = "|/bin/false"
cut:
  driver = redirect
  domains = +local_domains
  local_parts = cut
  data = cut@fine.to
`

// endingHost is a host with a sink for each ending, which logs in some way.
func endingHost(t *testing.T, l logging) *host {
	t.Helper()
	h := newHost(t)
	h.write(t, "/etc/exim4/conf.d/router/140_endings", endingRouters)
	transport := "/etc/exim4/conf.d/transport/30_exim4-config_remote_smtp"
	// All sinks are 127.0.0.1 to Exim, which would send the next message on to any.
	h.write(t, transport, strings.Replace(h.read(transport), "driver = smtp\n", "driver = smtp\n  connection_max_messages = 1\n", 1))
	h.write(t, "/etc/exim4/conf.d/transport/50_hasty", "hasty_smtp:\n  driver = smtp\n  command_timeout = 1s\n")
	h.write(t, "/etc/exim4/site_rcpt_acl", "  warn local_parts = cut\n       control = cutthrough_delivery\n")
	h.addMacros(t, "dsn_advertise_hosts = *\nCHECK_RCPT_LOCAL_ACL_FILE = /etc/exim4/site_rcpt_acl\n"+l.macros)
	h.run(t, "update-exim4.conf")
	if h.log, h.reads = l.file, l.reads; l.syslog != "" {
		h.startSyslog(t, l.syslog)
	}
	sinks := "refused.to: 127.0.0.1::1\n"
	for _, e := range endings {
		if e.sink != nil {
			sinks += e.name + ".to: " + e.sink.listen(t) + "\n"
		}
	}
	sinks += "notify.to: " + grim{"RCPT": "550 5.1.1 nobody"}.listen(t) + "\n"
	h.write(t, "/etc/exim4/sinks", sinks+h.read("/etc/exim4/sinks"))
	h.sink.Refuse("forgiven@far.example", 451, "the sink does not want it")
	h.sink.Refuse("worse@far.example", 451, "the sink does not want it")
	return h
}

// wanted are what status should show of each sender's domain after the first or the second
// attempt. Where something has failed, Exim has sent a bounce too.
func wanted(second bool) map[string]tally {
	all := map[string]tally{"notify.example": failedOne(sidecar.NoSuchUser), "pipe.example": {}, "forward:here.example": {Sent: 2, Delivered: 2}}
	for _, e := range endings {
		y := e.first
		if second && e.second != (tally{}) {
			y = e.second
		}
		if y != (tally{}) {
			all[e.name+".example"] = y
		}
	}
	for domain, y := range all {
		if y.Failed > 0 || domain == "pipe.example" {
			y.Sent, y.Delivered = y.Sent+1, y.Delivered+1
			all[domain] = y
		}
	}
	return all
}

// sendAll sends one message for each ending, and waits for its first attempt.
func (h *host) sendAll(t *testing.T) {
	t.Helper()
	var wg sync.WaitGroup
	for _, e := range endings {
		to := numbered("r%d@"+e.name+".to", 1, max(1, e.many))
		if e.to != "" {
			to = []string{e.to}
		}
		wg.Go(func() {
			args := append([]string{"-odi", "-f", "a@" + e.name + ".example"}, to...)
			if out, code := h.sendmail(t, alice, "", hosttest.Letter("== r1@fine.to R=x T=remote_smtp defer"), args...); code != 0 {
				t.Errorf("%s: exit %d\n%s", e.name, code, out)
			}
		})
	}
	wg.Wait()
	c := h.dialFrom(t, "192.0.2.9")
	c.Want(c.Send("who@else.example", hosttest.Letter("x"), "forward@here.example"), 250)
	c.Want(c.Send("who@else.example", hosttest.Letter("x"), "cut@here.example"), 250)
	hosttest.Eventually(t, "there is a cutthrough delivery", func() bool { return strings.Contains(h.mainlog(), " >> cut@fine.to") })
	c = h.dial(t).Login("a@notify.example")
	c.Mail("a@notify.example")
	c.Want(c.Cmd("RCPT TO:<r1@notify.to> NOTIFY=SUCCESS,FAILURE"), 250)
	c.Want(c.Data(hosttest.Letter("x")), 250)
}

// idFrom is the id of the message from a sender.
func (h *host) idFrom(t *testing.T, sender string) string {
	t.Helper()
	m := regexp.MustCompile(` (\S+) <= ` + regexp.QuoteMeta(sender) + ` `).FindStringSubmatch(h.mainlog())
	if m == nil {
		t.Fatalf("nothing from %s has arrived", sender)
	}
	return m[1]
}

const tripping = "[limits]\nhourly = 100\ndeferfail_min = 5\ndeferfail_percent = 25"

// deferfailText is how too many bad outcomes refuse and hold.
func deferfailText(domain, ratio, what string) string {
	return fmt.Sprintf("Domain %s has exceeded the max defers and failures per hour (%s) allowed. Message %s", domain, ratio, what)
}

func TestTripsAtSMTPTime(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.startSluice(t, tripping)
	h.startExim(t)
	for i, code := range []int{550, 550, 550, 451, 451} {
		h.sink.Refuse(fmt.Sprintf("r%d@far.example", i+1), code, "the sink does not want it")
	}
	c := h.dial(t).Login("news@shop.example")
	c.Want(c.Send("bob@here.example", hosttest.Letter("x"), numbered("r%d@far.example", 1, 5)...), 250)
	file := lockDir + "/max_deferfail_shop.example"
	hosttest.Eventually(t, "there is a lock file", func() bool { return h.read(file) != "" })
	const bad = "5/5 (100%)" // the bounce goes to a local mailbox, and is no send
	if got := strings.TrimSpace(h.read(file)); got != bad {
		t.Errorf("the lock file has %q", got)
	}

	c.Mail("news@shop.example")
	wantRefused(t, c.Rcpt("r6@far.example"), 550, deferfailText("shop.example", bad, neverText))
	c.Want(c.Rcpt("bob@here.example"), 250) // local ones pass
	other := h.dial(t).Login("joe@free.example")
	other.Want(other.Send("joe@free.example", hosttest.Letter("x"), "r7@far.example"), 250)
	hosttest.Eventually(t, "another domain's mail is delivered", func() bool { return slices.Contains(h.sink.Recipients(), "r7@far.example") })

	h.sink.Accept("r4@far.example")
	h.sink.Accept("r5@far.example")
	h.queueRun(t, "-qf")
	if n := h.heldLines(deferfailText("shop.example", bad, laterText)); n != 2 {
		t.Errorf("%d queued recipients are held, want 2", n)
	}
	if got := h.status(t, "shop.example"); got.Held != 2 || got.DeferfailNow != 100 || len(got.Locks) != 1 || got.Locks[0].Kind != "max_deferfail" {
		t.Errorf("while it is tripped: %+v", got)
	}
	h.run(t, "rm", file)
	hosttest.Eventually(t, "what was held is delivered", func() bool {
		to := h.sink.Recipients()
		return slices.Contains(to, "r4@far.example") && slices.Contains(to, "r5@far.example") && len(h.queue()) == 0
	})
	c.Want(c.Cmd("RSET"), 250)
	c.Want(c.Send("news@shop.example", hosttest.Letter("x"), "r6@far.example"), 250)
	if got := h.status(t, "shop.example"); len(got.Locks) != 0 || got.Deferred+got.Failed != 0 || got.Held != 0 {
		t.Errorf("after the lock file was removed: %+v", got)
	}
}

// What goes through while Sluice is down is counted when it is back.
func TestSluiceDownForAWhile(t *testing.T) {
	for _, signal := range []string{"TERM", "KILL"} {
		t.Run("SIG"+signal, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			h.sink.Refuse("r4@far.example", 451, "the sink does not want it")
			p := h.startSluice(t, tripping)
			// charged now, delivered while it is down
			if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-odq", "-f", "a@queued.example", "q1@far.example"); code != 0 {
				t.Fatalf("sendmail: exit %d\n%s", code, out)
			}
			h.wantTallies(t, "after the charge", map[string]tally{"queued.example": {Sent: 1}})
			p.stop(t, signal)
			h.queueRun(t, "-qf")
			for _, to := range numbered("r%d@far.example", 1, 4) {
				if out, code := h.sendmail(t, alice, "", hosttest.Letter("x"), "-odi", "-f", "a@down.example", to); code != 0 {
					t.Fatalf("sendmail: exit %d\n%s", code, out)
				}
			}
			hosttest.Eventually(t, "four are delivered", func() bool { return h.sink.Count() == 4 })
			h.startSluice(t, tripping)
			h.wantTallies(t, "when it is back", map[string]tally{
				"queued.example": {Sent: 1, Delivered: 1},
				"down.example":   {Sent: 4, Delivered: 3, Deferred: 1, Cause: sidecar.RemoteDefer},
			})
		})
	}
}

// lastStamp is when the last line with a text was logged.
func (h *host) lastStamp(t *testing.T, text string) (at time.Time) {
	t.Helper()
	for line := range strings.Lines(h.mainlog()) {
		if strings.Contains(line, text) {
			stamp, err := time.ParseInLocation("2006-01-02 15:04:05.000", line[:23], time.Local)
			if err != nil {
				t.Fatal(err)
			}
			at = stamp
		}
	}
	return at
}

// From the line of the fifth failure to the lock file, in time. That it comes is in
// TestTripsAtSMTPTime.
func TestLockComesSoonAfterTheLine(t *testing.T) {
	if t.Parallel(); !hosttest.Soak() {
		t.Skip("of make soak: it measures time")
	}
	h := newHost(t)
	h.addMacros(t, "MAIN_LOG_SELECTOR = +millisec")
	h.startSluice(t, tripping)
	route := grim{"RCPT": "550 5.1.1 nobody"}.listen(t)
	h.write(t, "/etc/exim4/sinks", "*: "+route+"\n")
	var took []time.Duration
	for i := range 10 {
		// Domains of their own on both sides: what fails for everybody trips nobody.
		to := numbered(fmt.Sprintf("r%%d@to%d.example", i), 1, 5)
		h.sendmail(t, alice, "", hosttest.Letter("x"), append([]string{"-odi", "-f", fmt.Sprintf("<a@trip%d.example>", i)}, to...)...)
		file := h.path(fmt.Sprintf("%s/max_deferfail_trip%d.example", lockDir, i))
		var info os.FileInfo
		hosttest.Eventually(t, "there is a lock file", func() (there bool) {
			var err error
			info, err = os.Stat(file)
			return err == nil
		})
		made := info.Sys().(*syscall.Stat_t).Ctim // mtime is before the rename
		took = append(took, time.Unix(made.Sec, made.Nsec).Sub(h.lastStamp(t, fmt.Sprintf("@to%d.example", i))))
	}
	slices.Sort(took)
	t.Logf("median %v, max %v", took[len(took)/2], took[len(took)-1])
	if most := took[len(took)-1]; most > 2*time.Second {
		t.Errorf("a lock file came %v after the line", most)
	}
}
