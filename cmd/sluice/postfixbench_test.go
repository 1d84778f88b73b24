package main

import (
	"fmt"
	"testing"
	"time"

	"sluice/sidecar/policyd/policytest"
)

// BenchmarkPostfix measures messages through a real Postfix that discards them,
// with what asks about each of them, beside one that asks nobody:
//
//	smtp-source, 8 sessions -> Postfix -> sluice, with a limit that nobody reaches
func BenchmarkPostfix(b *testing.B) {
	const messages, rounds = 1000, 7
	var hosts []*postfixHost
	setups := []struct {
		name   string
		blocks []string
	}{{"nobody", nil}, {"policy-service", []string{"policy"}}, {"milter", []string{"milter"}}}
	for _, setup := range setups {
		h := postfixSite{charge: atRcpt, limits: "[limits]\nhourly = 100000000\n[identity]\nrelay = [\"127.0.0.1\"]\n", blocks: setup.blocks,
			settings: "default_transport = discard:\nrelayhost =\nsmtpd_client_connection_count_limit = 0\n"}.start(b)
		h.startSluice(b)
		hosts = append(hosts, h)
	}
	for b.Loop() {
		rates := make([][]float64, len(setups))
		for round := -1; round < rounds; round++ { // the first warms up
			for i := range setups {
				if round%2 != 0 {
					i = len(setups) - 1 - i
				}
				began := time.Now()
				hosts[i].Run(b, "", "smtp-source", "-s", "8", "-m", fmt.Sprint(messages), "-f", "a@bench.example", "-t", "u@far.example", hosts[i].Address())
				if round >= 0 {
					rates[i] = append(rates[i], messages/time.Since(began).Seconds())
				}
			}
		}
		for i, setup := range setups {
			ratios := make([]float64, rounds)
			for round := range ratios {
				ratios[round] = rates[i][round] / rates[0][round]
			}
			b.Logf("asking the %-15s %6.0f messages/s, %.3f of asking nobody", setup.name, policytest.Median(rates[i]), policytest.Median(ratios))
			b.ReportMetric(policytest.Median(ratios), setup.name+"-ratio")
		}
	}
}
