package alert

import (
	"fmt"
	"testing"
	"time"

	"sluice/sidecar/event"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/incident"
)

// acts is what operators do by a command, in the words of the events of it.
func (d *desk) acts(kind event.Kind, domain string, attrs ...any) {
	d.Event(event.Event{Kind: kind, At: d.now, Domain: domain, Attrs: event.Attrs(attrs...)})
}

// What operators do is told where that is wanted, at once, together, out of a budget of its own, and only
// by the node on which it was done.
func TestWhatOperatorsDoIsTold(t *testing.T) {
	was := time.Local
	time.Local = time.UTC
	defer func() { time.Local = was }()
	d := newDesk(t, `[alert]
per_hour = 2
[[alert.to]]
mail = "ops@example.net"
tell_actions = true
[[alert.to]]
mail = "shop@example.net"
tell_actions = true
domains = ["shop.example"]
[[alert.to]]
exec = "/etc/sluice/page-me"
[[alert.to]]
webhook = "https://x.example/"
format = "alertmanager"
tell_actions = true
`)
	d.acts(event.Command, "", "who", "alice", "command", "lock", "scope", "a.example")
	d.step(d.now)
	d.acts(event.Stopped, "shop.example", "scope", "eve@shop.example", "who", "bob", "node", "mx1", "why", "stolen \x1b[2J")
	d.acts(event.LockRemoved, "shop.example", "lock", "max_hourly_shop.example")
	d.acts(event.Stopped, "shop.example", "scope", "eve@shop.example", "who", "sluice", "of", "shop.example") // by itself
	d.acts(event.Stopped, "shop.example", "scope", "eve@shop.example", "who", "bob", "node", "mx2")           // told there
	d.acts(event.Tripped, "shop.example")
	d.step(d.now)
	d.acts(event.Changed, "", "who", "alice", "scope", "a.example", "change", 4, "what", "hourly 500 -> 900")
	d.step(d.now)
	d.wantTold("mail", "action", "action")
	d.wantTold("mail-2", "action")
	d.wantTold("exec")
	d.opened(1, "a.example", incident.Critical) // has its own places
	d.step(d.now)
	d.wantTold("mail", "action", "action", "open mx1-1")
	d.after(time.Hour)
	var all string
	for _, n := range d.told("mail") {
		if n.State == StateAction {
			all += fmt.Sprintf("%s\n%s\n%s\n", n.ID, n.Title, n.Text)
		}
	}
	hosttest.Golden(t, "testdata/actions", all)
}
