package clean

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"sluice/sidecar"
	"sluice/sidecar/incident"
)

const hacked = "hacked@example.com"

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// good is an incident of which it is known who it was.
func good() *incident.Incident {
	return &incident.Incident{ID: incident.ID{Node: "mx1", Number: 42}, Domain: "example.com", Opened: noon.Add(-time.Hour), Severity: incident.Warning,
		Culprit: incident.Culprit{Author: hacked, Kind: "mailbox", Proof: "proven", Count: 461, Of: 487}}
}

// An incident comes from a program that talks with everybody, which may be in somebody's hands,
// and from other nodes. Root acts on nothing of it that does not look as it should.
func TestAHostileIncidentIsNotActedOn(t *testing.T) {
	if c, err := caseOf(noon, good()); err != nil || c.Author.Proof != sidecar.Proven || !c.Since.Equal(noon.Add(-2*time.Hour)) {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, spoil := range map[string]func(*incident.Incident){
		"a number that is a path":         func(i *incident.Incident) { i.Node = "../../etc" },
		"a number with a command":         func(i *incident.Incident) { i.Node = "mx1;reboot" },
		"a domain with a path":            func(i *incident.Incident) { i.Domain = "../../../etc/passwd" },
		"a domain that is an option":      func(i *incident.Incident) { i.Domain = "--all" },
		"of no domain":                    func(i *incident.Incident) { i.Domain = "" },
		"of a relay":                      func(i *incident.Incident) { i.Domain = "relay:203.0.113.9" },
		"an author with a command":        func(i *incident.Incident) { i.Culprit.Author = "$(reboot)\n@example.com" },
		"an author with a terminal's":     func(i *incident.Incident) { i.Culprit.Author = "\x1b[2J@example.com" },
		"an author from right to left":    func(i *incident.Incident) { i.Culprit.Author = "x\u202e@example.com" },
		"an author that is an option":     func(i *incident.Incident) { i.Culprit.Author = "--config=/tmp/x" },
		"a script with a path upwards":    func(i *incident.Incident) { i.Culprit.Author = "script:/home/bob/../../etc" },
		"a script of a long name":         func(i *incident.Incident) { i.Culprit.Author = "script:/" + strings.Repeat("a", 4000) },
		"an account, with all who send":   func(i *incident.Incident) { i.Culprit.Author = "account:bob" },
		"a web server, which everybody":   func(i *incident.Incident) { i.Culprit.Author = "service:www-data" },
		"the loopback":                    func(i *incident.Incident) { i.Culprit.Author = "loopback" },
		"a forwarder":                     func(i *incident.Incident) { i.Culprit.Author = "forward:info@example.com" },
		"nobody":                          func(i *incident.Incident) { i.Culprit.Author = "" },
		"who has sent the smaller part":   func(i *incident.Incident) { i.Culprit.Count = 200 },
		"opened in the future":            func(i *incident.Incident) { i.Opened = noon.Add(time.Hour) },
		"opened before all that there is": func(i *incident.Incident) { i.Opened = time.Time{} },
	} {
		i := good()
		spoil(i)
		if c, err := caseOf(noon, i); err == nil {
			t.Errorf("%s: %+v", name, c)
		}
	}
	// What it says of a proof is not believed.
	i := good()
	i.Culprit.Author = "script:/home/bob/public_html"
	if c, err := caseOf(noon, i); err != nil || c.Author.Proof == sidecar.Proven {
		t.Errorf("a script is proven: %+v, %v", c, err)
	}
}

// What the running sluice answers of somebody else than was typed is not taken for what was meant.
func TestAnIncidentOfSomebodyElseIsNotMeant(t *testing.T) {
	forward := good()
	forward.Domain = "forward:example.com"
	for which, want := range map[string]bool{"EXAMPLE.com": true, hacked: true, "boss@example.com": false, "com": false, "mx1-42": false, "": false} {
		if isOf(*forward, which) != want {
			t.Errorf("isOf %q: %v", which, !want)
		}
	}
}

// A name that a tenant has chosen is no command of another node either, whose shell reads it again.
func TestTheCommandForAnotherNode(t *testing.T) {
	const which = "script:/home/bob/x;echo $(id) 'y"
	out, err := exec.Command("sh", "-c", `ssh() { shift; sh -c "$*"; }; sluice() { printf '%s|' "$@"; }; `+
		strings.Replace(On("mx2.example", "sluice clean", which), "'sluice clean", `'sluice() { printf "%s|" "$@"; }; sluice clean`, 1)).CombinedOutput()
	if want := "clean|" + which + "|"; err != nil || string(out) != want {
		t.Errorf("%s: %q, want %q: %v", On("mx2.example", "sluice clean", which), out, want, err)
	}
	if got := On("mx2", "sluice clean", hacked); got != "ssh mx2 'sluice clean hacked@example.com'" {
		t.Error(got)
	}
	for _, node := range []string{"-oProxyCommand=reboot", "mx2;reboot", "mx2 reboot", ""} {
		if got := On(node, "sluice clean", hacked); got != "" {
			t.Errorf("%q: %s", node, got)
		}
	}
}
