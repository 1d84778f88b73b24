package web

import (
	"fmt"
	"strings"
	"time"

	"sluice/sidecar/operator"
	"sluice/sidecar/printable"
)

// A part is something that a node needs to be ready.
type part struct {
	Name    string
	State   string // in words
	Trouble string // why it is not ready; empty if it is
}

// farBehind is from how many bytes of unread log on a node is not ready: what became of the
// mail of about an hour of a busy server is not known.
const farBehind = 16 << 20

// parts are all parts of a node.
func (m *Metrics) parts(now time.Time, of *operator.Measures) []part {
	return []part{store(of), logs(of), m.asking(now)}
}

func store(of *operator.Measures) part {
	p := part{Name: "store", State: "what is answered is on disk"}
	if of.Journal != "ok" {
		p.Trouble = "what is answered would not survive a crash: " + of.Journal
	}
	if of.Shared == nil || of.Shared.Mode == "shared" {
		return p
	}
	p.State += "; Redis does not answer, and this node decides alone (store.outage = \"" + of.Shared.Mode + "\")"
	if of.Shared.Mode == "closed" && p.Trouble == "" {
		p.Trouble = "Redis does not answer, and until then all mail gets 450 (store.outage = \"closed\")"
	}
	return p
}

func logs(of *operator.Measures) part {
	p := part{Name: "log", State: "none is followed (exim.mainlog, postfix.log)"}
	var states, troubles []string
	for _, l := range of.Logs {
		behind := max(0, l.Size-l.Read)
		switch states = append(states, fmt.Sprintf("%s is read, but for %d bytes", l.Key, behind)); {
		case l.Trouble != "":
			troubles = append(troubles, l.Key+": "+l.Trouble)
		case behind > farBehind:
			troubles = append(troubles, fmt.Sprintf("%s: %d bytes of %s are not read yet", l.Key, behind, l.File))
		}
	}
	if len(states) > 0 {
		p.State, p.Trouble = strings.Join(states, "; "), strings.Join(troubles, "; ")
	}
	return p
}

// asking is whether a mail server asks.
func (m *Metrics) asking(now time.Time) part {
	if last := m.asked.Load(); last != 0 {
		return part{Name: "asked", State: "a mail server has asked last at " + printable.DateTime(time.Unix(last, 0))}
	}
	return part{Name: "asked", Trouble: fmt.Sprintf("no mail server has asked since sluice has started at %s, %s ago: `sluice doctor` has Exim ask, and says why it does not",
		printable.DateTime(m.options.Now), printable.Brief(now.Sub(m.options.Now)))}
}

// readiness is the text of /readyz, and whether all parts are ready.
func readiness(parts []part) (text string, ready bool) {
	ready = true
	var b strings.Builder
	for _, p := range parts {
		if p.Trouble == "" {
			fmt.Fprintf(&b, "%-6s ok: %s\n", p.Name, p.State)
			continue
		}
		ready = false
		fmt.Fprintf(&b, "%-6s not ready: %s\n", p.Name, p.Trouble)
	}
	if ready {
		return "ready\n" + b.String(), true
	}
	return "not ready\n" + b.String(), false
}
