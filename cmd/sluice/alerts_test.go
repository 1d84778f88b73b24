package main

import (
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// isTold has the units deliver: sluice-deliver by mail, sluice-notify by a program, as nobody in
// particular.
//
//	sluice alert test ─→ sluice ─┬→ sluice-deliver@ ─→ Exim ─→ root
//	                             └→ sluice-notify@ ─→ /etc/sluice/page-me ─→ journal
func (o *newcomer) isTold(t *testing.T) {
	o.run(t, `cp /etc/sluice/sluice.toml /etc/sluice/sluice.toml.untold
cat >/etc/sluice/page-me <<'END'
#!/bin/sh
logger -t page-me "$SLUICE_EVENT told to uid $(id -u), $(grep CapEff /proc/self/status)"
END
chmod 755 /etc/sluice/page-me
cat >>/etc/sluice/sluice.toml <<'END'
[[alert.to]]
mail = "root"
[[alert.to]]
exec = "/etc/sluice/page-me"
END
sluice config --check`)
	var out string
	hosttest.EventuallyOr(t, func() string { return "both are told: " + out }, func() bool {
		out, _ = o.try(t, "sluice alert test")
		return out == "mail (root): delivered\nexec (/etc/sluice/page-me): delivered\n"
	})
	if out := o.types(t, "sluice alert test"); strings.Count(out, ": delivered\n") != 2 {
		t.Errorf("sluice alert test:\n%s", out)
	}
	hosttest.Eventually(t, "the journal has what the program has said", func() bool {
		out = o.run(t, "journalctl -q -t page-me")
		return strings.Contains(out, "test told to uid ")
	})
	if strings.Contains(out, "told to uid 0,") || !strings.Contains(out, " 0000000000000000\n") {
		t.Errorf("the program has rights:\n%s", out)
	}
	hosttest.Eventually(t, "Exim has taken the mail from root", func() bool {
		out, _ := o.try(t, "cat /var/log/exim4/mainlog")
		return strings.Contains(out, "<= sluice@mx1.example U=root P=local")
	})
	if out := o.run(t, "sluice doctor || true"); !strings.Contains(out, "told of incidents: mail root from warning on, exec /etc/sluice/page-me from warning on") {
		t.Errorf("sluice doctor:\n%s", out)
	}
	o.run(t, "mv /etc/sluice/sluice.toml.untold /etc/sluice/sluice.toml")
}
