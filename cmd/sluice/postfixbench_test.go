package main

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/milter/mtatest"
	"sluice/sidecar/policyd/policytest"
)

// BenchmarkPostfix measures messages of 4 KB through one real Postfix, from the client
// until all are delivered and the queue is empty. It has a port for each way of asking,
// and they take turns:
//
//	smtp-source, 8 sessions ─┬─→ a port that asks nobody ──────┬─→ Postfix, its queue ─→ smtp-sink
//	                         ├─→ one that asks the policy service, │    on a disk
//	                         │   the milter, or both: sluice ──┤
//	                         ├─→ a milter that does nothing ───┤
//	                         └─→ once more nobody ─────────────┘
//
// The last shows by how much equals differ. The milter that does nothing is what Postfix
// itself pays for asking one: no other can come nearer to asking nobody.
//
// Sessions are kept for many messages, as a relay's are, or fresh for each, as those of
// people who submit: then Postfix connects to the milter for each too.
func BenchmarkPostfix(b *testing.B) {
	b.Setenv(mtatest.OnDisk, "1")
	setups := []struct{ name, settings string }{
		{"nobody", ""},
		{"policy-service", snippet(b, "cf main.cf policy")},
		{"milter", snippet(b, "cf main.cf milter")},
		{"both", snippet(b, "cf main.cf policy") + snippet(b, "cf main.cf milter")},
		{"idle-milter", strings.ReplaceAll(snippet(b, "cf main.cf milter"), "milter.sock", "idle.sock")},
		{"nobody-again", ""},
	}
	sink := hosttest.FreePort(b)
	site := postfixSite{charge: atRcpt, limits: "[limits]\nhourly = 100000000\n[identity]\nrelay = [\"127.0.0.1\"]\n",
		settings: fmt.Sprintf("relayhost = [127.0.0.1]:%d\nsmtpd_client_connection_count_limit = 0\n", sink)}
	for _, s := range setups {
		site.ports = append(site.ports, patient(s.settings))
	}
	h := site.start(b)
	h.startSluice(b)
	h.startIdleMilter(b)
	h.startSink(b, sink)
	for _, sessions := range []struct {
		name  string
		flags []string
	}{{"kept", []string{"-d"}}, {"fresh", nil}} {
		b.Run(sessions.name, func(b *testing.B) {
			const messages, rounds = 160, 24
			for b.Loop() {
				rates, cpu := make([][]float64, len(setups)), make([]time.Duration, len(setups))
				for round := -1; round < rounds; round++ { // the first warms up
					for place := range setups {
						i := turn(round+1, place, len(setups))
						before := cpuTime(b)
						rate := h.throughput(b, h.ports[i], messages, sessions.flags)
						if round >= 0 {
							rates[i] = append(rates[i], rate)
							cpu[i] += cpuTime(b) - before
						}
					}
				}
				for i, setup := range setups {
					ratio := policytest.Median(ratios(rates[i], rates[0]))
					b.Logf("asking %-15s %6.0f messages/s, %.3f of asking nobody; the answers took %v of CPU for each, sluice's log included",
						setup.name, policytest.Median(rates[i]), ratio, (cpu[i] / messages / rounds).Round(time.Microsecond))
					b.ReportMetric(ratio, setup.name+"-ratio")
				}
				b.ReportMetric(policytest.Median(ratios(rates[2], rates[4])), "milter-beside-idle-ratio")
			}
		})
	}
}

// turn is who comes at a place of a round: each at each place equally often, forwards
// and backwards, so that what drifts or is left behind favours nobody.
func turn(round, place, n int) int {
	if i := round/2 + place; round%2 == 0 {
		return i % n
	}
	return (round/2 + n - 1 - place + n) % n
}

// ratios are those of each round.
func ratios(of, by []float64) (all []float64) {
	for i := range of {
		all = append(all, of[i]/by[i])
	}
	return all
}

// startSink takes what Postfix delivers.
func (h *postfixHost) startSink(b *testing.B, port int) {
	b.Helper()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := h.Command(b.Context(), "0:0", "smtp-sink", "-u", "nobody", address, "100")
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	hosttest.Eventually(b, "smtp-sink listening", func() bool {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}

// throughput is how many messages a second go through.
func (h *postfixHost) throughput(b *testing.B, port, messages int, flags []string) float64 {
	began := time.Now()
	h.Run(b, "", append(append([]string{"smtp-source", "-s", "8", "-m", fmt.Sprint(messages), "-l", "4000", "-f", "a@bench.example", "-t", "u@far.example"},
		flags...), fmt.Sprintf("127.0.0.1:%d", port))...)
	for end := time.Now().Add(hosttest.Patience()); !h.empty(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.Fatalf("the queue is not empty:\n%s", h.Run(b, "", "postqueue", "-p"))
		}
	}
	return float64(messages) / time.Since(began).Seconds()
}

// empty reports whether Postfix has nothing to deliver.
func (h *postfixHost) empty() bool {
	for _, queue := range []string{"incoming", "active", "deferred"} {
		if files, err := os.ReadDir(h.Path("/var/spool/postfix/" + queue)); err != nil || len(files) > 0 {
			return false
		}
	}
	return true
}

// cpuTime is what this process, and sluice in it, has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
