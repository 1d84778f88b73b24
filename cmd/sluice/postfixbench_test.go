package main

import (
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/milter/mtatest"
	"sluice/sidecar/policyd/policytest"
)

// BenchmarkPostfix measures messages through a real Postfix with its queue on a disk,
// until all are delivered, with what asks about each of them, beside one that asks
// nobody:
//
//	smtp-source, 8 sessions -> Postfix -> smtp-sink
//	                              └─→ sluice, with a limit that nobody reaches
//	                                  or a milter that does nothing
//
// The milter that does nothing is what Postfix itself pays for asking one: no other
// can come nearer to asking nobody.
func BenchmarkPostfix(b *testing.B) {
	const messages, rounds = 600, 8
	b.Setenv(mtatest.OnDisk, "1")
	var hosts []*postfixHost
	setups := []struct {
		name   string
		blocks []string
		serve  func(*postfixHost, testing.TB)
	}{
		{"nobody", nil, func(*postfixHost, testing.TB) {}},
		{"policy-service", []string{"policy"}, (*postfixHost).startSluice},
		{"milter", []string{"milter"}, (*postfixHost).startSluice},
		{"idle-milter", []string{"milter"}, (*postfixHost).startIdleMilter},
	}
	for _, setup := range setups {
		sink := fmt.Sprintf("127.0.0.1:%d", hosttest.FreePort(b))
		h := postfixSite{charge: atRcpt, limits: "[limits]\nhourly = 100000000\n[identity]\nrelay = [\"127.0.0.1\"]\n", blocks: setup.blocks,
			settings: "default_transport = smtp:" + strings.Replace(sink, "127.0.0.1", "[127.0.0.1]", 1) + "\nrelayhost =\nsmtpd_client_connection_count_limit = 0\n"}.start(b)
		setup.serve(h, b)
		cmd := h.Command(b.Context(), "0:0", "smtp-sink", "-u", "nobody", sink, "100")
		if err := cmd.Start(); err != nil {
			b.Fatal(err)
		}
		hosttest.Eventually(b, "smtp-sink listening", func() bool {
			nc, err := net.Dial("tcp", sink)
			if err == nil {
				nc.Close()
			}
			return err == nil
		})
		b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
		hosts = append(hosts, h)
	}
	for b.Loop() {
		rates, ours := make([][]float64, len(setups)), make([]time.Duration, len(setups))
		for round := -1; round < rounds; round++ { // the first warms up
			for i := range setups {
				// Each comes at each place equally often, forwards and backwards: what
				// drifts or is left behind within a round then favours nobody.
				if i += round + 1; round >= rounds/2 {
					i = -i
				}
				i = (i%len(setups) + len(setups)) % len(setups)
				before := cpuTime(b)
				rate := hosts[i].throughput(b, messages)
				if round >= 0 {
					rates[i] = append(rates[i], rate)
					ours[i] += cpuTime(b) - before
				}
			}
		}
		for i, setup := range setups {
			ratios := make([]float64, rounds)
			for round := range ratios {
				ratios[round] = rates[i][round] / rates[0][round]
			}
			b.Logf("asking %-15s %6.0f messages/s, %.3f of asking nobody; the answers took %v of CPU for each, sluice's log included",
				setup.name, policytest.Median(rates[i]), policytest.Median(ratios), (ours[i] / messages / rounds).Round(time.Microsecond))
			b.ReportMetric(policytest.Median(ratios), setup.name+"-ratio")
		}
		beside := make([]float64, rounds)
		for round := range beside {
			beside[round] = rates[2][round] / rates[3][round]
		}
		b.ReportMetric(policytest.Median(beside), "milter-beside-idle-ratio")
	}
}

// throughput is how many messages a second go through.
func (h *postfixHost) throughput(b *testing.B, messages int) float64 {
	began := time.Now()
	h.Run(b, "", "smtp-source", "-s", "8", "-m", fmt.Sprint(messages), "-l", "4000", "-f", "a@bench.example", "-t", "u@far.example", h.Address())
	hosttest.Eventually(b, "an empty queue", func() bool {
		for _, queue := range []string{"incoming", "active", "deferred"} {
			if files, _ := filepath.Glob(h.Path("/var/spool/postfix/" + queue + "/*")); len(files) > 0 {
				return false
			}
		}
		return true
	})
	return float64(messages) / time.Since(began).Seconds()
}

// cpuTime is what this process, and sluice in it, has used.
func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
