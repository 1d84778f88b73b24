package main

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"sluice/sidecar/deferfail"
	"sluice/sidecar/hosttest"
	"sluice/sidecar/limit"
	"sluice/sidecar/logline"
	"sluice/sidecar/operator"
	"sluice/sidecar/refusal"
)

// What status says of the log while it is caught up with, and when a part of it
// is not read or gone.
func TestStatusOfTheLog(t *testing.T) {
	at := time.Date(2026, 11, 25, 17, 45, 0, 0, time.Local)
	for want, log := range map[string]logline.Progress{
		"Catching up with /var/log/exim4/mainlog.2.gz: 40% read, up to what was logged at 2026-11-25 17:45:00 +0000; outcomes since are not counted yet.\n": {
			File: "/var/log/exim4/mainlog.2.gz", Read: 40, Size: 100, Last: at},
		"Catching up with /var/log/exim4/mainlog: 0% read; outcomes since are not counted yet.\n": {
			File: "/var/log/exim4/mainlog", Size: 100},
		"WARNING: outcomes are not counted: open the log: there is no /x. Look at exim.mainlog.\n": {
			Key: "exim.mainlog", File: "/x", Trouble: "open the log: there is no /x"},
		"WARNING: at 2026-11-25 17:45:00 +0000 a part of the log that postfix.log names was missing: outcomes in it are not counted, " +
			"nor what passed unasked. The log of sluice names the file, and says what to do.\n": {
			Key: "postfix.log", File: "/var/log/mail.log", Read: 100, Size: 100, Last: at, Lost: &at},
		"": {File: "/var/log/exim4/mainlog", Read: 100, Size: 100, Last: at},
	} {
		var b strings.Builder
		printStatus(&b, operator.Status{Node: "mx1", Totals: operator.Totals{Logs: []logline.Progress{{}, log}}})
		_, got, _ := strings.Cut(b.String(), "repeats included.\n")
		if got != want {
			t.Errorf("%+v\n got %q\nwant %q", log, got, want)
		}
	}
}

// A node with Exim's log and Postfix's shows how far each is read.
func TestStatusOfTwoLogs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	n := startServeWith(t, dir, strings.NewReplacer(`mainlog = ""`, `mainlog = "`+dir+`/mainlog"`,
		"[exim]", "[postfix]\nlog = \""+dir+"/mail.log\"\n[exim]").Replace(serveConfig(dir)))
	writeFile(t, dir+"/mail.log", "Nov 25 17:45:00 pf postfix/qmgr[1]: ready\n")
	hosttest.Eventually(t, "status shows both", func() bool {
		out, _ := n.sluice(t, "status")
		return strings.Contains(out, "there is no "+dir+"/mainlog. Look at exim.mainlog.") && !strings.Contains(out, "postfix.log")
	})
	writeFile(t, dir+"/mainlog", "2026-11-25 17:45:00 Start queue run: pid=1\n")
	hosttest.Eventually(t, "status has both as read", func() bool {
		out, _ := n.sluice(t, "status", "--json")
		var s operator.Status
		if err := json.Unmarshal([]byte(out), &s); err != nil || len(s.Totals.Logs) != 2 {
			t.Fatalf("status: %v\n%s", err, out)
		}
		mail, main := s.Totals.Logs[0], s.Totals.Logs[1]
		return mail.Key == "postfix.log" && mail.Read == 42 && main.Key == "exim.mainlog" && main.Read == 43 && main.Trouble == ""
	})
}

// What a watched domain would be tripped for is shown: in the table, in its detail, and of
// special subjects too.
func TestStatusOfWhatWouldTrip(t *testing.T) {
	at := time.Date(2026, 11, 25, 17, 45, 0, 0, time.UTC)
	would := operator.DeferfailStatus{WouldTrip: &deferfail.TripStatus{Since: at, By: "failures", Ends: at.Add(time.Hour)}}
	watch := refusal.Watch{Trips: 2, LastTrip: &at}
	s := operator.Status{Node: "mx1", Now: at,
		Domains: []operator.DomainStatus{{Domain: "a.example", Mode: limit.Watch, DeferfailStatus: would, Watch: watch, Usage: operator.Usage{Windows: []operator.Window{{}}}}},
		Scopes:  []operator.ScopeStatus{{Scope: "forward:a.example", Mode: limit.Watch, DeferfailStatus: would, Watch: watch, Windows: []operator.Window{{}}}}}
	var table, detail strings.Builder
	printStatus(&table, s)
	for _, want := range []string{"(watch: would be max_deferfail)", "(watch: would be tripped)"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &table)
		}
	}
	printDomain(&detail, s, s.Domains[0])
	printScope(&detail, s, s.Scopes[0])
	for _, want := range []string{"would trip      it would be tripped since 2026-11-25 17:45:00 +0000, mostly by failures; its mail passes\n", "would trip      2 times so far, the last at 2026-11-25 17:45:00 +0000\n"} {
		if strings.Count(detail.String(), want) != 2 {
			t.Errorf("the details have not twice %q:\n%s", want, &detail)
		}
	}
}
