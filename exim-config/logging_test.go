package eximconfig_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// What Exim logs, and where to, is the site's to choose:
//
//	sendmail, client ─→ Exim ─┬─→ main log, with any log_selector ─→ sluice: the same outcomes
//	                          └─→ /dev/log ─→ rsyslogd ─→ maillog ──┘

// A logging is a way to log.
type logging struct {
	name   string
	macros string // for Exim
	file   string // where the lines are, with stars for dates; empty for Exim's usual main log
	reads  string // exim.mainlog, if another
	syslog string // the template by which rsyslogd writes what Exim logs
	soak   bool   // only in the long run
}

const (
	// cPanel's and DirectAdmin's selectors, as their exim.conf has them.
	cpanelSelector      = "+arguments +subject +received_recipients +received_sender +incoming_port +smtp_connection +all_parents +retry_defer"
	directAdminSelector = "+delivery_size +sender_on_delivery +received_recipients +received_sender +smtp_confirmation +subject " +
		"+smtp_incomplete_transaction -dnslist_defer -host_lookup_failed -queue_run -rejected_header -retry_defer -skip_delivery"
	// All that adds fields to lines of deliveries, and nothing that was there before.
	deliverySelector = "-all +outgoing_interface +outgoing_port +sender_on_delivery +return_path_on_delivery +delivery_size +deliver_time +queue_time " +
		"+queue_time_overall +queue_time_exclusive +tls_cipher +tls_peerdn +tls_sni +tls_certificate_verified +sender_verify_fail +smtp_mailauth +8bitmime"
)

var loggings = []logging{
	{name: "as Debian does", soak: true}, // "syslog" has the same lines, and the other two a file
	{name: "all", macros: "MAIN_LOG_SELECTOR = +all"},
	{name: "as little as can be", macros: "MAIN_LOG_SELECTOR = -all"},
	{name: "syslog", macros: "log_file_path = syslog", file: maillog, syslog: "RSYSLOG_FileFormat"},

	{name: "cPanel", macros: "MAIN_LOG_SELECTOR = " + cpanelSelector, soak: true},
	{name: "DirectAdmin", macros: "MAIN_LOG_SELECTOR = " + directAdminSelector, soak: true},
	{name: "all of deliveries", macros: "MAIN_LOG_SELECTOR = " + deliverySelector, soak: true},
	{name: "process ids", macros: "MAIN_LOG_SELECTOR = -all +pid", soak: true},
	{name: "milliseconds", macros: "MAIN_LOG_SELECTOR = +millisec", soak: true},
	{name: "zone", macros: "timezone = America/New_York\nlog_timezone = true", soak: true},
	{name: "zone and all", macros: "timezone = Asia/Kolkata\nlog_timezone = true\nMAIN_LOG_SELECTOR = +all", soak: true},
	{name: "dates in names", macros: "log_file_path = /var/log/exim4/%D-%slog", file: "/var/log/exim4/*-mainlog", reads: "/var/log/exim4/%D-mainlog", soak: true},
	{name: "no message logs", macros: "message_logs = false\nMAIN_LOG_SELECTOR = -all", soak: true},
	{name: "ids of one host of many", macros: "localhost_number = 5", soak: true},
	{name: "syslog of RFC 3164", macros: "log_file_path = syslog", file: maillog, syslog: "RSYSLOG_TraditionalFileFormat", soak: true},
	{name: "syslog without Exim's time", macros: "log_file_path = syslog\nsyslog_timestamp = false\nsyslog_pid = false\nMAIN_LOG_SELECTOR = +all", file: maillog,
		syslog: "RSYSLOG_TraditionalFileFormat", soak: true},
	{name: "syslog of another name", macros: "log_file_path = syslog\nsyslog_processname = exim-out\nlog_timezone = true\nMAIN_LOG_SELECTOR = +all +pid", file: maillog,
		syslog: "RSYSLOG_FileFormat", soak: true},
	{name: "both", macros: "log_file_path = syslog : /var/log/exim4/%slog", syslog: "RSYSLOG_FileFormat", soak: true},
}

// Each ending counts once and as what it is: after the first attempt, after
// another, and for a Sluice that knows nothing but the log, whatever Exim logs.
func TestEveryEnding(t *testing.T) {
	t.Parallel()
	for _, l := range loggings {
		t.Run(l.name, func(t *testing.T) {
			if t.Parallel(); l.soak && !hosttest.Soak() {
				t.Skip("a logging of make soak")
			}
			if l.syslog != "" && os.Getenv(otherRootEnv) != "" {
				t.Skip("there is no rsyslog in that root")
			}
			if strings.Contains(l.reads, "%D") {
				avoidMidnight()
			}
			everyEnding(t, endingHost(t, l))
		})
	}
}

func everyEnding(t *testing.T, h *host) {
	t.Helper()
	const limits = "[limits]\ndeferfail_percent = 0"
	p := h.startSluice(t, limits)
	h.startExim(t)
	h.sendAll(t)
	h.wantTallies(t, "after the first attempt", wanted(false))
	if split := strings.Contains(h.mainlog(), "[1/2] "); split != (h.log == maillog) {
		t.Errorf("lines were split: %v", split)
	}

	h.run(t, "exim4", "-Mrm", h.idFrom(t, "a@removed.example"))
	h.run(t, "exim4", "-Mf", h.idFrom(t, "a@frozen.example"))
	h.sink.Accept("forgiven@far.example")
	h.sink.Refuse("worse@far.example", 550, "the sink does not want it")
	h.queueRun(t, "-qff")
	h.wantTallies(t, "after the second attempt", wanted(true))

	p.stop(t, "TERM")
	h.run(t, "rm", "-rf", "/run/sluice-store")
	h.startSluice(t, limits)
	h.wantTallies(t, "from the log alone", wanted(true))
}

// avoidMidnight waits for it where it is near: over it a log has two names.
func avoidMidnight() {
	now := time.Now()
	midnight := time.Date(now.Year(), now.Month(), now.Day()+1, 0, 0, 0, 0, now.Location())
	if near := midnight.Sub(now); near < time.Minute {
		time.Sleep(near)
	}
}

// maillog is where rsyslogd writes, on the host.
const maillog = "/run/maillog"

// rsyslog is where .ci/root unpacks an rsyslogd.
const rsyslog = "/var/cache/sluice-test/rsyslog"

// startSyslog has an rsyslogd write what programs on the host log to maillog,
// as one of its templates has lines.
func (h *host) startSyslog(t *testing.T, template string) {
	t.Helper()
	if _, err := os.Stat(rsyslog); err != nil {
		hosttest.Missing(t, fmt.Errorf("%w: make deps unpacks it", err))
	}
	h.run(t, "sh", "-ec", ownDev)
	h.write(t, "/run/rsyslog.conf", fmt.Sprintf(`module(load="imuxsock" SysSock.Name="/run/dev/log")
mail.* action(type="omfile" file=%q template=%q)
`, maillog, template))
	libraries, err := filepath.Glob(rsyslog + "/usr/lib/*/rsyslog")
	loaders, _ := filepath.Glob(rsyslog + "/lib*/ld-linux*.so.?")
	if err != nil || len(libraries) != 1 || len(loaders) != 1 {
		t.Fatalf("what is unpacked in %s has libraries %q and loaders %q: remove it, and make deps unpacks it again", rsyslog, libraries, loaders)
	}
	h.start(t, loaders[0], "--library-path", filepath.Dir(libraries[0]), rsyslog+"/usr/sbin/rsyslogd",
		"-n", "-f", "/run/rsyslog.conf", "-i", "/run/rsyslog.pid", "-M", libraries[0])
	hosttest.Eventually(t, "there is a /dev/log", func() bool {
		_, err := os.Stat(h.path("/run/dev/log"))
		return err == nil
	})
}

// ownDev gives the host a /dev of its own, where a log can be.
const ownDev = `mkdir -p /run/dev
cd /run/dev
for device in null zero full random urandom tty; do
	: >$device
	mount --bind /dev/$device $device
done
ln -s /proc/self/fd fd
mount --rbind /run/dev /dev`
