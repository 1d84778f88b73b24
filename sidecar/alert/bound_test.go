package alert

import (
	"fmt"
	"testing"
	"time"

	"sluice/sidecar/incident"
)

// What changes soon after it was told waits, for two culprits may take turns; only what becomes
// critical does not.
func TestChangesWait(t *testing.T) {
	for _, severity := range []incident.Severity{incident.Warning, incident.Critical} {
		d := newDesk(t, anyone)
		i := d.opened(1, "a.example", severity)
		if d.step(d.now); severity == incident.Warning {
			d.after(30 * time.Second)
		}
		d.wantTold("mail", "open mx1-1")
		d.changes(i, func(i *incident.Incident) { i.Culprit.Author = "eve@a.example" })
		d.after(29 * time.Second)
		d.wantTold("mail", "open mx1-1")
		d.after(time.Second)
		d.wantTold("mail", "open mx1-1", "changed mx1-1")
	}
	d := newDesk(t, anyone)
	i := d.opened(1, "a.example", incident.Warning)
	d.after(30 * time.Second)
	d.changes(i, func(i *incident.Incident) { i.Severity = incident.Critical })
	d.step(d.now)
	d.wantTold("mail", "open mx1-1", "changed mx1-1")
}

// However many accounts and domains there are, a channel has 20 notices an hour and one digest.
func TestAFloodOfAccountsAndDomains(t *testing.T) {
	d := newDesk(t, anyone)
	for n := range int64(60) {
		domain := fmt.Sprintf("d%d.example", n)
		if n < 20 {
			d.accounts[domain] = fmt.Sprintf("hog%d", n%2)
		}
		d.opened(n, domain, incident.Warning)
		if n == 19 {
			d.after(2 * time.Minute)
		}
	}
	d.after(50 * time.Minute)
	if now := len(d.told("mail")); now != 21 {
		t.Errorf("told %d times in an hour", now)
	}
}

// The end of what is critical is not: it takes no place from what is.
func TestEndsTakeNoPlaceFromAlarms(t *testing.T) {
	d := newDesk(t, anyone+"[alert]\nper_hour = 2\n")
	one := d.opened(1, "a.example", incident.Critical)
	d.step(d.now)
	d.closes(one)
	d.step(d.now)
	d.opened(2, "b.example", incident.Critical)
	d.step(d.now)
	d.wantTold("mail", "open mx1-1", "closed mx1-1", "open mx1-2")
}

// A digest of one thing is that thing.
func TestADigestOfOne(t *testing.T) {
	d := newDesk(t, anyone+"[alert]\nper_hour = 1\n")
	d.opened(1, "a.example", incident.Warning)
	d.opened(2, "b.example", incident.Warning)
	d.after(29 * time.Second)
	d.wantTold("mail")
	d.after(31 * time.Second)
	d.wantTold("mail", "open mx1-1", "open mx1-2")
}

// News that comes late changes nothing.
func TestNewsThatComesLate(t *testing.T) {
	d := newDesk(t, anyone)
	i := d.opened(1, "a.example", incident.Critical)
	d.step(d.now)
	old := *i
	d.closes(i)
	d.Changed(old)
	d.step(d.now)
	d.wantTold("mail", "open mx1-1", "closed mx1-1")
}
