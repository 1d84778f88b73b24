package eximconfig_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sluice/sidecar/hosttest"
)

// What guides tell to type, and what does the same here, on the same log and queue:
//
//	news@ ─→ AUTH ──────────────┐                     ┌─→ exigrep, grep, exim -bpc, exiqgrep
//	alice's script ─→ sendmail ─┼─→ Exim ─→ log, queue ┤
//	sink: 250, 451 ←────────────┘                     └─→ sluice log, sluice queue

// A guided is a row of docs/operate.md in which both commands print the same.
type guided struct{ hand, ours, same string }

var (
	tableRow  = regexp.MustCompile(`(?m)^\| (.*) \| (.*) \| (\w*) ?\|$`)
	command   = regexp.MustCompile("^`(.*?)`")
	messageID = regexp.MustCompile(`\b[0-9A-Za-z]{6}-[0-9A-Za-z]{6,11}-[0-9A-Za-z]{2,4}\b`)
)

// guidedRows are those of docs/operate.md, with the names of this host.
func guidedRows(t *testing.T) (rows []guided) {
	t.Helper()
	text, err := os.ReadFile("../docs/operate.md")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.NewReplacer(`\|`, "|", "/var/log/exim_mainlog", "/var/log/exim4/mainlog", "example.com", "here.example",
		"/home/bob", "/run/home/alice", "exim -", "exim4 -")
	for _, m := range tableRow.FindAllStringSubmatch(string(text), -1) {
		hand, ours := command.FindStringSubmatch(m[1]), command.FindStringSubmatch(m[2])
		if m[3] != "" && hand != nil && ours != nil {
			rows = append(rows, guided{names.Replace(hand[1]), names.Replace(ours[1]), m[3]})
		}
	}
	return rows
}

// printed is what both commands of a row are to print: a number of lines or messages, or ids.
func (g guided) printed(t *testing.T, hand, ours string) (want, got string) {
	t.Helper()
	if g.same == "ids" {
		sorted := func(text string) string {
			all := messageID.FindAllString(text, -1)
			slices.Sort(all)
			return strings.Join(slices.Compact(all), " ")
		}
		return sorted(hand), sorted(ours)
	}
	number := regexp.MustCompile(`(\d+) ` + strings.TrimSuffix(g.same, "s")).FindStringSubmatch(ours)
	if number == nil {
		t.Fatalf("%s prints no number of %s: %s", g.ours, g.same, ours)
	}
	return strings.TrimSpace(hand), number[1]
}

func TestTheGuidesCommands(t *testing.T) {
	t.Parallel()
	h := newForwardingHost(t)
	h.addMacros(t, "MAIN_LOG_SELECTOR = +arguments")
	h.startExim(t)
	h.sink.Refuse("later@far.example", 451, "later")
	c := h.dial(t).Login("news@here.example")
	c.Want(c.Send("news@here.example", hosttest.Letter("x"), "a1@far.example"), 250)
	c.Want(c.Send("news@here.example", hosttest.Letter("x"), "later@far.example"), 250)
	if out, code := h.sendmail(t, alice, "public_html/wp", hosttest.Letter("x"), "-oi", "-f", "shop@here.example", "b1@far.example"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	hosttest.Eventually(t, "all are delivered or deferred", func() bool {
		return strings.Count(h.mainlog(), " => ") == 2 && strings.Contains(h.mainlog(), " == later@far.example")
	})
	if out, code := h.root().try(t, hosttest.Letter("x"), "exim4", "-odq", "-oi", "-f", "other@else.example", "c1@far.example"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	h.run(t, "exim4", "-Mf", h.queue()[0])

	hosttest.Eventually(t, "sluice, which looks into the spool every second at most, knows of it", func() bool {
		_, code := h.try(t, h.sluice(t, "queue", "--frozen")...)
		return code == 0
	})

	rows := guidedRows(t)
	for _, row := range rows {
		hand, _ := h.try(t, "sh", "-c", row.hand)
		ours, code := h.try(t, "sh", "-c", strings.Replace(row.ours, "sluice", strings.Join(h.sluice(t), " "), 1))
		want, got := row.printed(t, hand, ours)
		if code != 0 || got != want {
			t.Errorf("%s: %s\n%s: %s\nexit %d: %s", row.hand, want, row.ours, got, code, ours)
		}
		if want == "" || want == "0" {
			t.Errorf("%s finds nothing, and so shows nothing: %s", row.hand, hand)
		}
	}
	if len(rows) < 11 {
		t.Errorf("only %d rows are compared: %q", len(rows), rows)
	}
}
