package main

import (
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
	"sluice/sidecar/milter/mtatest"
)

// redisThere is a Redis on an address that is not the loopback's, as another host's.
const redisThere = `
DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends redis-server >/dev/null
systemctl disable -q --now redis-server
ip addr add 10.9.0.1/32 dev lo
systemd-run -q --unit=redis-there redis-server --bind 10.9.0.1 --protected-mode no --save ''
`

// sharesARedis follows docs/cluster.md on the shipped units: they deny all addresses, until
// its drop-in allows that of Redis. Whatever keeps Redis from being reached is told.
//
//	sluice.service (IPAddressDeny=any) ─╳→ 10.9.0.1 redis-server
func (o *newcomer) sharesARedis(t *testing.T) {
	const page, before = "../../docs/cluster.md", "/etc/sluice/sluice.toml.before"
	o.run(t, redisThere)
	store := strings.NewReplacer("redis.example", "10.9.0.1", "nodes = 3", "nodes = 1").Replace(mtatest.Snippet(t, page, "toml"))
	o.run(t, "cp /etc/sluice/sluice.toml "+before+"\nsed -i '/^\\[store\\]$/d' /etc/sluice/sluice.toml\ncat >>/etc/sluice/sluice.toml <<'END'\n"+store+"END\nsluice config --check\nsystemctl restart sluice")
	for command, want := range map[string]string{
		"journalctl -q -b -u sluice SLUICE_EVENT=redis-away": "IPAddressDeny of its systemd unit",
		"sluice status": "IPAddressDeny of its systemd unit",
		"sluice doctor": "allow those of Redis: `systemctl edit sluice`",
	} {
		hosttest.EventuallyOr(t, func() string { return command + " says why:\n" + o.all(t, command) },
			func() bool { return strings.Contains(o.all(t, command), want) })
	}
	dropIn := mtatest.Snippet(t, page, "sh")
	allowed := strings.Replace(dropIn, "IPAddressAllow=192.0.2.10 192.0.2.11 2001:db8::/64", "IPAddressAllow=10.9.0.1", 1)
	if allowed == dropIn {
		t.Fatalf("the drop-in of the page is another one:\n%s", dropIn)
	}
	o.run(t, allowed)
	hosttest.EventuallyOr(t, func() string { return "Redis decides:\n" + o.all(t, "sluice status") },
		func() bool { return strings.Contains(o.all(t, "sluice status --json"), `"mode": "shared"`) })
	if out := o.all(t, "sluice doctor"); !strings.Contains(out, "ok     Redis 10.9.0.1:6379: ") {
		t.Errorf("doctor:\n%s", out)
	}
	o.run(t, "systemctl stop redis-there\nmv "+before+" /etc/sluice/sluice.toml\nsystemctl restart sluice")
}

// all is what a command prints, whatever its exit code.
func (o *newcomer) all(t *testing.T, command string) string {
	t.Helper()
	out, _ := o.try(t, command)
	return out
}
