package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/hosttest"
)

// The last chapters of TestReadme: what happens to sluice, and its end.

// reboots shows what is enabled, and that /run is furnished before sluice is there.
func (o *newcomer) reboots(t *testing.T) {
	before := o.status(t, "example.com")
	o.reboot(t)
	if after := o.status(t, "example.com"); after.Sent != before.Sent || after.Sent == 0 {
		t.Errorf("%d were counted before the boot, %d after it", before.Sent, after.Sent)
	}
	o.run(t, "systemctl is-active sluice sluice.socket sluice-deliver.socket exim4")
	o.listens(t, "2525")
	o.passes(t)
	o.delivers(t, "example.com", before.Delivered+1)
}

// hangs shows the watchdog: it is content while sluice answers, and restarts it
// when it hangs. Mail flows all the while.
func (o *newcomer) hangs(t *testing.T) {
	pinged := o.property(t, "WatchdogTimestampMonotonic")
	hosttest.Eventually(t, "the watchdog is pinged", func() bool { return o.property(t, "WatchdogTimestampMonotonic") != pinged })
	if n := o.number(t, "NRestarts"); n != 0 {
		t.Fatalf("sluice was restarted %d times although it answers", n)
	}
	before := o.status(t, "example.com").Sent
	start := time.Now()
	o.run(t, "systemctl kill --kill-whom=main -s STOP sluice")
	o.passes(t)
	o.restarted(t, 1)
	t.Logf("restarted %v after it hung", time.Since(start).Round(100*time.Millisecond))
	if !strings.Contains(o.run(t, "journalctl --no-pager -u sluice"), "Watchdog timeout") {
		t.Error("the journal does not say why")
	}
	// What passed without an answer is charged from the log.
	hosttest.Eventually(t, "nothing is forgotten", func() bool { return o.status(t, "example.com").Sent == before+1 })
	o.run(t, "systemctl kill --kill-whom=main -s KILL sluice")
	o.restarted(t, 2)
	o.meanwhile(t, func() {})
}

// restarted waits until systemd has restarted sluice by itself so many times.
func (o *newcomer) restarted(t *testing.T, times int) {
	t.Helper()
	hosttest.Eventually(t, fmt.Sprintf("restart %d", times), func() bool {
		return o.number(t, "NRestarts") == times && o.property(t, "ActiveState") == "active"
	})
}

// stops shows that mail flows without sluice, and that lock files still hold.
func (o *newcomer) stops(t *testing.T) {
	o.types(t, "systemctl stop sluice.socket sluice")
	o.passes(t)
	o.run(t, "touch /var/cpanel/email_send_limits/max_hourly_example.com")
	o.refused(t, "Domain example.com is locked.")
	o.run(t, "systemctl start sluice && sluice unlock example.com")
	o.passes(t)
	o.meanwhile(t, func() {})
}

// removes shows that nothing of Sluice is left, and that what it held is delivered.
func (o *newcomer) removes(t *testing.T) {
	o.run(t, "sluice lock example.com")
	o.refused(t, "Domain example.com is locked.")
	o.run(t, "printf 'Subject: hello\\n\\nhello\\n' | sendmail -f shop@example.com last-held@far.example")
	hosttest.Eventually(t, "mail of a script is held", func() bool { return o.status(t, "example.com").Held == 1 })
	o.run(t, o.block(t, "sluice exim remove\n"))
	hosttest.Eventually(t, "Exim asks no more", func() bool {
		return o.mail(t, "secret", "news@example.com", "last@far.example") == nil
	})
	o.run(t, "exim4 -q")
	hosttest.Eventually(t, "what was held is delivered", func() bool {
		_, code := o.try(t, "grep -q '=> last-held@far.example' /var/log/exim4/mainlog")
		return code == 0
	})
	left := "find /usr/local /etc /run /var/lib /usr/lib/tmpfiles.d -iname '*sluice*'\nsystemctl list-unit-files --no-legend 'sluice*' || true\nexim4 -bP macros | grep -i sluice || true"
	if out := o.run(t, left); out != "" {
		t.Errorf("left is\n%s", out)
	}
}
