package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"sluice/ratelimit/redisstore/redistest"
	"sluice/sidecar/config"
	"sluice/sidecar/hosttest"
)

const metricsToken = "0123456789abcdef"

// metricsConfig is serveConfig with a log, and with metrics wherever they can be: files in a
// directory, and at an address.
func metricsConfig(t *testing.T, dir, address string) string {
	t.Helper()
	writeFile(t, dir+"/mainlog", "")
	writeFile(t, dir+"/token", metricsToken+"\n")
	if err := errors.Join(os.Chmod(dir+"/token", 0o600), os.Mkdir(dir+"/textfile", 0o755)); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(serveConfig(dir), "[listen]\n", fmt.Sprintf("[metrics]\ntextfile = %q\n[listen]\nmetrics = %q\nmetrics_token_file = %q\n", dir+"/textfile", address, dir+"/token"), 1)
	return strings.Replace(text, `mainlog = ""`, fmt.Sprintf("mainlog = %q", dir+"/mainlog"), 1)
}

// get asks over HTTP, at a unix socket if it is not empty.
func get(t *testing.T, socket, url, token string) (code int, text string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	if socket != "" {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	r, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	answer, err := (&http.Client{Transport: transport, Timeout: hosttest.Patience()}).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer.StatusCode, string(body)
}

// Prometheus -> TCP with a token; curl -> the admin socket; node_exporter -> a file.
func TestMetricsAreServed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	address := fmt.Sprintf("127.0.0.1:%d", hosttest.FreeRootPort(t))
	n := startServeWith(t, dir, metricsConfig(t, dir, "tcp:"+address))
	n.sendAll(t, 0, 12)
	const sent = `sluice_sends_total{result="accepted"} 10`
	if code, text := get(t, dir+"/run/admin.sock", "http://x/metrics", ""); code != 200 || !strings.Contains(text, sent) ||
		!strings.Contains(text, `sluice_questions_total{answer="defer",front="exim",stage="data"} 2`) {
		t.Errorf("admin socket: %d\n%s", code, text)
	}
	hosttest.Eventually(t, "ready", func() bool {
		code, text := get(t, dir+"/run/admin.sock", "http://x/readyz", "")
		return code == 200 && strings.HasPrefix(text, "ready\n")
	})
	if code, text := get(t, "", "http://"+address+"/metrics", metricsToken); code != 200 || !strings.Contains(text, sent) {
		t.Errorf("TCP: %d\n%s", code, text)
	}
	for path, want := range map[string]int{"/metrics": 401, "/readyz": 401, "/healthz": 200, "/status": 404} {
		if code, text := get(t, "", "http://"+address+path, ""); code != want {
			t.Errorf("%s on TCP without a token: %d %s", path, code, text)
		}
	}
	file := dir + "/textfile/sluice.prom"
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "sluice_build_info") {
		t.Errorf("for node_exporter: %v\n%s", err, text)
	}
	n.stop()
	if _, err := os.Stat(file); err == nil {
		t.Error("the file stays when sluice is stopped")
	}
}

// Where nodes share a Redis, its calls are measured. The unix socket is for root and its group.
func TestMetricsOfAClusterOnAUnixSocket(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	r := redistest.Start(t)
	text := strings.Replace(clusterConfig(dir, "mx1.example", "unix://"+r.Socket()), "[listen]\n", fmt.Sprintf("[listen]\nmetrics = \"unix:%s/run/metrics.sock\"\n", dir), 1)
	n := startServeWith(t, dir, text)
	n.sendAll(t, 0, 1)
	calls := regexp.MustCompile(`sluice_redis_duration_seconds_count [1-9]`)
	hosttest.Eventually(t, "calls of Redis", func() bool {
		_, text := get(t, dir+"/run/metrics.sock", "http://x/metrics", "")
		return calls.MatchString(text) && strings.Contains(text, `sluice_store_mode{mode="shared"} 1`) && strings.Contains(text, `sluice_store_mode{mode="share"} 0`)
	})
	if info, err := os.Stat(dir + "/run/metrics.sock"); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v, %v", info, err)
	}
}

// What serve would not start with, the check of the configuration refuses.
func TestMetricsOnTCPNeedAToken(t *testing.T) {
	dir := t.TempDir()
	c, err := config.Parse("s.toml", metricsConfig(t, dir, "tcp:192.0.2.1:294"))
	if err != nil {
		t.Fatal(err)
	}
	if err := checkServable(c); err != nil {
		t.Error(err)
	}
	writeFile(t, dir+"/token", "short\n")
	if err := checkServable(c); err == nil || !strings.Contains(err.Error(), "has fewer than 16 characters") {
		t.Errorf("a short token: %v", err)
	}
	if err := os.Remove(dir + "/token"); err != nil {
		t.Fatal(err)
	}
	if err := checkServable(c); err == nil || !strings.Contains(err.Error(), "listen.metrics_token_file") {
		t.Errorf("no token: %v", err)
	}
}

// prometheusProgram is a program of Debian's Prometheus, which .ci/deps has unpacked.
func prometheusProgram(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	return hosttest.Program(t, "/var/cache/sluice-test/prometheus/usr/bin/"+name)
}

func TestAlertRules(t *testing.T) {
	promtool, dir := prometheusProgram(t, "promtool"), t.TempDir()
	for _, file := range []string{"docs/alerts.rules.yml", "testdata/alerts/rules.test.yml"} { // rule_files are found beside
		text, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(dir, filepath.Base(file)), string(text))
	}
	for _, args := range [][]string{{"check", "rules", "alerts.rules.yml"}, {"test", "rules", "rules.test.yml"}} {
		c := exec.CommandContext(t.Context(), promtool, args...)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// sluice -> Prometheus, which scrapes each second, with the shipped rules but for their "for".
func TestPrometheusScrapesAndAlerts(t *testing.T) {
	if !hosttest.Soak() {
		t.Skip("of the soak: an alert takes half a minute to fire and end")
	}
	dir := t.TempDir()
	address, own := fmt.Sprintf("127.0.0.1:%d", hosttest.FreeRootPort(t)), fmt.Sprintf("127.0.0.1:%d", hosttest.FreePort(t))
	text := metricsConfig(t, dir, "tcp:"+address)
	if err := os.Remove(dir + "/mainlog"); err != nil {
		t.Fatal(err)
	}
	n := startServeWith(t, dir, text)
	n.sendAll(t, 0, 12)
	rules, err := os.ReadFile("../../docs/alerts.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	writeFile(t, dir+"/rules.yml", regexp.MustCompile(`for: \d+m`).ReplaceAllString(string(rules), "for: 2s"))
	writeFile(t, dir+"/prometheus.yml", fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\nscrape_configs:\n"+
		"  - job_name: sluice\n    authorization: {credentials_file: %s}\n    static_configs: [{targets: [%q]}]\n", dir+"/token", address))
	startPrometheus(t, dir, own)
	query := func(path string) string { _, text := get(t, "", "http://"+own+path, ""); return text }
	alerts := func() string {
		var answer struct {
			Data struct {
				Alerts []struct {
					State  string
					Labels map[string]string
				}
			}
		}
		json.Unmarshal([]byte(query("/api/v1/alerts")), &answer)
		var firing []string
		for _, a := range answer.Data.Alerts {
			if a.State == "firing" {
				firing = append(firing, a.Labels["alertname"]+" "+a.Labels["part"])
			}
		}
		return strings.Join(firing, ", ")
	}
	hosttest.Eventually(t, "a scrape", func() bool {
		return strings.Contains(query("/api/v1/query?query=sluice_sends_total"), `"result":"accepted"},"value":`)
	})
	hosttest.Eventually(t, "the alert of a log that is not there", func() bool { return alerts() == "SluiceNotReady log" })
	writeFile(t, dir+"/mainlog", "")
	hosttest.Eventually(t, "its end", func() bool { return alerts() == "" })
	n.stop()
	hosttest.Eventually(t, "the alert of a sluice that is gone", func() bool { return strings.Contains(alerts(), "SluiceGone") })
}

// startPrometheus starts one with the configuration in a directory, until the test ends.
func startPrometheus(t *testing.T, dir, address string) {
	t.Helper()
	var log bytes.Buffer
	c := exec.Command(prometheusProgram(t, "prometheus"), "--config.file="+dir+"/prometheus.yml", "--storage.tsdb.path="+dir+"/tsdb", "--web.listen-address="+address)
	c.Stdout, c.Stderr = &log, &log
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	end := hosttest.Guard(t, c.Process)
	t.Cleanup(func() {
		c.Process.Signal(syscall.SIGTERM)
		c.Wait()
		end()
		if t.Failed() {
			t.Log(log.String())
		}
	})
	hosttest.Eventually(t, "Prometheus", func() bool {
		nc, err := net.Dial("tcp", address)
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}
