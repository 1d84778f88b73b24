package eximconfig_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// What asking costs a real Exim that only accepts and queues:
//
//	kept connections, AUTH ─→ Exim ─ plain, the three ways, Exim's ratelimit ─→ queue
//
// 5 remote recipients a message. A round has each Exim in turn, so that what
// else the machine does hits all of them, and a ratio is within its round. The
// spool is in memory: a disk would slow down all alike and flatter us.

const (
	benchRounds = 15
	benchTurn   = 600 * time.Millisecond
)

// BenchmarkAccept wants 0.9 of the plain Exim for Perl and TCP with 4
// connections. Up to 4.96 Exim waits 5 ms between two messages of a process, to
// give them different ids, so 4 connections leave it time to spare; 12 do not,
// and their ratio is that of processor time.
func BenchmarkAccept(b *testing.B) {
	hosts := map[string]*host{}
	for _, name := range contenders {
		hosts[name] = benchHost(b, name)
	}
	for _, bb := range []struct {
		name    string
		clients int
		mail    func(c *hosttest.Client, message int)
	}{
		{"pipelined-4", 4, mailPipelined},
		{"stepwise-4", 4, mailStepwise},
		{"pipelined-12", 12, mailPipelined},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var all []contender
			for _, name := range contenders {
				c := contender{name: name, host: hosts[name]}
				for range bb.clients {
					c.clients = append(c.clients, c.host.dial(b).Login("news@shop.example"))
				}
				all = append(all, c)
			}
			for b.Loop() {
				compare(b, all, bb.mail)
			}
		})
	}
}

var contenders = []string{"plain", "perl", "tcp", "run", "ratelimit"}

// A contender is one Exim of a bench.
type contender struct {
	name    string
	host    *host
	clients []*hosttest.Client
	rates   []float64 // messages a second, by round
}

// compare runs the rounds. The first contender is what the others are compared
// with.
func compare(b *testing.B, all []contender, mail func(*hosttest.Client, int)) {
	for round := -1; round < benchRounds; round++ { // the first warms up and does not count
		for i := range all {
			// The turn of a round begins where that of the last one did not.
			c := &all[(i+round+1)%len(all)]
			if rate := c.turn(mail); round >= 0 {
				c.rates = append(c.rates, rate)
			}
			c.host.emptyQueue(b)
		}
	}
	for _, c := range all {
		var ratios []float64
		for round, rate := range c.rates {
			ratios = append(ratios, rate/all[0].rates[round])
		}
		slices.Sort(ratios)
		ratio := ratios[len(ratios)/2]
		slices.Sort(c.rates)
		rate := c.rates[len(c.rates)/2]
		b.Logf("%-9s %5.0f messages/s, %.2f of plain (%.2f to %.2f in half of the rounds)", c.name, rate,
			ratio, ratios[len(ratios)/4], ratios[len(ratios)*3/4])
		b.ReportMetric(rate, c.name+"/s")
		if c.name != all[0].name {
			b.ReportMetric(ratio, c.name+"-ratio")
		}
	}
}

// turn has all clients send for a while and returns the messages in a second.
func (c *contender) turn(mail func(*hosttest.Client, int)) float64 {
	start := time.Now()
	sent := make([]int, len(c.clients))
	var all sync.WaitGroup
	for i, client := range c.clients {
		all.Go(func() {
			for ; time.Since(start) < benchTurn; sent[i]++ {
				mail(client, sent[i])
			}
		})
	}
	all.Wait()
	took, total := time.Since(start), 0
	for _, n := range sent {
		total += n
	}
	return float64(total) / took.Seconds()
}

// mailPipelined sends a message as mail servers do (RFC 2920).
func mailPipelined(c *hosttest.Client, message int) {
	c.Write("MAIL FROM:<news@shop.example>\r\n" + strings.Join(benchRecipients(message), "") + "DATA\r\n")
	for range 6 {
		c.Want(c.Reply(), 250)
	}
	c.Want(c.Reply(), 354)
	c.Write(hosttest.OnTheWire(hosttest.Letter("x")))
	c.Want(c.Reply(), 250)
}

// mailStepwise sends a message as most programs do, a command at a time.
func mailStepwise(c *hosttest.Client, message int) {
	c.Mail("news@shop.example")
	for _, rcpt := range benchRecipients(message) {
		c.Want(c.Timed(rcpt), 250)
	}
	c.Want(c.Data(hosttest.Letter("x")), 250)
}

func benchRecipients(message int) (commands []string) {
	for i := range 5 {
		commands = append(commands, fmt.Sprintf("RCPT TO:<customer%d@host%d.example>\r\n", message, i))
	}
	return commands
}

// benchHost runs an Exim that queues, with Sluice by one of the ways, with
// Exim's own ratelimit, or plain.
func benchHost(b *testing.B, name string) *host {
	var h *host
	if slices.Contains(ways, name) {
		h = newHostOf(b, "debian", name)
		h.startSluice(b, "[limits]\nhourly = 1000000000")
	} else {
		h = newBareHost(b)
	}
	h.addMacros(b, "queue_only\nsmtp_accept_max_per_connection = 0")
	if name == "ratelimit" {
		h.addMacros(b, "MAIN_ACL_CHECK_RCPT = bench_rcpt")
		h.write(b, "/etc/exim4/conf.d/acl/10_bench", benchACL)
		h.run(b, "update-exim4.conf")
	}
	h.startExim(b)
	return h
}

const benchACL = `
bench_rcpt:
  require acl       = acl_check_rcpt
  defer   ratelimit = 1000000000 / 1h / strict / per_rcpt / ${lc:$sender_address_domain}
  accept
`

// emptyQueue throws away what was accepted.
func (h *host) emptyQueue(b *testing.B) {
	for _, folder := range []string{"input", "msglog"} {
		files, err := filepath.Glob(filepath.Join(h.path("/var/spool/exim4"), folder, "*"))
		for _, f := range files {
			err = errors.Join(err, os.Remove(f))
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
